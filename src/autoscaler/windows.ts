/**
 * What came, by time: counters of several routers and engines, differentiated and summed in slots. A source that is new, or
 * whose counter falls, teaches nothing before its next word; what is not a number is not heard.
 */

/** Sums of one stretch of time. */
export interface Arrivals {
  readonly requests: number;
  /** Of those, prompt tokens that no cache held. */
  readonly promptTokens: number;
  readonly answers: number;
  readonly generatedTokens: number;
}

export type Field = keyof Arrivals;

export const NOTHING: Arrivals = { requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 };

/** What counters grew by. @throws never: NaN, infinite and negative values count as not told (0). */
export function growth(before: Arrivals, now: Arrivals): Arrivals {
  return mapFields((field) => grown(before[field], now[field]));
}

/**
 * How much one counter grew; nothing where it fell, or where one of both is no number. One that began anew has counted for
 * seconds, but a sum of many falls by the part of one that is gone, and what is left of it may be the work of weeks.
 */
export const grown = (before: number, now: number): number =>
  isCount(now) && isCount(before) ? Math.max(0, now - before) : 0;

const isCount = (value: number): boolean => Number.isFinite(value) && value >= 0;

/** What a counter was last, where it is no number now: else the next number would look like all of it. */
export const lastCount = (before: number | undefined, now: number): number => (isCount(now) ? now : (before ?? now));

export const mapFields = (of: (field: Field) => number): Arrivals => ({
  requests: of("requests"),
  promptTokens: of("promptTokens"),
  answers: of("answers"),
  generatedTokens: of("generatedTokens"),
});

interface Slot {
  readonly number: number;
  spanMs: number;
  sums: Arrivals;
}

/** Slots of equal length, the latest so many of them. */
export class Slots {
  readonly slotMs: number;
  readonly #most: number;
  readonly #slots: Slot[] = [];

  constructor(slotMs: number, most: number) {
    this.slotMs = slotMs;
    this.#most = most;
  }

  /** @param spanMs time in which the sums came in, up to `at` */
  add(at: number, spanMs: number, sums: Arrivals): void {
    const number = Math.floor((at - 1) / this.slotMs);
    const last = this.#slots.at(-1);
    if (last !== undefined && last.number >= number) {
      last.spanMs += spanMs;
      last.sums = mapFields((field) => last.sums[field] + sums[field]);
      return;
    }
    this.#slots.push({ number, spanMs, sums });
    if (this.#slots.length > this.#most) this.#slots.shift();
  }

  /** Of each slot that is full or nearly so, oldest first: units a second. */
  rates(field: Field, count = this.#most): readonly number[] {
    const full = this.#slots.filter(({ spanMs }) => spanMs >= FULL * this.slotMs);
    return full.slice(-count).map(({ sums, spanMs }) => (1000 * sums[field]) / spanMs);
  }

  /** Units a second over the slots since `from`; undefined where nothing was heard since. */
  rate(field: Field, from: number): number | undefined {
    const { spanMs, sums } = this.sums(from);
    return spanMs > 0 ? (1000 * sums[field]) / spanMs : undefined;
  }

  sums(from: number): { readonly spanMs: number; readonly sums: Arrivals } {
    const since = this.#slots.filter(({ number }) => number >= Math.floor(from / this.slotMs));
    return {
      spanMs: since.reduce((sum, { spanMs }) => sum + spanMs, 0),
      sums: mapFields((field) => since.reduce((sum, slot) => sum + slot.sums[field], 0)),
    };
  }
}

/** A slot of which less was observed says little of its rate. */
const FULL = 0.6;

/** The value below which `share` of the values lie: the nearest rank; undefined of none. */
export function quantile(values: readonly number[], share: number): number | undefined {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

/** Straight line through equally spaced values (least squares): rise for each step, and the share of the variance it explains. */
export function trendOf(values: readonly number[]): { readonly slope: number; readonly fit: number } {
  const count = values.length;
  const middle = (count - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, count);
  const spread = values.reduce((sum, _, index) => sum + (index - middle) ** 2, 0);
  const joint = values.reduce((sum, value, index) => sum + (index - middle) * (value - mean), 0);
  const total = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  if (spread === 0 || total === 0) return { slope: 0, fit: 0 };
  return { slope: joint / spread, fit: joint ** 2 / (spread * total) };
}

/** The greatest of what was said within a time: monotone, so that each question costs little. */
export class WindowMaximum {
  readonly #said: { readonly at: number; readonly value: number }[] = [];

  add(at: number, value: number): void {
    while (this.#said.length > 0 && (this.#said.at(-1)?.value ?? 0) <= value) this.#said.pop();
    this.#said.push({ at, value });
  }

  /** The greatest since `from`; undefined of nothing. Forgets what is older. */
  since(from: number): number | undefined {
    while ((this.#said[0]?.at ?? Infinity) < from) this.#said.shift();
    return this.#said[0]?.value;
  }
}
