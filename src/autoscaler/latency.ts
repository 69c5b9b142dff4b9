/** Latencies of the last moments from counters by bucket: what a 90th percentile was, and of how many answers. */
import { LATENCY_BOUNDS_MS } from "./group.ts";
import { grown } from "./windows.ts";

/** One more than bounds: above the last. */
const BUCKETS = LATENCY_BOUNDS_MS.length + 1;
/** Percentiles are taken over so long; answers of a decode pod come in batches. */
const WINDOW_MS = 60_000;

/** What each bucket grew by; of a source that does not tell, nothing. */
export const differenceOf = (before: readonly number[], now: readonly number[]): readonly number[] =>
  Array.from({ length: BUCKETS }, (_, bucket) => grown(before[bucket] ?? 0, now[bucket] ?? 0));

/** The bucket of a latency in milliseconds. */
export function bucketOf(ms: number): number {
  if (!(ms > 1)) return 0;
  return Math.min(BUCKETS - 1, Math.ceil(Math.log(ms) / Math.log(1.25)));
}

/** No answer yet. */
export const emptyHistogram = (): number[] => new Array<number>(BUCKETS).fill(0);

export class LatencyWindow {
  readonly #heard: { readonly at: number; readonly counts: readonly number[] }[] = [];

  add(at: number, counts: readonly number[]): void {
    if (counts.some((count) => count > 0)) this.#heard.push({ at, counts });
    while ((this.#heard[0]?.at ?? Infinity) < at - WINDOW_MS) this.#heard.shift();
  }

  /** Milliseconds that `share` of the answers since `from` kept: the upper bound of their bucket; undefined of under `least` answers. */
  quantile(from: number, share: number, least = 10): number | undefined {
    const sums = emptyHistogram();
    for (const { at, counts } of this.#heard)
      if (at >= from) for (const [bucket, count] of counts.entries()) sums[bucket] = (sums[bucket] ?? 0) + count;
    const total = sums.reduce((sum, count) => sum + count, 0);
    if (total < least) return undefined;
    let left = share * total;
    const bucket = sums.findIndex((count) => (left -= count) <= 1e-9);
    return bucket < 0 || bucket >= LATENCY_BOUNDS_MS.length ? Infinity : LATENCY_BOUNDS_MS[bucket];
  }

  /** Mean milliseconds since `from`, by the middles of buckets; undefined of under `least` answers. */
  mean(from: number, least = 10): number | undefined {
    let [total, sum] = [0, 0];
    for (const { at, counts } of this.#heard)
      if (at >= from)
        for (const [bucket, count] of counts.entries()) {
          total += count;
          sum += count * 1.25 ** Math.max(0, bucket - 0.5);
        }
    return total < least ? undefined : sum / total;
  }
}
