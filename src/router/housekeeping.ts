/**
 * Keeps index and loads in step with the endpoints that exist: a gone endpoint is forgotten, a restarted engine starts
 * with an empty cache, and each index is as large as the engine's real KV cache.
 */
import type { Config } from "../config/schema.ts";
import type { Metrics } from "../ports.ts";
import type { KnownEndpoint } from "./directory.ts";
import type { PrefixIndex } from "./kv/index.ts";
import type { LoadBook } from "./load.ts";
import { indexCapacity } from "./select.ts";
import { TokenRates } from "./tokenize/rates.ts";

export class Housekeeping {
  readonly #index: PrefixIndex;
  readonly #loads: LoadBook;
  readonly #config: Config["router"];
  readonly #metrics: Metrics;
  readonly #rates: TokenRates;
  #boots = new Map<string, string>();

  constructor(deps: {
    index: PrefixIndex;
    loads: LoadBook;
    config: Config["router"];
    metrics: Metrics;
    /** Bytes of a token, as answers teach them. */
    rates?: TokenRates;
  }) {
    this.#index = deps.index;
    this.#loads = deps.loads;
    this.#config = deps.config;
    this.#metrics = deps.metrics;
    this.#rates = deps.rates ?? new TokenRates();
  }

  /** To be called whenever the list changed. */
  tidy(known: readonly KnownEndpoint[]): void {
    const boots = new Map(known.map(({ endpoint }) => [endpoint.id, endpoint.bootId]));
    const present = new Set(boots.keys());
    // Told of all that exist: a late prefill leg may have recorded on an endpoint after it went.
    this.#index.keep(present);
    for (const [id, boot] of this.#boots) if (boots.get(id) !== boot) this.#index.forget(id);
    for (const each of known) {
      const rate = this.#rates.of(each.endpoint.models[0] ?? "");
      this.#index.resize(each.endpoint.id, indexCapacity(each, this.#config.index, rate));
    }
    this.#loads.keep(present);
    this.#boots = boots;
    this.#report(known);
  }

  #report(known: readonly KnownEndpoint[]): void {
    for (const role of ["prefill", "decode", "both"]) {
      const ofRole = known.filter(({ endpoint }) => endpoint.role === role);
      const ready = ofRole.filter(({ endpoint }) => endpoint.ready && !endpoint.draining).length;
      this.#metrics.gauge("tandem_router_endpoints", ready, { role, state: "ready" });
      this.#metrics.gauge("tandem_router_endpoints", ofRole.length - ready, { role, state: "not-ready" });
    }
    this.#metrics.gauge("tandem_router_index_blocks", this.#index.blocks);
  }
}
