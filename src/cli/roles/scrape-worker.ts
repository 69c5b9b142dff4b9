/** Entry of the scraping thread: its ports, and the scraper behind them. */
import { workerData } from "node:worker_threads";
import { serveScrapes } from "../../endpoints/worker.ts";
import { createEngineClient, type EngineAccess } from "../../router/disagg/client.ts";
import { clockOf, systemRandom, systemTimers } from "../../telemetry/process.ts";
import { createRelay } from "../../telemetry/relay.ts";
import type { ScrapeData } from "./scraping.ts";
import { threadPort } from "./threads.ts";

const { mark, intervalMs, timeoutMs, access } = workerData as ScrapeData;
const client = createEngineClient(access);
serveScrapes(threadPort(), {
  ...{
    intervalMs,
    timeoutMs,
    clock: clockOf(mark),
    timers: systemTimers,
    random: systemRandom,
    metrics: createRelay(),
  },
  client: { send: (request) => client.send(request), use: (next) => client.use(next as EngineAccess) },
});
