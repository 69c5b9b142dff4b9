/**
 * Polls each engine's metrics and model list. Adapter: knows no capability, decides nothing; the age of what it read
 * travels with it.
 *
 * Each endpoint is polled at the interval with its own phase, never twice at once; a slow engine delays only itself.
 */
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import type { Cancel, Clock, EngineClient, Metrics, Random, Timers } from "../ports.ts";
import { parseMetricsPage } from "./metrics-page.ts";
import { readServerInfo, SERVER_INFO_PATHS } from "./server-info.ts";

export interface ScrapeOptions {
  readonly endpoints: () => readonly Target[];
  readonly client: EngineClient;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Called when an endpoint's models or capacity changed. */
  readonly onChange?: () => void;
}

/** All that scraping needs of an endpoint. */
export interface Target extends Pick<Endpoint, "id" | "address" | "bootId"> {
  /** It may say where it publishes KV events, and nobody else has. */
  readonly asksEvents?: boolean;
}

export interface Scraped {
  readonly stats: EngineStats | undefined;
  /** Where it says that it publishes KV events; null: it was asked, and does not. */
  readonly events?: NonNullable<Endpoint["events"]> | null | undefined;
  /** Names that `/v1/models` listed. */
  readonly models: readonly string[];
}

export interface Scraper {
  readonly of: (endpoint: string) => Scraped;
  /** Polls everything now; resolves when all answered or were late. */
  readonly pollNow: () => Promise<void>;
  readonly stop: () => void;
}

/** Model lists change rarely: they are read every so many polls. */
const MODELS_EVERY = 10;
const MAX_MODELS = 1000;

/** The same object every time: readers compare. */
export const NOTHING: Scraped = { stats: undefined, models: [] };

interface Entry {
  address: string;
  bootId: string;
  stats: EngineStats | undefined;
  models: readonly string[];
  readonly asksEvents: boolean;
  events?: Scraped["events"];
  polls: number;
  busy: boolean;
}

export function startScraper(options: ScrapeOptions): Scraper {
  const entries = new Map<string, Entry>();
  const pending = new Set<Cancel>();
  const round = (): void => {
    sync(entries, options.endpoints());
    for (const entry of entries.values()) later(options, pending, () => void poll(entry, options));
  };
  const cancel = options.timers.every(options.intervalMs, round);
  return {
    of: (endpoint) => entries.get(endpoint) ?? NOTHING,
    pollNow: async () => {
      sync(entries, options.endpoints());
      await Promise.all([...entries.values()].map((entry) => poll(entry, options)));
    },
    stop: () => {
      cancel();
      for (const each of pending) each();
    },
  };
}

/** Spreads the polls of a round over its interval, so that engines and we are not hit in bursts. */
function later(options: ScrapeOptions, pending: Set<Cancel>, task: () => void): void {
  const cancel = options.timers.after(options.random.next() * options.intervalMs, () => {
    pending.delete(cancel);
    task();
  });
  pending.add(cancel);
}

function sync(entries: Map<string, Entry>, endpoints: ReturnType<ScrapeOptions["endpoints"]>): void {
  const present = new Set(endpoints.map(({ id }) => id));
  for (const id of entries.keys()) if (!present.has(id)) entries.delete(id);
  for (const { id, address, bootId, asksEvents = false } of endpoints) {
    const known = entries.get(id);
    if (known?.bootId === bootId && known.address === address) continue;
    const models = known?.models ?? [];
    entries.set(id, { address, bootId, asksEvents, stats: undefined, models, polls: 0, busy: false });
  }
}

async function poll(entry: Entry, options: ScrapeOptions): Promise<void> {
  if (entry.busy) return;
  entry.busy = true;
  const wantsModels = entry.models.length === 0 || entry.polls % MODELS_EVERY === 0;
  entry.polls += 1;
  const before = shapeOf(entry);
  const [stats, models] = await Promise.all([
    readStats(entry.address, options),
    wantsModels ? readModels(entry.address, options) : entry.models,
  ]);
  entry.stats = stats ?? entry.stats;
  entry.models = models ?? entry.models;
  if (wantsModels) await readEvents(entry, options);
  entry.busy = false;
  if (before !== shapeOf(entry)) options.onChange?.();
}

/** What changes seldom. */
const shapeOf = ({ stats, models }: Entry): string => `${String(stats?.blocks)} ${models.join()}`;

/** Once for each engine process, as soon as it answers. */
async function readEvents(entry: Entry, { client, timeoutMs }: ScrapeOptions): Promise<void> {
  if (!entry.asksEvents || entry.events !== undefined) return;
  for (const path of SERVER_INFO_PATHS) {
    const reply = await client.send({ address: entry.address, method: "GET", path, timeoutMs });
    if (reply.kind !== "answer") return;
    if (reply.status === 200) {
      entry.events = readServerInfo(Buffer.from(reply.body).toString("utf8")) ?? null;
      return;
    }
  }
  entry.events = null;
}

async function get(address: string, path: string, options: ScrapeOptions): Promise<string | undefined> {
  const reply = await options.client.send({ address, method: "GET", path, timeoutMs: options.timeoutMs });
  if (reply.kind === "answer" && reply.status === 200) return Buffer.from(reply.body).toString("utf8");
  options.metrics.count("tandem_scrape_failures_total");
  return undefined;
}

async function readStats(address: string, options: ScrapeOptions): Promise<EngineStats | undefined> {
  const page = await get(address, "/metrics", options);
  return page === undefined ? undefined : parseMetricsPage(page, options.clock.monotonic());
}

async function readModels(address: string, options: ScrapeOptions): Promise<readonly string[] | undefined> {
  const text = await get(address, "/v1/models", options);
  return text === undefined ? undefined : modelNames(text);
}

/** `{"data":[{"id":"..."}]}` */
function modelNames(text: string): readonly string[] | undefined {
  try {
    const value = JSON.parse(text) as { data?: { id?: unknown }[] } | null;
    const names = (Array.isArray(value?.data) ? value.data : []).map(({ id }) => id);
    return names.filter((id): id is string => typeof id === "string").slice(0, MAX_MODELS);
  } catch {
    return undefined;
  }
}
