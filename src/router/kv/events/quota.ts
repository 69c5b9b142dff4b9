/**
 * How much memory each stream may take, so that the sum is never more than there is: as much as its engine's cache needs,
 * or an even share where that is too little for all.
 */
import { bytesOf, type Geometry } from "../table.ts";
import type { CacheLimits } from "./held.ts";
import { BYTES_PER_BLOCK } from "./store.ts";

/** Of the slots, blocks of the router: the table takes no more than three quarters, and dead ones wait to be given up. */
const LOAD = 0.65;
/** Events come before what they say is done everywhere: a little more than the engine holds. */
const SPARE = 1.5;
const LEAST = 64;
/** Words beside a block that is larger or smaller than the router's: keys of 2 words, or 7 tokens on average. */
const WORDS = 2;
const WORDS_OF_SMALL = 8;

export interface Need {
  readonly capacityTokens: number;
  readonly blockSize?: number | undefined;
}

/** The largest table that fits with all around it. `engines`: numbers that may be in use at once. */
export function eventGeometry(maxBytes: number, engines: number): Geometry {
  const rows = Math.max(64, Math.floor(maxBytes / 16 / engines));
  const bytes = (slots: number): number =>
    bytesOf({ slots, endpoints: engines, rows }) + slots * LOAD * BYTES_PER_BLOCK;
  let slots = 1024;
  while (bytes(slots * 2) <= maxBytes) slots *= 2;
  return { slots, endpoints: engines, rows };
}

/** Of each stream, in their order. */
export function quotas(needs: readonly Need[], { slots }: Geometry, blockTokens: number): CacheLimits[] {
  const wanted = needs.map((need) => wantedBy(need, blockTokens));
  const level = levelOf(wanted, LOAD * slots);
  return wanted.map((want, at) => {
    const keys = Math.max(1, Math.floor(Math.min(want, level)));
    const small = (needs[at]?.blockSize ?? blockTokens) < blockTokens;
    return { keys, blocks: keys, words: keys * (small ? WORDS_OF_SMALL : WORDS) };
  });
}

/** Blocks of the router, or of the engine where those are smaller and more. */
function wantedBy({ capacityTokens, blockSize }: Need, blockTokens: number): number {
  return Math.max(LEAST, (SPARE * capacityTokens) / Math.min(blockTokens, Math.max(1, blockSize ?? blockTokens)));
}

/** What each may have at most, so that together they have no more than there is. */
function levelOf(wanted: readonly number[], total: number): number {
  let left = total;
  const sorted = wanted.toSorted((one, other) => one - other);
  for (const [at, want] of sorted.entries()) {
    const share = left / (sorted.length - at);
    if (want > share) return share;
    left -= want;
  }
  return Infinity;
}
