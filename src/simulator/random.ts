/** Chance that a seed repeats: the same numbers for the same seed, on every machine. */
import type { Random } from "../ports.ts";

/** Mulberry32: a small generator with a period of 2^32. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, id: () => Math.floor(next() * 2 ** 32).toString(16) };
}
