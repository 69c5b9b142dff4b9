/**
 * One engine's cache as its events tell of it: from each batch to the blocks that it holds.
 *
 * Decides what is believed: only groups with full attention, only blocks whose tokens are all there and whose parent is
 * known, from which the router's own keys follow. Blocks of the engine may be larger or smaller than the router's. What
 * cannot be placed is counted by reason. Never asks whether a batch is the right one: that is `sequence.ts`'s.
 */
import type { BlockEvent, EventBatch } from "./batch.ts";
import type { ChainPoint, TokenChain } from "./chain.ts";
import { MAX_OWN, type HeldBlocks, type NewBlock } from "./held.ts";
import type { Roots } from "./roots.ts";
import { NONE } from "./store.ts";

/** Why an event, or a block of one, is not believed. */
export type Ignored = "group" | "masked" | "parent" | "block" | "size" | "memory" | "unknown";

export interface CacheOptions {
  readonly chain: TokenChain;
  readonly roots: Roots;
  /** Takes what was held so far, and gives a place for what comes. */
  readonly renew: (held: HeldBlocks | undefined) => HeldBlocks;
}

/** What happened: blocks stored and removed, caches cleared; what was ignored counts blocks, or events where none are meant. */
export interface CacheCounts {
  stored: number;
  removed: number;
  cleared: number;
  readonly ignored: Map<Ignored, number>;
}

export const newCounts = (): CacheCounts => ({ stored: 0, removed: 0, cleared: 0, ignored: new Map() });

/** Groups of one engine's cache that are told apart. */
const MAX_GROUPS = 31;
/** Blocks that are given up in the time that it takes to make a new place, 50 us. */
const FEW = 64;

export class EngineCache {
  readonly #options: CacheOptions;
  held: HeldBlocks;
  /** How often all was forgotten. */
  clears = 0;
  readonly #counts: CacheCounts;
  /** Groups without full attention, as bits: what they remove is not ours. */
  #partial = 0;
  /** Tokens behind the last whole block, and those of an event behind them. */
  #tokens = new Int32Array(1024);
  #out = new Int32Array(1024);
  readonly #point: ChainPoint = { low: 0, high: 0 };
  /** The block that is looked at; the same object for each, and `start` with it. */
  readonly #next: NewBlock & { readonly start: ChainPoint };

  constructor(options: CacheOptions, counts: CacheCounts) {
    this.#options = options;
    this.#counts = counts;
    const place = { out: this.#out, tokens: this.#tokens, from: 0, to: 0, tail: 0, end: 0 };
    this.#next = { ...place, low: 0, high: 0, start: { low: 0, high: 0 } };
    this.held = options.renew(undefined);
  }

  /** Forgets all, in constant time. Few blocks are given up at once: another place would cost more than they do. */
  clear(): void {
    this.clears += 1;
    if (this.held.bury(FEW)) return;
    this.held = this.#options.renew(this.held);
  }

  /** Believes one batch. True where the engine's cache was cleared in it: from there on all of it is known. */
  apply(batch: EventBatch): boolean {
    let cleared = false;
    if (batch.unknown > 0) this.#ignore("unknown", batch.unknown);
    for (let at = 0; at < batch.count; at++) {
      const event = batch.event(at);
      if (event.kind === "stored") this.#stored(batch, event);
      else if (event.kind === "removed") this.#removed(batch, event);
      else {
        this.#counts.cleared += 1;
        this.clear();
        cleared = true;
      }
    }
    return cleared;
  }

  #stored(batch: EventBatch, event: BlockEvent): void {
    if (!this.#isFull(event)) {
      this.#ignore("group");
      return;
    }
    if (event.tokenCount === 0) {
      this.#moved(batch, event);
      return;
    }
    const { hashCount, blockSize, tokenCount } = event;
    // A page may be short at its end; tokens of blocks that are left out cannot be told from the others.
    const spare = hashCount * blockSize - tokenCount;
    if (spare < 0 || spare >= blockSize) {
      this.#ignore("masked");
      return;
    }
    if (blockSize > MAX_OWN * this.#options.chain.blockTokens) {
      this.#ignore("size");
      return;
    }
    const rest = this.#begin(event);
    if (rest === NONE) {
      this.#ignore("parent", hashCount);
      return;
    }
    this.#place(batch, event, rest);
  }

