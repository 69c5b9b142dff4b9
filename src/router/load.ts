/**
 * Work that is on the endpoints and not finished: what this router sent, known at once and exactly, before any scrape
 * shows it; and what the other replicas say they sent.
 *
 * One writer, the router; every start returns the release of just that work, which is safe to call twice.
 */
export interface EndpointLoad {
  /** Prefill work sent and not finished, in milliseconds of that endpoint: the Q of the cost. */
  readonly prefillMs: number;
  /** Requests on the endpoint, either leg. */
  readonly inflight: number;
  /** Tokens whose blocks it keeps for decode engines that have not fetched them. This router's own word. */
  readonly pinnedTokens: number;
  /** Prompt tokens of the requests that are answered there: what each decode step reads. This router's own word. */
  readonly contextTokens: number;
  /** Prefill time there against that of its service: 2 is half as fast. Learned; 1 where nothing is known. */
  readonly slowness: number;
  /** Prefill work that this router ever sent there, in milliseconds: the difference says what came in between. */
  readonly givenMs: number;
  /** Number of the last assignment; 0 = never. Ties go to the smallest. */
  readonly assigned: number;
  /** Monotonic time until which the endpoint is left alone, after it refused a connection. */
  readonly shunnedUntil: number;
}

/** The part of an endpoint's load that one router sent. */
export interface OwnLoad {
  readonly prefillMs: number;
  readonly inflight: number;
}

/** Prefill work that this router sent to an endpoint and that is not finished. */
export interface PrefillBacklog {
  readonly prefills: number;
  /** Of their prompts, those to be computed. */
  readonly prefillTokens: number;
}

interface PrefillWork {
  readonly prefills: 1 | -1;
  readonly ms: number;
  readonly tokens: number;
}

type Own = { -readonly [K in keyof OwnLoad]: OwnLoad[K] } & { -readonly [K in keyof PrefillBacklog]: number };
type Entry = { -readonly [K in keyof EndpointLoad]: EndpointLoad[K] } & { readonly own: Own };
export type Release = () => void;

const IDLE: EndpointLoad = {
  ...{
    prefillMs: 0,
    inflight: 0,
    pinnedTokens: 0,
    contextTokens: 0,
    slowness: 1,
    givenMs: 0,
    assigned: 0,
    shunnedUntil: 0,
  },
};
const NOTHING: OwnLoad = { prefillMs: 0, inflight: 0 };
const NO_BACKLOG: PrefillBacklog = { prefills: 0, prefillTokens: 0 };

export class LoadBook {
  readonly #entries = new Map<string, Entry>();
  /** What other replicas sent: replica, then endpoint. */
  readonly #others = new Map<string, ReadonlyMap<string, OwnLoad>>();
  readonly #changed = new Set<string>();
  #sequence = 0;
  /** Entries of lists of endpoints, until one of them is forgotten. */
  readonly #lists = new WeakMap<readonly string[], { readonly version: number; readonly entries: readonly Entry[] }>();
  #version = 0;
  readonly #mostTold: number;

  /** @param mostTold requests that another replica can have on one endpoint, by its own limit; more is not believed */
  constructor(mostTold = Infinity) {
    this.#mostTold = mostTold;
  }

  /** All work on the endpoint, whoever sent it. */
  of(endpoint: string): EndpointLoad {
    return this.#entries.get(endpoint) ?? IDLE;
  }

  /** Requests that this router itself has on the endpoint: nobody's word. */
  ownInflight(endpoint: string): number {
    return this.#entries.get(endpoint)?.own.inflight ?? 0;
  }

  /** Prefill work of this router alone. */
  backlog(endpoint: string): PrefillBacklog {
    return this.#entries.get(endpoint)?.own ?? NO_BACKLOG;
  }

