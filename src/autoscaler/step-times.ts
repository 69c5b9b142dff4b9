/**
 * How long a decode step takes with how many sequences: a straight line through what was seen, one point for each level of
 * the batch, so that hours at one load do not bend what is known of others. Least squares over single samples do: batch and
 * resident KV rise together, and the line through one load has any slope (simulated: capacities off by 50 times).
 */

/** Levels of the batch, a quarter more each. */
const LEVEL = 1.25;
/** Weight of a new sample at its level. */
const NEW = 0.1;
/** A level counts after so many samples; its weight halves in so long, since prompts grow longer and engines are updated. */
const LEAST = 3;
const HALF_LIFE_MS = 1_800_000;
/**
 * With so many sequences a step takes about twice as long as with one (8B to 70B models on devices of 2023 to 2025: 50 to
 * 100): one point more, of the step without any, which holds the line where levels lie too near to tell a slope.
 */
const DOUBLES_AT = 64;
const BASE_WEIGHT = 0.1;
/**
 * The line is trusted to four times the largest batch that was ever seen; beyond, memory or caches may bend it. With twice,
 * more pods make batches smaller, so less is believed possible, so more pods are asked for.
 */
const REACH = 4;
/** At least so many sequences are believed possible: where answers are short, batches are small whatever an engine can do. */
const LEAST_BATCH = 32;

export interface DecodeLimit {
  /** Sequences at once. */
  readonly batch: number;
  /** Generated tokens a second with them. */
  readonly tokensPerSecond: number;
}

export interface Stretch {
  readonly at: number;
  readonly ms: number;
  /** Mean number of sequences. */
  readonly batch: number;
  readonly generated: number;
}

interface Level {
  at: number;
  count: number;
  batch: number;
  itlMs: number;
}

export interface Line {
  /** Milliseconds of a step without a sequence, and more for each. */
  readonly base: number;
  readonly each: number;
}

const NEAR = 0.5;

/** A step takes at least half of what it may: the engine is nearly full, or too full. */
export const isNear = (itlMs: number, tpotMs: number): boolean => itlMs >= NEAR * tpotMs;

export class StepTimes {
  readonly #levels = new Map<number, Level>();
  #mostBatch = 0;

  /**
   * @param tpotMs what a step may take. Samples of different levels are enough where one comes near it: an engine that is
   * nearly full tells of its limit whatever its batch was, and is not to wait until its load is steady.
   */
  knows(tpotMs: number): boolean {
    const all = [...this.#levels.values()];
    const isFull = all.some(({ itlMs }) => isNear(itlMs, tpotMs));
    return this.#sure().length > 0 || (isFull && all.reduce((sum, { count }) => sum + count, 0) >= LEAST);
  }

  /** What an engine did in a while: its batch on average, and the tokens that it generated. */
  learn({ at, ms, batch, generated }: Stretch): void {
    if (batch < 1 || generated <= 0) return;
    this.#mostBatch = Math.max(this.#mostBatch, batch);
    const number = Math.round(Math.log(batch) / Math.log(LEVEL));
    const itlMs = (batch * ms) / generated;
    const level = this.#levels.get(number) ?? { at, count: 0, batch, itlMs };
    const weight = Math.max(NEW, 1 / (level.count + 1));
    this.#levels.set(number, {
      ...{ at, count: level.count + 1 },
      batch: level.batch + weight * (batch - level.batch),
      itlMs: level.itlMs + weight * (itlMs - level.itlMs),
    });
  }

  /** @param most sequences that memory and the engine allow. Only where it knows. */
  limit(tpotMs: number, most: number): DecodeLimit {
    const sure = this.#sure();
    const levels = sure.length > 0 ? sure : [...this.#levels.values()];
    const { base, each } = lineThrough(levels);
    const byTime = each > 0 ? (tpotMs - base) / each : Infinity;
    const believed = Math.max(LEAST_BATCH, REACH * this.#mostBatch);
    const batch = Math.max(1, Math.min(most, byTime, believed));
    return { batch, tokensPerSecond: (1000 * batch) / (base + each * batch) };
  }

  #sure(): readonly Level[] {
    return [...this.#levels.values()].filter(({ count }) => count >= LEAST);
  }
}

/** Weighted least squares; neither a step without a sequence nor one more of them takes less than nothing. */
function lineThrough(levels: readonly Level[]): Line {
  const latest = Math.max(...levels.map(({ at }) => at));
  const lowest = levels.reduce((low, level) => (level.batch < low.batch ? level : low));
  const points: readonly Point[] = [
    ...levels.map(({ at, batch, itlMs }) => ({ batch, itlMs, weight: 2 ** ((at - latest) / HALF_LIFE_MS) })),
    { batch: 0, itlMs: lowest.itlMs / (1 + lowest.batch / DOUBLES_AT), weight: BASE_WEIGHT },
  ];
  const batch = meanOf(points, (point) => point.batch);
  const itlMs = meanOf(points, (point) => point.itlMs);
  const spread = meanOf(points, (point) => (point.batch - batch) ** 2);
  const joint = meanOf(points, (point) => (point.batch - batch) * (point.itlMs - itlMs));
  const each = Math.min(Math.max(0, joint / spread), itlMs / batch);
  return { base: itlMs - each * batch, each };
}

interface Point {
  readonly batch: number;
  readonly itlMs: number;
  readonly weight: number;
}

const meanOf = (points: readonly Point[], of: (point: Point) => number): number =>
  points.reduce((sum, point) => sum + point.weight * of(point), 0) /
  points.reduce((sum, { weight }) => sum + weight, 0);
