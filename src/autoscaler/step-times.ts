/**
 * How long a decode step takes: ITL = a + b * batch + c * resident KV tokens, by recursive least squares over what engines
 * did (reference autoscaling.md 5.2); and the batch with which a step still keeps the time that a user was promised.
 */
import { Regression } from "../kinds/regression.ts";
import type { EngineSeen } from "./group.ts";

/** Milliseconds; the prior is a middling 8B model: read the weights, a little for each sequence and each token of KV. */
const COEFFICIENTS = [
  { prior: 15, doubt: 15, bounds: [0.1, 1000] },
  { prior: 0.1, doubt: 0.2, bounds: [0, 20] },
  { prior: 0.00005, doubt: 0.0002, bounds: [0, 0.1] },
] as const;
/** Fewer observations are no evidence. */
const LEAST = 30;
/** A line is trusted to twice the batch that was seen; beyond, memory or caches may bend it. */
const REACH = 2;
/** At least so many sequences are believed possible. */
const LEAST_BATCH = 8;

export interface DecodeLimit {
  /** Sequences at once. */
  readonly batch: number;
  /** Generated tokens a second with them. */
  readonly tokensPerSecond: number;
}

export class StepTimes {
  readonly #line = new Regression(COEFFICIENTS);
  #mostBatch = 0;

  get known(): boolean {
    return this.#line.count >= LEAST;
  }

  learn(
    before: EngineSeen,
    now: EngineSeen,
    { ms, generated }: { readonly ms: number; readonly generated: number },
  ): void {
    const batch = (before.running + now.running) / 2;
    // Idle in between, or mostly: its steps cannot be told apart from its pauses.
    if (before.running < 1 || now.running < 1 || generated <= 0) return;
    const kv = ((before.kvUsage + now.kvUsage) * (now.kvCapacityTokens ?? 0)) / 2;
    this.#line.learn([1, batch, kv], (batch * ms) / generated);
    this.#mostBatch = Math.max(batch, this.#mostBatch * 0.9999);
  }

  /** Milliseconds of a step. */
  itl(batch: number, kvTokens: number): number {
    return this.#line.predict([1, batch, kvTokens]);
  }

  /** @param context resident tokens of a sequence; @param most sequences that memory and the engine allow */
  limit(tpotMs: number, context: number, most: number): DecodeLimit {
    const [base, each] = [this.#line.value(0), this.#line.value(1) + this.#line.value(2) * context];
    const byTime = each > 0 ? (tpotMs - base) / each : Infinity;
    const seen = Math.max(LEAST_BATCH, REACH * this.#mostBatch);
    const batch = Math.max(1, Math.min(byTime, most, seen));
    return { batch, tokensPerSecond: (1000 * batch) / Math.max(1, this.itl(batch, batch * context)) };
  }
}
