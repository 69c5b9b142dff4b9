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
export type ZeroHitCause = "blockSize" | "tokenizer" | "prefixCaching";

const WORDS: Readonly<Record<ZeroHitCause, string>> = {
  blockSize: "prefixes that prompts share are shorter than a KV block of the engine",
  tokenizer: "tokens of the router are not the engine's: see tandem_router_token_agreement_total",
  prefixCaching: "prefix caching is off at the engine, or a cache salt keeps its requests apart",
};

interface Row {
  missed: number;
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

  /** An answer said how much of its prompt was cached. */
  saw(forecast: Forecast, cachedTokens: number): void {
    if (cachedTokens > 0) {
      this.#models.delete(forecast.model);
      return;
    }
    if (forecast.cachedTokens < LEAST_TOKENS) return;
    const row = this.#rowOf(forecast.model);
    row.missed += 1;
    row.longest = Math.max(row.longest, forecast.cachedTokens);
    if (row.missed >= IN_A_ROW) this.#say(row, forecast);
  }

  #say(row: Row, forecast: Forecast): void {
    const { clock, log, metrics } = this.#ports;
    const now = clock.monotonic();
    if (now - row.saidAt < SAID_AGAIN_MS) return;
    row.saidAt = now;
    const cause = causeOf(row, forecast);
    metrics.count("tandem_router_zero_hit_warnings_total", { cause });
    log.warn("cached prefixes are expected and none is hit", {
      ...{ model: forecast.model, answers: row.missed, expectedTokens: row.longest, likely: WORDS[cause] },
    });
  }

  #rowOf(model: string): Row {
    const known = this.#models.get(model);
    if (known !== undefined) return known;
    if (this.#models.size >= MAX_MODELS) this.#models.clear();
    const row = { missed: 0, longest: 0, saidAt: -Infinity };
    this.#models.set(model, row);
    return row;
  }
}

function causeOf({ longest }: Row, { blockSize = 0, how }: Forecast): ZeroHitCause {
  if (longest < blockSize) return "blockSize";
  return how === undefined ? "prefixCaching" : "tokenizer";
}
