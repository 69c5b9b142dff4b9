/** Entry of a tokenizing thread: the library, the files, and the worker behind them. */
import { workerData } from "node:worker_threads";
import { serveTokens } from "../../router/tokenize/worker.ts";
import { clockOf, systemTimers } from "../../telemetry/process.ts";
import { threadPort } from "./threads.ts";
import { loadModel, openTokenizers, versionOf } from "./token-library.ts";
import type { TokenizeData } from "./tokenizing.ts";

const { mark, models, cacheBytes } = workerData as TokenizeData;
const port = threadPort();
const library = await openTokenizers().catch((error: unknown) => error as Error);
serveTokens(port, {
  ...{ models, cacheBytes, versionOf },
  load: (path) => {
    if (library instanceof Error) throw new Error(`the package tokenizers is not to be had: ${library.message}`);
    return loadModel(path, library);
  },
  clock: clockOf(mark),
  timers: systemTimers,
});
