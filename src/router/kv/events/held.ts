/**
 * The blocks of one engine and what the shared table shows of them: added, counted by tier, given up, all within a quota.
 *
 * Knows nothing of events. A block of the engine carries the keys of the router's blocks that end in it; the tokens behind
 * the last of these wait in it for the blocks that follow.
 */
import type { BlockKeys } from "../blocks.ts";
import type { HolderTable } from "../table.ts";
import { NOWHERE } from "./arena.ts";
import { TIER, type Tier } from "./batch.ts";
import type { ChainPoint } from "./chain.ts";
import { Presence } from "./presence.ts";
import { BlockStore, NONE, type StoreLimits } from "./store.ts";

export interface CacheLimits extends StoreLimits {
  /** Blocks of the router, at most. */
  readonly keys: number;
}

/** A block to be: keys `from` up to `to` of `out` end in it, and the last `tail` of the tokens before `end` are left over. */
export interface NewBlock {
  low: number;
  high: number;
  out: BlockKeys;
  from: number;
  to: number;
  tokens: Int32Array;
  tail: number;
  end: number;
  /** Of the chain, where no key ends in it. */
  readonly start: ChainPoint;
}

/** Keys in one block: 4000 tokens at 16 each. Larger ones are in no engine that is known. */
export const MAX_OWN = 250;

export class HeldBlocks {
  /** The engine's number in the table; nobody else writes under it. */
  readonly id: number;
  readonly #store: BlockStore;
  readonly #presence: Presence;
  #maxKeys: number;
  /** Router's blocks in it. */
  #keys = 0;
  /** Blocks that found no place in the table. */
  full = 0;
  #pools = false;
  /** Some blocks were ever in another tier than the nearest. */
  isTiered = false;
  #round = 0;

  constructor(table: HolderTable, id: number, limits: CacheLimits, seed: number) {
    this.id = id;
    this.#maxKeys = limits.keys;
    this.#store = new BlockStore(limits, seed);
    this.#presence = new Presence(table, id);
  }

  /** Blocks of the engine. */
  get blocks(): number {
    return this.#store.size;
  }

  get keys(): number {
    return this.#keys;
  }

  get bytes(): number {
    return this.#store.bytes;
  }

  limit({ blocks, keys }: CacheLimits): void {
    this.#store.limit(blocks);
    this.#maxKeys = keys;
  }

  find(low: number, high: number): number {
    return this.#store.find(low, high);
  }

  /** The point of the chain at the end of a block into `point`, and the tokens since into `tokens`: how many. */
  resume(block: number, point: ChainPoint, tokens: Int32Array): number {
    const { keys, rest: rests, own, arena } = this.#store;
    point.low = keys[2 * block] as number;
    point.high = keys[2 * block + 1] as number;
    const rest = rests[block] as number;
    const from = this.#store.more(block) + earlier(own[block] as number);
    for (let at = 0; at < rest; at++) tokens[at] = arena.words[from + at] as number;
    return rest;
  }

  /** A block that is not there yet, in no tier so far; NONE where there is no memory for it. */
  add(block: Readonly<NewBlock>): number {
    const own = block.to - block.from;
    this.#makeRoom(own);
    const words = wordsOf(own, block.tail);
    const more = words === 0 ? NOWHERE : this.#store.arena.take(words);
    if (words > 0 && more === NOWHERE) return NONE;
    const at = this.#store.add(block.low, block.high);
    this.#store.own[at] = own;
    this.#store.rest[at] = block.tail;
    if (words > 0) this.#keepWords(at, more, block);
    const { keys } = this.#store;
    keys[2 * at] = own > 0 ? (block.out[2 * block.to - 2] as number) : block.start.low;
    keys[2 * at + 1] = own > 0 ? (block.out[2 * block.to - 1] as number) : block.start.high;
    this.#keys += own;
    return at;
  }

  #keepWords(at: number, more: number, { out, from, to, tokens, tail, end }: NewBlock): void {
    this.#store.setMore(at, more);
    const { words } = this.#store.arena;
    for (let word = 2 * from; word < 2 * to - 2; word++) words[more + word - 2 * from] = out[word] as number;
    for (let token = 0; token < tail; token++)
      words[more + earlier(to - from) + token] = tokens[end - tail + token] as number;
  }

  /** Stored once more. `pooled`: in a place that never says what it removes. */
  stored(block: number, tier: Tier, pooled: boolean): void {
    const had = this.#store.tiers(block);
    this.#store.stored(block, tier);
    if (tier !== TIER.device) this.isTiered = true;
    if (pooled) {
      this.#pools = true;
      this.#store.setRound(block, this.#round);
    }
    if ((had & tier) === 0) this.#show(block, had, had | tier);
  }

  /** Once less; with the last one it is gone. */
  removed(block: number, tier: Tier): void {
    const had = this.#store.tiers(block);
    this.#store.removed(block, tier);
    this.#changed(block, had);
  }

  /** A round of the clock has gone by: what a pool was last told of `rounds` rounds ago is believed no more. */
  tick(rounds: number): void {
    this.#round = (this.#round + 1) & 0xff;
    if (!this.#pools) return;
    this.#store.each((block) => {
      const had = this.#store.tiers(block);
      if ((had & TIER.shared) === 0 || ((this.#round - this.#store.round(block)) & 0xff) < rounds) return;
      this.#store.cleared(block, TIER.shared);
      this.#changed(block, had);
    });
  }

  /** Gives up so many blocks, in turn. True where none is left. */
  bury(most: number): boolean {
    for (let left = most; left > 0 && this.#store.size > 0; left--) this.#forget(this.#store.next());
    return this.#store.size === 0;
  }

  /** Gives up so many blocks of those beyond the quota, which may have become smaller. True where none is left. */
  trim(most: number): boolean {
    for (let left = most; left > 0 && this.#isOver(); left--) this.#forget(this.#store.next());
    return !this.#isOver();
  }

  #changed(block: number, had: number): void {
    const now = this.#store.tiers(block);
    if (now === had) return;
    this.#show(block, had, now);
    if (now === 0) this.#drop(block);
  }

  /** To readers. */
  #show(block: number, had: number, now: number): void {
    const own = this.#store.own[block] as number;
    if (own === 0) return;
    const { keys, arena } = this.#store;
    let fits = this.#presence.change(keys, block, had, now);
    const from = this.#store.more(block);
    for (let at = 0; at < earlier(own); at += 2)
      fits = this.#presence.change(arena.words.subarray(from + at, from + at + 2), 0, had, now) && fits;
    if (!fits) this.full += 1;
  }

  #drop(block: number): void {
    const own = this.#store.own[block] as number;
    const words = wordsOf(own, this.#store.rest[block] as number);
    if (words > 0) this.#store.arena.giveBack(this.#store.more(block), words);
    this.#keys -= own;
    this.#store.remove(block);
  }

  #forget(block: number): void {
    this.#show(block, this.#store.tiers(block), 0);
    this.#drop(block);
  }

  #makeRoom(keys: number): void {
    while (this.#store.size > 0 && (this.#store.isFull || this.#keys + keys > this.#maxKeys))
      this.#forget(this.#store.next());
  }

  #isOver(): boolean {
    return this.#store.isOver || this.#keys > this.#maxKeys;
  }
}

/** Words of the keys before the last one. */
const earlier = (own: number): number => 2 * Math.max(0, own - 1);
const wordsOf = (own: number, rest: number): number => earlier(own) + rest;
