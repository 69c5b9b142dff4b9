/**
 * A batch of KV events, decoded: numbers in arrays that serve again for the next batch, and an object for each event, which
 * serves again too. Valid until the next batch is decoded into it.
 */

/** Where a block lies; lower is nearer. */
export const TIER = {
  /** In the accelerator's memory: a hit costs nothing. */
  device: 1,
  /** In the host's memory: it is copied back. */
  host: 2,
  /** On a disk, or in a store that several engines share. */
  shared: 4,
} as const;

export type Tier = (typeof TIER)[keyof typeof TIER];

export interface BlockEvent {
  kind: "stored" | "removed" | "cleared";
  /** Hashes, as pairs of words in `hashes` from here. */
  hashAt: number;
  hashCount: number;
  hasParent: boolean;
  parentLow: number;
  parentHigh: number;
  tokenAt: number;
  tokenCount: number;
  blockSize: number;
  tier: Tier;
  /** In a store that tells of nothing removed: believed for a while only. */
  pooled: boolean;
  /** Name of the adapter; `#` and its number from engines that do not name it. */
  lora: string | undefined;
  /** What separates the blocks from those of other tenants with the same tokens. */
  salt: string | undefined;
  /** The first block of it has other keys beside its tokens (images), and their digests stand here; -1: none has. */
  extraAt: number;
  group: number;
  /** Of a cache group in which each block is there for the next ones to build on. */
  isFull: boolean;
}

const newEvent = (): BlockEvent => ({
  kind: "cleared",
  hashAt: 0,
  hashCount: 0,
  hasParent: false,
  parentLow: 0,
  parentHigh: 0,
  tokenAt: 0,
  tokenCount: 0,
  blockSize: 0,
  tier: TIER.device,
  pooled: false,
  lora: undefined,
  salt: undefined,
  extraAt: -1,
  group: 0,
  isFull: true,
});

/** Exact bounds: a message of more is refused. At vLLM's 8192 tokens a step the largest is about a thirtieth of it. */
export const MAX_EVENTS = 65_536;
export const MAX_HASHES = 262_144;
export const MAX_TOKENS = 1_048_576;

export class EventBatch {
  /** The engine's clock when it published, in seconds. */
  time = 0;
  rank: number | undefined;
  count = 0;
  /** Pairs of words, low and high. */
  hashes = new Int32Array(1024);
  hashCount = 0;
  tokens = new Int32Array(16_384);
  tokenCount = 0;
  extras = new Int32Array(64);
  extraCount = 0;
  /** Events of kinds that are not known here. */
  unknown = 0;
  readonly #events: BlockEvent[] = [];

  reset(): void {
    this.time = 0;
    this.rank = undefined;
    this.count = this.hashCount = this.tokenCount = this.extraCount = this.unknown = 0;
  }

  event(index: number): BlockEvent {
    return this.#events[index] as BlockEvent;
  }

  /** A further event, as if nothing were said of it. */
  next(): BlockEvent {
    const event = (this.#events[this.count] ??= newEvent());
    this.count += 1;
    event.hashAt = this.hashCount;
    event.tokenAt = this.tokenCount;
    event.hashCount = event.tokenCount = event.blockSize = event.group = 0;
    event.hasParent = event.pooled = false;
    event.tier = TIER.device;
    event.lora = event.salt = undefined;
    event.extraAt = -1;
    event.isFull = true;
    return event;
  }

  /** Room for so many more; the caller has checked the bound. */
  reserveHashes(count: number): void {
    this.hashes = grown(this.hashes, 2 * (this.hashCount + count));
  }

  reserveTokens(count: number): void {
    this.tokens = grown(this.tokens, this.tokenCount + count);
  }

  reserveExtras(count: number): void {
    this.extras = grown(this.extras, this.extraCount + count);
  }
}

function grown(array: Int32Array<ArrayBuffer>, needed: number): Int32Array<ArrayBuffer> {
  if (array.length >= needed) return array;
  const larger = new Int32Array(Math.max(needed, 2 * array.length));
  larger.set(array);
  return larger;
}
