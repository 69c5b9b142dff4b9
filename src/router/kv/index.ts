/**
 * Which endpoint holds which prefix: the question that the pick asks, and the answer from routing history.
 *
 * Decides from what the router itself sent where; never asks an engine. The approximate index keeps, for each
 * endpoint, the block keys of recent prompts in least-recently-used order, as many as the engine's KV cache holds: with
 * the true capacity its picks are within 6 % of an exact index (reference, section 2.2). An index fed by engine events
 * implements the same interface.
 */
import { LRUCache } from "lru-cache";
import { blockCount, type BlockKeys } from "./blocks.ts";

export interface PrefixIndex {
  /** Leading blocks of `keys` that the endpoint holds. */
  match(endpoint: string, keys: BlockKeys): number;
  /** The endpoint is about to hold all of `keys`: told at pick time, so that siblings of a burst meet. */
  record(endpoint: string, keys: BlockKeys): void;
  /** KV capacity of the endpoint in blocks; what no longer fits is forgotten, oldest first. */
  resize(endpoint: string, blocks: number): void;
  /** The engine is new and its cache empty. */
  forget(endpoint: string): void;
  /** Forgets every endpoint that is not among these, however its keys came here. */
  keep(endpoints: ReadonlySet<string>): void;
  /** Blocks held over all endpoints. */
  readonly blocks: number;
}

/** 53 bits of the key, as a number that a Map can hash; at 10^7 keys the chance of any collision is 0.5 %. */
const keyAt = (keys: BlockKeys, block: number): number =>
  ((keys[block * 2 + 1] ?? 0) & 0x1fffff) * 2 ** 32 + ((keys[block * 2] ?? 0) >>> 0);

export function createApproximateIndex(defaultBlocks: number): PrefixIndex {
  const held = new Map<string, LRUCache<number, true>>();
  const of = (endpoint: string): LRUCache<number, true> => {
    const known = held.get(endpoint) ?? new LRUCache<number, true>({ max: defaultBlocks });
    held.set(endpoint, known);
    return known;
  };
  return {
    match: (endpoint, keys) => {
      const cache = held.get(endpoint);
      const count = cache === undefined ? 0 : blockCount(keys);
      let block = 0;
      while (block < count && cache?.has(keyAt(keys, block)) === true) block += 1;
      return block;
    },
    record: (endpoint, keys) => {
      const cache = of(endpoint);
      // Last block first: the start of a prompt is then the most recent, and eviction takes tails before heads.
      for (let block = blockCount(keys) - 1; block >= 0; block--) cache.set(keyAt(keys, block), true);
    },
    resize: (endpoint, blocks) => {
      const old = held.get(endpoint);
      if (old?.max === blocks) return;
      const cache = new LRUCache<number, true>({ max: blocks });
      if (old !== undefined) cache.load(old.dump());
      held.set(endpoint, cache);
    },
    forget: (endpoint) => void held.delete(endpoint),
    keep: (endpoints) => {
      for (const endpoint of held.keys()) if (!endpoints.has(endpoint)) held.delete(endpoint);
    },
    get blocks() {
      let sum = 0;
      for (const cache of held.values()) sum += cache.size;
      return sum;
    },
  };
}
