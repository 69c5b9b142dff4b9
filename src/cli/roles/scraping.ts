/** The scraping thread, beside the one that serves: `src/endpoints/worker.ts` says what each thread does. */
import { remoteScraper, type RemoteScraper } from "../../endpoints/remote.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { EngineAccess } from "../../router/disagg/client.ts";
import { markClock, type ClockMark } from "../../telemetry/process.ts";
import { retell } from "../../telemetry/relay.ts";
import type { RolePorts } from "./ports.ts";
import { startThread } from "./threads.ts";

/** What the thread is born with. */
export interface ScrapeData {
  readonly mark: ClockMark;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly access: EngineAccess;
}

/** From source by type stripping, or beside the bundle (scripts/build.ts). */
const ENTRY = new URL(import.meta.url.endsWith(".ts") ? "./scrape-worker.ts" : "./scrape-worker.js", import.meta.url);

export interface ScrapeTimes {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export function startScraping(
  ports: RolePorts,
  endpoints: () => readonly Endpoint[],
  first: EngineAccess,
  { intervalMs, timeoutMs }: ScrapeTimes,
): RemoteScraper {
  const { timers, metrics } = ports;
  const data = (): ScrapeData => ({ mark: markClock(), intervalMs, timeoutMs, access: first });
  return remoteScraper({
    ...{ endpoints, timers, metrics, retell },
    thread: (listener) => startThread({ name: "scrape", entry: ENTRY, data, ...listener }, ports),
  });
}
