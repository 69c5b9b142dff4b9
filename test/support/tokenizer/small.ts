/** The small tokenizer of the tests, and jobs for it. */
import { loadModel, openTokenizers } from "../../../src/cli/roles/token-library.ts";
import type { EngineDialect } from "../../../src/router/tokenize/chat.ts";
import type { Job, Shape } from "../../../src/router/tokenize/job.ts";
import { ModelTokenizer, type ModelFiles } from "../../../src/router/tokenize/model.ts";
import { createPieceCache, type PieceCache } from "../../../src/router/tokenize/segments.ts";

export const SMALL = import.meta.dirname;

export const smallFiles = async (): Promise<ModelFiles> => loadModel(SMALL, await openTokenizers());

export const smallModel = async (cache: PieceCache = createPieceCache(10_000_000)): Promise<ModelTokenizer> =>
  ModelTokenizer.of("small", await smallFiles(), cache);

export const jobWith = (body: object, shape: Shape = "chat", dialect: EngineDialect = "vllm", scope = ""): Job => ({
  ...{ shape, dialect, scope },
  members: Object.entries(body).map(([key, value]) => [key, Buffer.from(JSON.stringify(value))] as const),
});
