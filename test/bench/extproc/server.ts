/**
 * Tandem's side of the ext_proc benchmark, in a process of its own: `node server.ts SETTING` (a JSON object). Prints
 * `{"address":"..."}` once it serves. From SIGUSR2 on, prefill work expires with time; before, picks depend on the order
 * of requests alone.
 */
import type { Timers } from "../../../src/ports.ts";
import type { Forward, RequestRouter, Ticket } from "../../../src/router/exchange.ts";
import { startExtProcServer } from "../../../src/router/extproc/server.ts";
import { createLog } from "../../../src/telemetry/log.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import { systemClock, systemRandom, systemTimers } from "../../../src/telemetry/process.ts";
import { HEADER } from "../../../src/kinds/names.ts";
import { addressOf } from "./content.ts";
import { benchConfig, createWorld } from "./world.ts";
import type { Setting } from "./setting.ts";

const setting = JSON.parse(process.argv[2] ?? "{}") as Setting;
const TIDY_MS = 1000;
const log = createLog("warn");
const metrics = createMetrics();

let expiring = false;
process.on("SIGUSR2", () => (expiring = true));
const never = (): undefined => undefined;
const timers: Timers = { ...systemTimers, after: (ms, task) => (expiring ? systemTimers.after(ms, task) : never) };

/** Of `echo`: the protocol alone, and every request to the first endpoint. */
function echoRouter({ router }: { router: RequestRouter }): RequestRouter {
  const ticket: Ticket = { served: never, responseStarted: never, firstToken: never, usage: never, finish: never };
  const destination = addressOf(0);
  return {
    ...router,
    begin: ({ body }) => {
      const requestHeaders = [
        [HEADER.destination, destination],
        [HEADER.requestId, systemRandom.id()],
      ] as const;
      const routed: Forward = { kind: "forward", destination, requestHeaders, responseHeaders: [], body };
      return { ticket, routed: Promise.resolve(routed) };
    },
  };
}

const echo = setting.work === "echo";
const world = createWorld(echo ? { ...setting, blocks: 1 } : setting, { timers, metrics, log });
const { maxStreams, maxBufferedBytes } = benchConfig(setting);
const server = await startExtProcServer(
  { host: "127.0.0.1", port: 0 },
  {
    router: echo ? echoRouter(world) : world.router,
    maxStreams,
    maxBufferedBytes,
    clock: systemClock,
    timers,
    log,
    metrics,
  },
);
const untidy = systemTimers.every(TIDY_MS, () => world.tidy());
process.once("SIGTERM", () => {
  untidy();
  void server.stop(0).then(() => process.exit(0));
});
console.log(JSON.stringify({ address: server.address }));