  #isFull({ group, isFull }: BlockEvent): boolean {
    if (!isFull && group < MAX_GROUPS) this.#partial |= 1 << group;
    return isFull;
  }

  /** Sets the point of the chain behind the parent, and the tokens since; how many, or NONE where it is unknown. */
  #begin({ hasParent, parentLow, parentHigh, lora, salt }: BlockEvent): number {
    let rest = 0;
    if (hasParent) {
      const parent = this.held.find(parentLow, parentHigh);
      if (parent === NONE) return NONE;
      rest = this.held.resume(parent, this.#point, this.#tokens);
    } else copy(this.#options.roots.of(lora, salt), this.#point);
    copy(this.#point, this.#next.start);
    return rest;
  }

  /** The blocks of an event, one after another; `rest` tokens are there from before. */
  #place(batch: EventBatch, event: BlockEvent, rest: number): void {
    const { chain } = this.#options;
    const count = rest + event.tokenCount;
    const whole = rest === 0 && event.blockSize % chain.blockTokens === 0 && count % chain.blockTokens === 0;
    const blocks = Math.floor(count / chain.blockTokens);
    if (this.#out.length < 2 * blocks) this.#out = new Int32Array(4 * blocks);
    if (!whole || event.extraAt >= 0) this.#gather(batch, event, rest);
    // In one call, unless something beside tokens comes between them.
    if (event.extraAt >= 0) {
      this.#each(batch, event, rest);
      return;
    }
    if (whole) chain.extend(this.#point, batch.tokens, [event.tokenAt, count], this.#out);
    else chain.extend(this.#point, this.#tokens, [0, count], this.#out);
    this.#each(batch, event, rest);
  }

  #gather({ tokens }: EventBatch, { tokenAt, tokenCount }: BlockEvent, rest: number): void {
    if (this.#tokens.length < rest + tokenCount) {
      const larger = new Int32Array(2 * (rest + tokenCount));
      larger.set(this.#tokens.subarray(0, rest));
      this.#tokens = larger;
    }
    this.#tokens.set(tokens.subarray(tokenAt, tokenAt + tokenCount), rest);
  }

  #each(batch: EventBatch, event: BlockEvent, rest: number): void {
    const { blockTokens } = this.#options.chain;
    const last = rest + event.tokenCount;
    const block = this.#next;
    block.out = this.#out;
    block.tokens = this.#tokens;
    block.end = rest;
    block.to = 0;
    for (let at = 0; at < event.hashCount; at++) {
      block.from = block.to;
      block.end = Math.min(last, block.end + event.blockSize);
      block.to = Math.floor(block.end / blockTokens);
      block.tail = block.end - block.to * blockTokens;
      if (event.extraAt >= 0) this.#mix(batch.extras[event.extraAt + at] as number);
      block.low = batch.hashes[2 * (event.hashAt + at)] as number;
      block.high = batch.hashes[2 * (event.hashAt + at) + 1] as number;
      this.#one(event);
    }
  }

  /** Where something beside tokens enters, keys are made block by block. */
  #mix(digest: number): void {
    const { chain } = this.#options;
    const { from, end } = this.#next;
    this.#point.low ^= digest;
    const tokens = [from * chain.blockTokens, end - from * chain.blockTokens] as const;
    chain.extend(this.#point, this.#tokens, tokens, this.#out.subarray(2 * from));
    copy(this.#point, this.#next.start);
  }

  #one(event: BlockEvent): void {
    const block = this.#next;
    const known = this.held.find(block.low, block.high);
    const at = known === NONE ? this.held.add(block) : known;
    if (at === NONE) this.#ignore("memory");
    else this.#count(at, event);
    if (block.to === block.from || event.extraAt >= 0) return;
    // Where no key ends in the next block either, its chain stands where this one's does.
    block.start.low = block.out[2 * block.to - 2] as number;
    block.start.high = block.out[2 * block.to - 1] as number;
  }

  #count(block: number, { tier, pooled }: BlockEvent): void {
    this.#counts.stored += 1;
    this.held.stored(block, tier, pooled);
  }

  /** Without tokens: blocks that are known are in another tier as well. */
  #moved(batch: EventBatch, event: BlockEvent): void {
    for (let at = event.hashAt; at < event.hashAt + event.hashCount; at++) {
      const block = this.#find(batch, at);
      if (block !== NONE) this.#count(block, event);
    }
  }

  #removed(batch: EventBatch, { hashAt, hashCount, tier, group }: BlockEvent): void {
    if (group < MAX_GROUPS && (this.#partial & (1 << group)) !== 0) {
      this.#ignore("group");
      return;
    }
    for (let at = hashAt; at < hashAt + hashCount; at++) {
      const block = this.#find(batch, at);
      if (block === NONE) continue;
      this.#counts.removed += 1;
      this.held.removed(block, tier);
    }
  }

  #find({ hashes }: EventBatch, at: number): number {
    const block = this.held.find(hashes[2 * at] as number, hashes[2 * at + 1] as number);
    if (block === NONE) this.#ignore("block");
    return block;
  }

  #ignore(why: Ignored, by = 1): void {
    const { ignored } = this.#counts;
    ignored.set(why, (ignored.get(why) ?? 0) + by);
  }
}

function copy(from: Readonly<ChainPoint>, to: ChainPoint): void {
  to.low = from.low;
  to.high = from.high;
}
