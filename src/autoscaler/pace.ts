/** How fast a number of replicas may move, and how long it must have been too high before it falls. */
import type { Pace } from "../workload/scaling.ts";
import { WindowMaximum } from "./windows.ts";

/** Least and greatest that a workload had within each pace's period. */
export class PaceMemory {
  readonly #counts: { readonly at: number; readonly count: number }[] = [];

  /** @param longestMs of the periods that are asked for */
  see(at: number, count: number, longestMs: number): void {
    this.#counts.push({ at, count });
    // The value that held when the period began counts as well.
    while ((this.#counts[1]?.at ?? Infinity) <= at - longestMs) this.#counts.shift();
  }

  /** At most this many now: the share of what there was a period ago, at least one step more. */
  most(at: number, { share, periodMs }: Pace, step: number): number {
    const base = Math.min(...this.#within(at, periodMs));
    return base + Math.max(step, Math.floor(share * base));
  }

  least(at: number, { share, periodMs }: Pace, step: number): number {
    const base = Math.max(...this.#within(at, periodMs));
    return Math.max(0, base - Math.max(step, Math.floor(share * base)));
  }

  #within(at: number, periodMs: number): readonly number[] {
    const begin = at - periodMs;
    const inside = this.#counts.filter(
      (entry, index) => (this.#counts[index + 1]?.at ?? Infinity) > begin || entry.at > begin,
    );
    return inside.length === 0 ? [0] : inside.map(({ count }) => count);
  }
}

/** What was needed at most within the scale-in delay. */
export class DelayMemory {
  readonly #needs = new WindowMaximum();

  see(at: number, need: number): void {
    this.#needs.add(at, need);
  }

  most(at: number, delayMs: number): number {
    return this.#needs.since(at - delayMs) ?? 0;
  }
}
