/**
 * What one request holds on its decode endpoint, from the pick to the end of the answer, wherever it really went.
 *
 * Told at the pick and not when the answer comes: siblings of a burst then meet where the first one went. A proxy that
 * retries, or that does not know the endpoint, may send the request elsewhere: load and index follow it there.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import type { Clock, Log, Metrics, Timers } from "../ports.ts";
import type { Directory } from "./directory.ts";
import type { BlockKeys } from "./kv/blocks.ts";
import { judged, type CountedHits } from "./kv/counted.ts";
import type { PrefixIndex } from "./kv/index.ts";
import type { AnswerCounts, HitTrust } from "./kv/trust.ts";
import type { LoadBook, Release } from "./load.ts";

/** An endpoint that refused a connection is left alone this long: two scrapes see whether it is back. */
export const SHUN_MS = 2000;

export interface PlacementDependencies {
  readonly directory: Directory;
  readonly loads: LoadBook;
  readonly index: PrefixIndex;
  readonly trust?: HitTrust;
  readonly counted?: CountedHits;
  readonly timers: Timers;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

const nothing: Release = () => undefined;

/** A prompt as it was sent. */
export interface SentPrompt {
  readonly keys: BlockKeys;
  readonly tokens: number;
  /** Tokens that the endpoint was thought to hold, by what was sent there. */
  readonly thought: number;
  /** Its tokens can be told from those that the engine counts: one text, and one answer. */
  readonly counts: boolean;
}

export class Placement {
  readonly #deps: PlacementDependencies;
  #endpoint: Endpoint;
  /** Of the prompt; there until it is known where the request went. */
  #keys: BlockKeys | undefined;
  readonly #tokens: number;
  /** Tokens that it was thought to hold of the prompt, by what was sent there. */
  #thought: number;
  /** Window of the engine's counters in which it was sent; 0: it is none of theirs, or was told already. */
  #window: number;
  #release: Release;
  #prefillMs = 0;
  #freshTokens = 0;
  #releasePrefill: Release = nothing;
  #over = false;

  constructor(deps: PlacementDependencies, endpoint: Endpoint, { keys, tokens, thought, counts }: SentPrompt) {
    this.#tokens = tokens;
    this.#thought = thought;
    this.#window = counts ? (deps.counted?.begin(endpoint.id, tokens) ?? 0) : 0;
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#keys = keys;
    this.#release = deps.loads.request(endpoint.id, tokens);
    deps.index.record(endpoint.id, keys);
  }

  /**
   * Prefill work waits on the decode endpoint, until its first token. Where first tokens are not seen (profile `light`),
   * the work that waits there is taken at its word: it is over after that many milliseconds.
   * @param tokens of the prompt, to be computed
   */
  prefillHere(ms: number, tokens: number): void {
    if (this.#over) return;
    const { loads, timers } = this.#deps;
    this.#prefillMs = ms;
    this.#freshTokens = tokens;
    const release = loads.prefill(this.#endpoint.id, ms, tokens);
    const cancel = timers.after(loads.of(this.#endpoint.id).prefillMs, () => this.prefilled());
    this.#releasePrefill = () => {
      cancel();
      release();
    };
  }

  /** The prefill work is done. */
  prefilled(): void {
    this.#releasePrefill();
    this.#releasePrefill = nothing;
    this.#prefillMs = 0;
  }

  /** The answer began: where it comes from was said with it or never, and the keys are most of what a stream holds. */
  settled(): void {
    this.#keys = undefined;
  }

  /** Where the proxy says that it sent the request. An address that is nobody's (a tunnel's, say) says nothing. */
  served(address: string): void {
    const keys = this.#keys;
    this.#keys = undefined;
    if (this.#over || keys === undefined || address === this.#endpoint.address) return;
    const known = this.#deps.directory.list().find(({ endpoint }) => endpoint.address === address);
    if (known !== undefined) this.#move(known.endpoint, keys);
  }

  end(): void {
    this.#over = true;
    this.#keys = undefined;
    this.prefilled();
    this.#release();
  }

  /** Prefill ran elsewhere, and its KV comes here. */
  handed(): void {
    this.#deps.counted?.handed({ endpoint: this.#endpoint.id, window: this.#window, tokens: this.#tokens });
    this.#window = 0;
  }

  /** A first token was seen: the prompt is computed. SGLang counts it when the answer has ended. */
  computed(): void {
    if (this.#endpoint.compatibility.engine !== "sglang") this.counted();
  }

  /** The engine has computed the prompt, and its counters say so. */
  counted(): void {
    const { counted, clock } = this.#deps;
    if (this.#window === 0) return;
    const [window, tokens, thought] = [this.#window, this.#tokens, this.#thought];
    counted?.computed({ endpoint: this.#endpoint.id, window, tokens, thought }, clock.monotonic());
    this.#window = 0;
  }

  /** The engine that prefilled said what it had cached. Returns it with what that leaves out. */
  found<Said extends AnswerCounts>(said: Said): Said {
    return judged(this.#deps, { endpoint: this.#endpoint.id, thought: this.#thought }, said);
  }

  #move(endpoint: Endpoint, keys: BlockKeys): void {
    this.#thought = 0;
    this.#window = 0;
    const { loads, index, clock, metrics, log } = this.#deps;
    const [from, prefillMs] = [this.#endpoint, this.#prefillMs];
    this.prefilled();
    this.#release();
    // The proxy could not use it: whoever comes next should not be sent there either.
    loads.shun(from.id, clock.monotonic() + SHUN_MS);
    this.#endpoint = endpoint;
    this.#release = loads.request(endpoint.id, this.#tokens);
    index.record(endpoint.id, keys);
    if (prefillMs > 0) this.prefillHere(prefillMs, this.#freshTokens);
    metrics.count("tandem_router_served_elsewhere_total");
    log.debug("served elsewhere", { picked: from.name, served: endpoint.name });
  }
}
