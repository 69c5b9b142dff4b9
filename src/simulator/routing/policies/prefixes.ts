/** What routers believe engines to hold: by what they sent there, or by what engines tell of their caches. */
import type { Timers } from "../../../ports.ts";
import type { BlockListener } from "../../engine/blocks.ts";
import type { View } from "../policy.ts";

/** By routing history: the last blocks sent to each engine, the least recently sent forgotten first. */
export class SentPrefixes {
  readonly #held: readonly Map<number, true>[];
  readonly #capacity: number;

  /** @param capacity blocks of one engine */
  constructor(engines: number, capacity: number) {
    this.#held = Array.from({ length: engines }, () => new Map());
    this.#capacity = capacity;
  }

  /** Leading blocks that the engine is believed to hold. */
  matched(engine: number, blocks: readonly number[]): number {
    const held = this.#held[engine];
    return leading(blocks, (block) => held?.has(block) === true);
  }

  record(engine: number, blocks: readonly number[]): void {
    const held = this.#held[engine];
    if (held === undefined) return;
    // The last block first: tails are forgotten before heads.
    for (const block of blocks.toReversed()) {
      held.delete(block);
      held.set(block, true);
    }
    for (const block of held.keys()) {
      if (held.size <= this.#capacity) return;
      held.delete(block);
    }
  }
}

/** KV events reach a router so much later than they happen. */
const EVENT_DELAY_MS = 50;

export function toldPrefixes({ fleet, time }: View): ToldPrefixes {
  const told = new ToldPrefixes(fleet.engines.length, time, EVENT_DELAY_MS);
  for (const { number } of fleet.engines) fleet.listen(number, told.listener(number));
  return told;
}

/** By events: what each engine holds, so many milliseconds ago; equal blocks of one engine are counted. */
export class ToldPrefixes {
  readonly #counts: readonly Map<number, number>[];
  readonly #time: Timers;
  readonly #delayMs: number;

  constructor(engines: number, time: Timers, delayMs: number) {
    this.#counts = Array.from({ length: engines }, () => new Map<number, number>());
    this.#time = time;
    this.#delayMs = delayMs;
  }

  listener(engine: number): BlockListener {
    const counts = this.#counts[engine] ?? new Map<number, number>();
    const later = (key: number, by: number): void =>
      void this.#time.after(this.#delayMs, () => {
        const count = (counts.get(key) ?? 0) + by;
        if (count > 0) counts.set(key, count);
        else counts.delete(key);
      });
    return { stored: (key) => later(key, 1), removed: (key) => later(key, -1) };
  }

  matched(engine: number, blocks: readonly number[]): number {
    const counts = this.#counts[engine];
    return leading(blocks, (block) => counts?.has(block) === true);
  }
}

function leading(blocks: readonly number[], held: (block: number) => boolean): number {
  let count = 0;
  while (count < blocks.length && held(blocks[count] ?? NaN)) count += 1;
  return count;
}
