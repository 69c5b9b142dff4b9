/**
 * Notices when cached prefixes are expected again and again, and none is ever there. Nothing fails then: every pick is made
 * for a hit that does not come, and the only sign is that all is as slow as without. Says so once, with the likely cause.
 */
import type { Clock, Log, Metrics } from "../ports.ts";
import type { Forecast } from "./forecast.ts";

/** In a row, of one model, with no hit between them. */
const IN_A_ROW = 20;
/** Smaller expectations are within a block or two, and may well be missed. */
const LEAST_TOKENS = 64;
const SAID_AGAIN_MS = 1_800_000;
/** Models whose names clients invent must not fill the memory. */
const MAX_MODELS = 1024;

/** Why nothing is hit. */
export type ZeroHitCause = "blockSize" | "tokenizer" | "prefixCaching" | "events";

const WORDS: Readonly<Record<ZeroHitCause, string>> = {
  blockSize: "prefixes that prompts share are shorter than a KV block of the engine",
  tokenizer: "tokens of the router are not the engine's: see tandem_router_token_agreement_total",
  prefixCaching: "prefix caching is off at the engine, or a cache salt keeps its requests apart",
  events:
    "events of the engines never match tokens of prompts that were sent before: another tokenizer or chat template here, or engines that cache nothing",
};

interface Row {
  missed: number;
  /** Picks for which events told of nothing, though the prompt had been sent there. */
  unmatched: number;
  /** The longest prefix that was expected in this row. */
  longest: number;
  saidAt: number;
}

export class HitWatch {
  readonly #models = new Map<string, Row>();
  readonly #ports: { readonly clock: Clock; readonly log: Log; readonly metrics: Metrics };

  constructor(ports: { readonly clock: Clock; readonly log: Log; readonly metrics: Metrics }) {
    this.#ports = ports;
  }

  /** A pick was made by what engines tell. */
  picked(forecast: Forecast): void {
    if (forecast.whence !== "events") return;
    if (forecast.cachedTokens > 0) {
      const row = this.#models.get(forecast.model);
      if (row !== undefined) row.unmatched = 0;
    } else if (forecast.sentTokens >= LEAST_TOKENS) {
      const row = this.#rowOf(forecast.model);
      row.unmatched += 1;
      row.longest = Math.max(row.longest, forecast.sentTokens);
      if (row.unmatched >= IN_A_ROW) this.#say(row, forecast.model, "events");
    }
  }

  /** An answer said how much of its prompt was cached. */
  saw(forecast: Forecast, cachedTokens: number): void {
    const known = this.#models.get(forecast.model);
    if (cachedTokens > 0 && known !== undefined) known.missed = 0;
    if (cachedTokens > 0 || forecast.cachedTokens < LEAST_TOKENS) return;
    const row = this.#rowOf(forecast.model);
    row.missed += 1;
    row.longest = Math.max(row.longest, forecast.cachedTokens);
    if (row.missed >= IN_A_ROW) this.#say(row, forecast.model, causeOf(row, forecast));
  }

  #say(row: Row, model: string, cause: ZeroHitCause): void {
    const { clock, log, metrics } = this.#ports;
    const now = clock.monotonic();
    if (now - row.saidAt < SAID_AGAIN_MS) return;
    row.saidAt = now;
    metrics.count("tandem_router_zero_hit_warnings_total", { cause });
    log.warn("cached prefixes are expected and none is hit", {
      ...{ model, requests: Math.max(row.missed, row.unmatched), tokens: row.longest, likely: WORDS[cause] },
    });
  }

  #rowOf(model: string): Row {
    const known = this.#models.get(model);
    if (known !== undefined) return known;
    if (this.#models.size >= MAX_MODELS) this.#models.clear();
    const row = { missed: 0, unmatched: 0, longest: 0, saidAt: -Infinity };
    this.#models.set(model, row);
    return row;
  }
}

function causeOf({ longest }: Row, { blockSize = 0, how }: Forecast): ZeroHitCause {
  if (longest < blockSize) return "blockSize";
  return how === undefined ? "prefixCaching" : "tokenizer";
}
