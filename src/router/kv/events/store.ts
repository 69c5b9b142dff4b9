/**
 * The blocks that one engine says it holds: its hash of each, and what that block is to the router.
 *
 * Engines name blocks by hashes of their own, seeded anew by each process; parents and removals speak of blocks by them
 * alone. So each is kept beside the router's key for it, with how often the engine stored it in which tier: vLLM keeps equal
 * blocks apart, and says of each one that it goes. Open addressing over arrays of numbers, 22 bytes a block and 4 to 8 for
 * the index; a Map of bigints took 72 for the index alone. Never larger than it was made: who adds gives up another first.
 */
import { NOWHERE, WordArena } from "./arena.ts";
import { TIER, type Tier } from "./batch.ts";

/** No such block. */
export const NONE = -1;

/** A tier counts to here: of a block that is stored more often, what is beyond is not counted, and not missed. */
const MOST = 255;

/** Bytes of a block with one key, at most: the pool grows by a quarter, the index is filled to between 3/10 and 6/10. */
export const BYTES_PER_BLOCK = 40;

const FIRST = 256;
const GROWTH = 1.25;
const INDEX_LOAD = 0.6;

export interface StoreLimits {
  /** Blocks of the engine, at most. */
  readonly blocks: number;
  /** Words for keys and tokens of blocks that are not exactly one block of the router, at most. */
  readonly words: number;
}

