/**
 * Linear least squares, one observation after another, the old ones forgotten slowly: recursive least squares with
 * exponential forgetting (Haykin, Adaptive Filter Theory, chapter 10). Coefficients stay within bounds, whatever is seen.
 */
export interface Coefficient {
  /** Believed before anything is seen. */
  readonly prior: number;
  /** How far off that may well be; 0 is never learned. */
  readonly doubt: number;
  readonly bounds: readonly [number, number];
}

/** Weight of an observation after one more: with 0.995 the last few hundred count. */
const FORGETTING = 0.995;
/** An observation this many times off is a hiccup or a lie: it counts as one that is so far off. */
const MOST_OFF = 3;
/** Doubt that forgetting may bring back, against that of the beginning. */
const MOST_DOUBT = 1;

export class Regression {
  readonly #coefficients: readonly Coefficient[];
  readonly #values: number[];
  /** Doubt of each pair of coefficients, in scales of their own, so that numbers stay near one. */
  readonly #doubt: number[][];
  #count = 0;

  constructor(coefficients: readonly Coefficient[]) {
    this.#coefficients = coefficients;
    this.#values = coefficients.map(({ prior }) => prior);
    this.#doubt = coefficients.map((_, row) => coefficients.map((_, column) => (row === column ? MOST_DOUBT : 0)));
  }

  /** Observations so far. */
  get count(): number {
    return this.#count;
  }

  value(index: number): number {
    return this.#values[index] ?? 0;
  }

  /** What the coefficients say of these features. */
  predict(features: readonly number[]): number {
    return features.reduce((sum, feature, index) => sum + feature * this.value(index), 0);
  }

  /** @param seen positive, in the unit of the prediction */
  learn(features: readonly number[], seen: number): void {
    const predicted = this.predict(features);
    if (!(seen > 0) || !(predicted > 0) || !Number.isFinite(seen)) return;
    const error = Math.min(predicted * MOST_OFF, Math.max(predicted / MOST_OFF, seen)) - predicted;
    // Relative errors: a prompt of 100,000 tokens teaches no more than one of a thousand.
    const scaled = features.map((feature, index) => (feature * this.#scale(index)) / predicted);
    const spread = this.#doubt.map((row) => row.reduce((sum, value, index) => sum + value * (scaled[index] ?? 0), 0));
    const weight = FORGETTING + scaled.reduce((sum, value, index) => sum + value * (spread[index] ?? 0), 0);
    for (const [index, each] of spread.entries()) this.#move(index, ((each / weight) * error) / predicted);
    this.#settle(spread, weight);
    this.#count += 1;
  }

  #scale(index: number): number {
    return this.#coefficients[index]?.doubt ?? 0;
  }

  #move(index: number, by: number): void {
    const [least, most] = this.#coefficients[index]?.bounds ?? [0, 0];
    this.#values[index] = Math.min(most, Math.max(least, this.value(index) + by * this.#scale(index)));
  }

  #settle(spread: readonly number[], weight: number): void {
    for (const [row, doubts] of this.#doubt.entries())
      for (const [column, doubt] of doubts.entries()) {
        const next = (doubt - ((spread[row] ?? 0) * (spread[column] ?? 0)) / weight) / FORGETTING;
        doubts[column] =
          row === column ? Math.min(MOST_DOUBT, Math.max(0, next)) : Math.max(-MOST_DOUBT, Math.min(MOST_DOUBT, next));
      }
  }
}
