/**
 * The scraper as the serving thread sees it: the newest that the scraping thread sent. Keeps, never asks: while that
 * thread is down, what was read grows old, as its readers see by its time.
 */
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import type { Metrics, Thread, Timers } from "../ports.ts";
import { unpackStats, type FromScraper, type Target, type ToScraper } from "./messages.ts";
import { NOTHING, type Scraped, type Scraper } from "./scrape.ts";

export interface RemoteScraper extends Scraper {
  /** How engines are reached from now on. */
  use(access: unknown): void;
}

/** What the thread says arrives at `heard`; `restarted` is to be called when it was started again: it knows nothing. */
export interface RemoteListener {
  readonly restarted: () => void;
  readonly heard: (message: unknown) => void;
}

export interface RemoteOptions {
  readonly endpoints: () => readonly Endpoint[];
  readonly thread: (listener: RemoteListener) => Thread;
  readonly timers: Timers;
  readonly metrics: Metrics;
  /** Metrics of the thread go into the registry. */
  readonly retell: (told: never, metrics: Metrics) => void;
}

/** New endpoints are polled after this long at most, and their phase in the interval. */
const LOOK_MS = 100;

export function remoteScraper(options: RemoteOptions): RemoteScraper {
  return new Remote(options);
}

interface Entry extends Scraped {
  stats: EngineStats | undefined;
  models: readonly string[];
  events?: Scraped["events"];
  bootId: string;
}

class Remote implements RemoteScraper {
  readonly #options: RemoteOptions;
  readonly #thread: Thread;
  readonly #entries = new Map<string, Entry>();
  readonly #waiting = new Map<number, () => void>();
  readonly #cancel: () => void;
  #source: readonly Endpoint[] = [];
  #targets = new Map<string, Target>();
  /** Lists by version, until the thread was heard to use a newer one: rows count by them. */
  readonly #lists = new Map<number, readonly Target[]>();
  #version = 0;
  #calls = 0;
  #access: unknown;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#thread = options.thread({
      restarted: () => this.#tell(),
      heard: (message) => this.#heard(message as FromScraper),
    });
    this.#look();
    this.#cancel = options.timers.every(LOOK_MS, () => this.#look());
  }

  readonly of = (endpoint: string): Scraped => this.#entries.get(endpoint) ?? NOTHING;

  readonly pollNow = async (): Promise<void> => {
    this.#look();
    const call = ++this.#calls;
    const done = new Promise<void>((resolve) => this.#waiting.set(call, resolve));
    this.#post({ kind: "poll", call });
    await done;
  };

  readonly stop = (): void => {
    this.#cancel();
    this.#thread.stop();
    for (const done of this.#waiting.values()) done();
  };

  use(access: unknown): void {
    this.#access = access;
    this.#post({ kind: "access", access });
  }

  #post(message: ToScraper): void {
    this.#thread.post(message);
  }

  #look(): void {
    const endpoints = this.#options.endpoints();
    if (endpoints === this.#source) return;
    this.#source = endpoints;
    const targets = endpoints.map(targetOf);
    this.#targets = new Map(targets.map((target) => [target.id, target]));
    this.#version += 1;
    this.#lists.set(this.#version, targets);
    this.#keep();
    this.#post({ kind: "targets", version: this.#version, targets });
  }

  /** A new engine behind an endpoint has other stats, and most likely the same models. */
  #keep(): void {
    for (const [id, entry] of this.#entries) {
      const target = this.#targets.get(id);
      if (target === undefined) this.#entries.delete(id);
      else if (target.bootId !== entry.bootId)
        Object.assign(entry, { stats: undefined, events: undefined, bootId: target.bootId });
    }
  }

  /** Everything, to a thread that knows nothing. */
  #tell(): void {
    if (this.#access !== undefined) this.use(this.#access);
    this.#post({ kind: "targets", version: this.#version, targets: [...this.#targets.values()] });
    for (const call of this.#waiting.keys()) this.#post({ kind: "poll", call });
  }

  #heard({ version, stats, models, events, told, polled }: FromScraper): void {
    this.#options.retell(told as never, this.#options.metrics);
    const list = this.#lists.get(version) ?? [];
    for (const old of this.#lists.keys()) if (old < version) this.#lists.delete(old);
    for (const [target, read] of unpackStats(stats)) this.#change(list[target], (entry) => (entry.stats = read));
    for (const [target, names] of models) this.#change(list[target], (entry) => (entry.models = names));
    for (const [target, where] of events) this.#change(list[target], (entry) => (entry.events = where));
    for (const call of polled) {
      this.#waiting.get(call)?.();
      this.#waiting.delete(call);
    }
  }

  /** Not of an engine that is gone by now. */
  #change(read: Target | undefined, change: (entry: Entry) => void): void {
    if (read === undefined || this.#targets.get(read.id)?.bootId !== read.bootId) return;
    const entry = this.#entries.get(read.id) ?? { stats: undefined, models: [], bootId: read.bootId };
    this.#entries.set(read.id, entry);
    change(entry);
  }
}

/** SGLang alone says where it publishes; of others somebody else must have. */
const targetOf = ({ id, address, bootId, compatibility, events }: Endpoint): Target => ({
  ...{ id, address, bootId },
  ...(compatibility.engine === "sglang" && events === undefined ? { asksEvents: true } : {}),
});