export class BlockStore {
  #limits: StoreLimits;
  readonly #seed: number;
  #hashes: Int32Array<ArrayBuffer> = new Int32Array(2 * FIRST);
  /** Of each block: the key of the router's block that ended last, at its end or before it. */
  keys: Int32Array<ArrayBuffer> = new Int32Array(2 * FIRST);
  /** How often it is stored, by tier. */
  readonly #counts: Record<Tier, Uint8Array<ArrayBuffer>> = {
    [TIER.device]: new Uint8Array(FIRST),
    [TIER.host]: new Uint8Array(FIRST),
    [TIER.shared]: new Uint8Array(FIRST),
  };
  /** Router's blocks that end in it; 255 in a place that is free. */
  own: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST).fill(FREE);
  /** Tokens behind the last of them. */
  rest: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST);
  /** Where keys before the last one, and the tokens of the rest, stand in `arena`; made when first needed. */
  #more: Int32Array<ArrayBuffer> | undefined;
  /** When it was last stored, in rounds of the clock; made when first needed. */
  #rounds: Uint8Array<ArrayBuffer> | undefined;
  readonly arena: WordArena;
  #index: Int32Array<ArrayBuffer> = new Int32Array(2 * FIRST);
  #size = 0;
  #used = 0;
  #freed: number[] = [];
  #hand = 0;

  /** @param seed unknown to engines: none can make its hashes meet in one place */
  constructor(limits: StoreLimits, seed: number) {
    this.#limits = limits;
    this.#seed = seed;
    this.arena = new WordArena(limits.words);
  }

  /** Blocks in it. */
  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    const places = this.own.length;
    return places * 22 + this.#index.byteLength + this.arena.bytes + (this.#more?.byteLength ?? 0);
  }

  get isFull(): boolean {
    return this.#size >= this.#limits.blocks;
  }

  get isOver(): boolean {
    return this.#size > this.#limits.blocks;
  }

  limit(blocks: number): void {
    this.#limits = { ...this.#limits, blocks };
  }

  /** The block of this hash, or NONE. */
  find(low: number, high: number): number {
    const mask = this.#index.length - 1;
    for (let at = this.#home(low, high) & mask; ; at = (at + 1) & mask) {
      const block = (this.#index[at] as number) - 1;
      if (block < 0) return NONE;
      if (this.#hashes[2 * block] === low && this.#hashes[2 * block + 1] === high) return block;
    }
  }

  /** A new block, of which nothing is known; the hash must not be in it, and it must not be full. */
  add(low: number, high: number): number {
    const block = this.#freed.pop() ?? this.#used++;
    if (block >= this.own.length) this.#grow();
    if (this.#size + 1 > INDEX_LOAD * this.#index.length) this.#reindex();
    this.#hashes[2 * block] = low;
    this.#hashes[2 * block + 1] = high;
    this.own[block] = this.rest[block] = 0;
    if (this.#more !== undefined) this.#more[block] = NOWHERE;
    this.#size += 1;
    this.#insert(block);
    return block;
  }

  /** Takes it out; its words are to be given back before. */
  remove(block: number): void {
    const mask = this.#index.length - 1;
    let at = this.#home(this.#hashes[2 * block] as number, this.#hashes[2 * block + 1] as number) & mask;
    while (this.#index[at] !== block + 1) at = (at + 1) & mask;
    this.#close(at, mask);
    this.own[block] = FREE;
    for (const tier of TIERS) this.#counts[tier][block] = 0;
    this.#freed.push(block);
    this.#size -= 1;
  }

  /** The next block to go where another has to come: in turn, so that none stays for ever. NONE in an empty store. */
  next(): number {
    if (this.#size === 0) return NONE;
    do this.#hand = this.#hand + 1 >= this.#used ? 0 : this.#hand + 1;
    while (this.own[this.#hand] === FREE);
    return this.#hand;
  }

  /** Every block; what is removed meanwhile is not met again. */
  each(visit: (block: number) => void): void {
    for (let block = 0; block < this.#used; block++) if (this.own[block] !== FREE) visit(block);
  }

  /** Tiers in which it is, as bits. */
  tiers(block: number): number {
    let tiers = 0;
    for (const tier of TIERS) if (this.#counts[tier][block] !== 0) tiers |= tier;
    return tiers;
  }

  stored(block: number, tier: Tier): void {
    const counts = this.#counts[tier];
    counts[block] = Math.min(MOST, (counts[block] as number) + 1);
  }

  /** Once less, and never less than not at all. */
  removed(block: number, tier: Tier): void {
    const counts = this.#counts[tier];
    counts[block] = Math.max(0, (counts[block] as number) - 1);
  }

  /** It is in this tier no more, however often it was. */
  cleared(block: number, tier: Tier): void {
    this.#counts[tier][block] = 0;
  }

  /** Where its words stand in `arena`. */
  more(block: number): number {
    return this.#more?.[block] ?? NOWHERE;
  }

  setMore(block: number, at: number): void {
    this.#more ??= new Int32Array(this.own.length).fill(NOWHERE);
    this.#more[block] = at;
  }

  round(block: number): number {
    return this.#rounds?.[block] ?? 0;
  }

  setRound(block: number, round: number): void {
    this.#rounds ??= new Uint8Array(this.own.length);
    this.#rounds[block] = round & 0xff;
  }

  #home(low: number, high: number): number {
    const mixed = Math.imul(low ^ this.#seed, 0x9e3779b1) ^ Math.imul(high, 0x85ebca77);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  #insert(block: number): void {
    const mask = this.#index.length - 1;
    let at = this.#home(this.#hashes[2 * block] as number, this.#hashes[2 * block + 1] as number) & mask;
    while (this.#index[at] !== 0) at = (at + 1) & mask;
    this.#index[at] = block + 1;
  }

  /** Fills the hole from behind its run. */
  #close(from: number, mask: number): void {
    let hole = from;
    for (let at = (hole + 1) & mask; this.#index[at] !== 0; at = (at + 1) & mask) {
      const block = (this.#index[at] as number) - 1;
      const home = this.#home(this.#hashes[2 * block] as number, this.#hashes[2 * block + 1] as number) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      this.#index[hole] = block + 1;
      hole = at;
    }
    this.#index[hole] = 0;
  }

  #reindex(): void {
    this.#index = new Int32Array(2 * this.#index.length);
    const size = this.#used;
    for (let block = 0; block < size; block++) if (this.own[block] !== FREE) this.#insert(block);
  }

  #grow(): void {
    const places = Math.ceil(this.own.length * GROWTH);
    this.#hashes = copied(new Int32Array(2 * places), this.#hashes);
    this.keys = copied(new Int32Array(2 * places), this.keys);
    for (const tier of TIERS) this.#counts[tier] = copied(new Uint8Array(places), this.#counts[tier]);
    this.own = copied(new Uint8Array(places).fill(FREE), this.own);
    this.rest = copied(new Uint8Array(places), this.rest);
    if (this.#more !== undefined) this.#more = copied(new Int32Array(places).fill(NOWHERE), this.#more);
    if (this.#rounds !== undefined) this.#rounds = copied(new Uint8Array(places), this.#rounds);
  }
}

const FREE = 255;
const TIERS: readonly Tier[] = [TIER.device, TIER.host, TIER.shared];

function copied<T extends Int32Array | Uint8Array>(into: T, from: T): T {
  into.set(from);
  return into;
}
