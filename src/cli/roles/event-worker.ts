/** Entry of the thread that follows KV events: its ports, and the worker behind them. */
import { workerData } from "node:worker_threads";
import { serveEvents } from "../../router/kv/events/worker.ts";
import { clockOf, systemRandom, systemTimers } from "../../telemetry/process.ts";
import { createRelay } from "../../telemetry/relay.ts";
import type { EventData } from "./following.ts";
import { threadPort } from "./threads.ts";

const { mark, ...data } = workerData as EventData;
serveEvents(threadPort(), {
  ...data,
  ...{ clock: clockOf(mark), timers: systemTimers, random: systemRandom, metrics: createRelay() },
});
