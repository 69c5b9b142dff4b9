/**
 * How fast one stream may bring blocks: so many a second, and no more than a piece of what was read in each turn of the
 * thread, so that an engine that floods delays nobody but itself. What is not read stays with the engine.
 */
import type { Clock } from "../../../ports.ts";
import type { CacheCounts } from "./cache.ts";
import type { Follower } from "./follower.ts";

/** Read of one connection without letting others have their turn. */
const TURN_BYTES = 64 * 1024;
/** The least that a pause takes. */
const TURN_MS = 1;
/** A replay brings minutes of work at once: seconds of the rate may come in one go. */
const BURST_SECONDS = 2;
/** A message of no blocks costs as much as so many for each block's worth of bytes. */
const BYTES_PER_BLOCK = 64;

export function pacer(
  counts: CacheCounts,
  clock: Clock,
  blocksPerSecond: number,
): (follower: Follower, bytes: number) => number {
  let counted = 0;
  return (follower, bytes) => {
    const now = clock.monotonic();
    const all = counts.stored + counts.removed;
    const cost = Math.max(all - counted, bytes / (4 * BYTES_PER_BLOCK));
    counted = all;
    const refill = ((now - follower.refilledAt) / 1000) * blocksPerSecond;
    follower.allowance = Math.min(BURST_SECONDS * blocksPerSecond, follower.allowance + refill) - cost;
    follower.refilledAt = now;
    if (follower.allowance < 0) return Math.max(TURN_MS, (-follower.allowance / blocksPerSecond) * 1000);
    return bytes >= TURN_BYTES ? TURN_MS : 0;
  };
}
