/**
 * Scraping on a thread of its own. The router's threads:
 *
 * - serving: ext_proc, picks, the prefill leg; the one writer of the table of routing history;
 * - scraping (this): polls every engine, reads its page, sends what changed ten times a second;
 * - a thread for each further source that costs time by the byte (engine events, tokenization): each is the one writer of
 *   a table of its own in shared memory, which the serving thread reads beside the first.
 *
 * A page of a few megabytes takes tens of milliseconds to read: here it delays other pages, never a stream. Decides
 * nothing; knows engines by address alone.
 */
import type { Clock, EngineClient, MetricLabels, Metrics, Random, ThreadPort, Timers } from "../ports.ts";
import { changesOf, type FromScraper, type Target, type ToScraper } from "./messages.ts";
import { startScraper, type Scraped, type ScrapeOptions } from "./scrape.ts";

export interface ScrapeWorkerOptions extends Pick<ScrapeOptions, "intervalMs" | "timeoutMs"> {
  readonly client: EngineClient & { use(access: unknown): void };
  /** Counts as the serving thread's does: the age of what was read is told there. */
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: Metrics & { take(): readonly (readonly [string, string, number, MetricLabels])[] };
}

/** Readers build their lists anew with each message. */
const SEND_MS = 100;

/** Scrapes what the other side names, until the thread ends. */
export function serveScrapes(port: ThreadPort, options: ScrapeWorkerOptions): void {
  const { metrics, timers, client } = options;
  let version = 0;
  let targets: readonly Target[] = [];
  const sent = new Map<string, Scraped>();
  const scraper = startScraper({ ...options, endpoints: () => targets });
  const send = (polled: readonly number[]): void => {
    const changes = changesOf(targets, scraper.of, sent);
    const message: FromScraper = { version, ...changes, told: metrics.take(), polled };
    port.post(message, [changes.stats.buffer as ArrayBuffer]);
  };
  port.onMessage((message) => {
    const said = message as ToScraper;
    if (said.kind === "targets") {
      [version, targets] = [said.version, said.targets];
      forget(sent, targets);
    } else if (said.kind === "access") client.use(said.access);
    else void scraper.pollNow().then(() => send([said.call]));
  });
  // Sent even if nothing changed: who hears nothing takes the thread for dead.
  timers.every(SEND_MS, () => send([]));
}

/** Of another incarnation everything is news. */
function forget(sent: Map<string, Scraped>, targets: readonly Target[]): void {
  const present = new Set(targets.map(({ id }) => id));
  for (const id of sent.keys()) if (!present.has(id)) sent.delete(id);
}