  /** Of each of these endpoints, in their order; for lists that are asked about again and again. */
  all(endpoints: readonly string[]): readonly EndpointLoad[] {
    const known = this.#lists.get(endpoints);
    if (known?.version === this.#version) return known.entries;
    const entries = endpoints.map((endpoint) => this.#entry(endpoint));
    this.#lists.set(endpoints, { version: this.#version, entries });
    return entries;
  }

  /**
   * A request is on the endpoint until released.
   * @param tokens of its prompt, where it is answered there
   */
  request(endpoint: string, tokens = 0): Release {
    const entry = this.#entry(endpoint);
    entry.contextTokens += tokens;
    this.#add(endpoint, entry, 1);
    entry.assigned = ++this.#sequence;
    let done = false;
    // Not by `once`: thousands of streams are open, and each would hold two functions.
    return () => {
      if (done) return;
      done = true;
      entry.contextTokens -= tokens;
      this.#add(endpoint, entry, -1);
    };
  }

  /**
   * Prefill work is on the endpoint until released. With the last of it the sum is exactly zero: no rounding stays.
   * @param tokens to be computed
   */
  prefill(endpoint: string, ms: number, tokens = 0): Release {
    const entry = this.#entry(endpoint);
    entry.givenMs += ms;
    this.#addPrefill(endpoint, entry, { prefills: 1, ms, tokens });
    return once(() => this.#addPrefill(endpoint, entry, { prefills: -1, ms: -ms, tokens: -tokens }));
  }

  /** Blocks of so many tokens are kept on the endpoint until released. */
  pinned(endpoint: string, tokens: number): Release {
    const entry = this.#entry(endpoint);
    entry.pinnedTokens += tokens;
    return once(() => {
      entry.pinnedTokens -= tokens;
    });
  }

  slow(endpoint: string, slowness: number): void {
    this.#entry(endpoint).slowness = slowness;
  }

  shun(endpoint: string, until: number): void {
    this.#entry(endpoint).shunnedUntil = until;
  }

  /** Forgets endpoints that no longer exist and carry nothing. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const [id, { inflight, prefillMs, pinnedTokens, own }] of this.#entries)
      if (inflight === 0 && prefillMs === 0 && pinnedTokens === 0 && own.prefills === 0 && !endpoints.has(id)) {
        this.#entries.delete(id);
        this.#version += 1;
      }
  }

  /** Own loads that changed since the last call; with `all`, every one that is not idle. */
  takeChanges(all = false): ReadonlyMap<string, OwnLoad> {
    const loads = all ? this.own() : new Map([...this.#changed].map((id) => [id, this.#ownOf(id)]));
    this.#changed.clear();
    return loads;
  }

  /** Every own load that is not idle. */
  own(): ReadonlyMap<string, OwnLoad> {
    return new Map([...this.#entries].filter(([, { own }]) => !isIdle(own)).map(([id]) => [id, this.#ownOf(id)]));
  }

  /** What another replica sent now stands like this, as far as it is named; with `all`, nothing else stands. */
  hear(replica: string, loads: ReadonlyMap<string, OwnLoad>, all: boolean): void {
    const before = this.#others.get(replica) ?? new Map<string, OwnLoad>();
    // The last word on each endpoint, and only then without those that are idle.
    const last = new Map([...(all ? [] : before), ...loads]);
    const after = new Map([...last].filter(([, load]) => !isIdle(load)));
    this.#others.set(replica, after);
    for (const id of new Set([...(all ? before.keys() : []), ...loads.keys()])) {
      const more = (after.get(id) ?? NOTHING).inflight > (before.get(id) ?? NOTHING).inflight;
      const entry = this.#entry(id);
      if (more) entry.assigned = ++this.#sequence;
      this.#sum(id, entry);
    }
  }

  /** Whether the replica is known to have work on the endpoint. */
  hears(replica: string, endpoint: string): boolean {
    return this.#others.get(replica)?.has(endpoint) === true;
  }

  /** The replica is gone, and its work with it. */
  forget(replica: string): void {
    this.hear(replica, new Map(), true);
    this.#others.delete(replica);
  }

  #ownOf(endpoint: string): OwnLoad {
    const { inflight, prefillMs } = this.#entries.get(endpoint)?.own ?? NOTHING;
    return { inflight, prefillMs };
  }

  #add(endpoint: string, entry: Entry, requests: number): void {
    entry.own.inflight += requests;
    this.#sum(endpoint, entry);
    this.#changed.add(endpoint);
  }

  #addPrefill(endpoint: string, entry: Entry, { prefills, ms, tokens }: PrefillWork): void {
    entry.own.prefills += prefills;
    entry.own.prefillTokens += tokens;
    entry.own.prefillMs = entry.own.prefills === 0 ? 0 : Math.max(0, entry.own.prefillMs + ms);
    this.#sum(endpoint, entry);
    this.#changed.add(endpoint);
  }

  /** Summed anew each time, so that no rounding stays here either. */
  #sum(endpoint: string, entry: Entry): void {
    let { inflight, prefillMs } = entry.own;
    for (const loads of this.#others.values()) {
      const load = loads.get(endpoint);
      inflight += Math.min(load?.inflight ?? 0, this.#mostTold);
      prefillMs += load?.prefillMs ?? 0;
    }
    entry.inflight = inflight;
    entry.prefillMs = prefillMs;
  }

  #entry(endpoint: string): Entry {
    const entry = this.#entries.get(endpoint) ?? { ...IDLE, own: { ...NOTHING, ...NO_BACKLOG } };
    this.#entries.set(endpoint, entry);
    return entry;
  }
}

const isIdle = ({ inflight, prefillMs }: OwnLoad): boolean => inflight === 0 && prefillMs === 0;

function once(task: () => void): Release {
  let done = false;
  return () => {
    if (!done) task();
    done = true;
  };
}
