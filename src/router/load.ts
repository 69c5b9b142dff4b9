/**
 * Work that this router sent and that is not finished: known at once and exactly, before any scrape shows it.
 *
 * One writer, the router; every start returns the release of just that work, which is safe to call twice.
 */
export interface EndpointLoad {
  /** Prefill work sent and not finished, in milliseconds of that endpoint: the Q of the cost. */
  readonly prefillMs: number;
  /** Requests on the endpoint, either leg. */
  readonly inflight: number;
  /** Number of the last assignment; 0 = never. Ties go to the smallest. */
  readonly assigned: number;
  /** Monotonic time until which the endpoint is left alone, after it refused a connection. */
  readonly shunnedUntil: number;
}

type Mutable = { -readonly [K in keyof EndpointLoad]: EndpointLoad[K] } & { prefills: number };
export type Release = () => void;

const IDLE: Mutable = { prefillMs: 0, prefills: 0, inflight: 0, assigned: 0, shunnedUntil: 0 };

export class LoadBook {
  readonly #entries = new Map<string, Mutable>();
  #sequence = 0;

  of(endpoint: string): EndpointLoad {
    return this.#entries.get(endpoint) ?? IDLE;
  }

  /** A request is on the endpoint until released. */
  request(endpoint: string): Release {
    const entry = this.#entry(endpoint);
    entry.inflight += 1;
    entry.assigned = ++this.#sequence;
    return once(() => (entry.inflight -= 1));
  }

  /** Prefill work is on the endpoint until released. With the last of it the sum is exactly zero: no rounding stays. */
  prefill(endpoint: string, ms: number): Release {
    const entry = this.#entry(endpoint);
    entry.prefillMs += ms;
    entry.prefills += 1;
    return once(() => {
      entry.prefills -= 1;
      entry.prefillMs = entry.prefills === 0 ? 0 : Math.max(0, entry.prefillMs - ms);
    });
  }

  shun(endpoint: string, until: number): void {
    this.#entry(endpoint).shunnedUntil = until;
  }

  /** Forgets endpoints that no longer exist and carry nothing. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const [id, { inflight, prefills }] of this.#entries)
      if (inflight === 0 && prefills === 0 && !endpoints.has(id)) this.#entries.delete(id);
  }

  #entry(endpoint: string): Mutable {
    const entry = this.#entries.get(endpoint) ?? { ...IDLE };
    this.#entries.set(endpoint, entry);
    return entry;
  }
}

function once(task: () => void): Release {
  let done = false;
  return () => {
    if (!done) task();
    done = true;
  };
}
