/**
 * What the prefill leg of one request holds on endpoints besides its own run: work that is on its way there, and blocks
 * that decode has not fetched yet. All of it is released when decode has its KV or will never have it; blocks that
 * nobody will fetch stay until their lease ends.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import type { Metrics, Timers } from "../ports.ts";
import { leaseOf } from "./disagg/connectors.ts";
import type { LoadBook, Release } from "./load.ts";

export interface HoldsDependencies {
  readonly config: { readonly prefill: { readonly leaseMs: number } };
  readonly loads: LoadBook;
  readonly timers: Timers;
  readonly metrics: Metrics;
}

/** Where first tokens are not seen, blocks count as fetched so long after a stream began. */
const FETCH_MS = 1000;

export class LegHolds {
  readonly #deps: HoldsDependencies;
  readonly #held = new Set<Release>();
  #fetched = false;
  #over = false;

  constructor(deps: HoldsDependencies) {
    this.#deps = deps;
  }

  /** True once decode has the KV of the prompt, or wants it no more. */
  get fetched(): boolean {
    return this.#fetched;
  }

  /**
   * The endpoint has a request and its prefill to do, until released.
   * @param tokens of the prompt, to be computed
   */
  occupy({ id }: Endpoint, prefillMs: number, tokens: number): Release {
    const { loads } = this.#deps;
    const releases = [loads.request(id), loads.prefill(id, prefillMs, tokens)];
    return () => releases.forEach((release) => release());
  }

  /** Released with the rest. */
  add(release: Release): void {
    this.#held.add(release);
  }

  /** Blocks of a prompt stay on its prefill engine. Where the request is over already, nobody will fetch them. */
  pin(endpoint: Endpoint, tokens: number): void {
    const { loads, timers, config, metrics } = this.#deps;
    const { connector } = endpoint.compatibility;
    const release = loads.pinned(endpoint.id, tokens);
    const cancel = timers.after(config.prefill.leaseMs || leaseOf(endpoint), release);
    if (this.#over) metrics.count("tandem_router_kv_stranded_total", { connector });
    else this.add(() => [cancel, release].forEach((each) => each()));
  }

  /** The answer began; `whole`: with all of it. */
  started(whole: boolean): void {
    if (whole) this.release();
    else if (this.#held.size > 0) this.add(this.#deps.timers.after(FETCH_MS, () => this.release()));
  }

  release(): void {
    this.#fetched = true;
    for (const release of this.#held) release();
    this.#held.clear();
  }

  end(): void {
    this.#over = true;
    this.release();
  }
}
