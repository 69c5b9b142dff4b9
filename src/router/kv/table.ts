/**
 * Which endpoints hold which block: one open-addressing table in shared memory, for all endpoints together.
 *
 * One writer; readers on other threads take no lock. A slot is four 32-bit words: the key, and its holders. A holder is an
 * endpoint and one of eight marks (generations of a history, tiers of a cache): up to four stand in the slot, more in a
 * row of the pool. Every endpoint has a mask of live marks: what the mask does not show does not exist, so that an
 * endpoint or a generation of it vanishes in constant time, and `sweep` clears it away later.
 *
 * A slot that is given up is filled at once from behind its run, so that no marker of it is left: with markers a full
 * table that learns on has soon no empty slot, and each search for a missing key walks through all of it.
 *
 * Readers may meet a slot that is being written or moved: they see a miss, or for one question a holder too many; never a
 * torn word (aligned 32-bit loads), never an endless loop. Layout: reference node-performance.md, section 7.
 */
import type { Random } from "../../ports.ts";
import type { BlockKeys } from "./blocks.ts";
import { areLive, IN_ROW, isNobody, type Value } from "./holders.ts";
import { MatchWalk, type Matches } from "./match.ts";
import { RowPool } from "./rows.ts";

export interface Geometry {
  /** A power of two; 16 bytes each. */
  readonly slots: number;
  /** Endpoints that can be told apart, at most 8190. */
  readonly endpoints: number;
  /** Sets of more than four holders that can be told apart; `endpoints` bytes each. */
  readonly rows: number;
  /**
   * By what the slot of a key is chosen; default: the lowest bits of the key. Whoever writes prompts can choose keys, and could
   * have thousands of them meet in one place: so where prompts come from outside, this is a secret of `secretOf`.
   */
  readonly secret?: Secret;
}

/** Multipliers of the two words of a key. */
export type Secret = readonly [low: number, high: number];

/** Odd numbers, so that no bit of a key is lost: multiply-shift hashing (Dietzfelbinger and others, 1997). */
export const secretOf = (random: Pick<Random, "next">): Secret => [odd(random.next()), odd(random.next())];

const odd = (share: number): number => (Math.floor(share * 2 ** 31) * 2 + 1) | 0;

/** Words of a slot: key low, key high, holders. */
const SLOT_WORDS = 4;
/** High key word of the slot from which a block is moved, so that readers go on to those behind it. */
const MOVING_HIGH = 1;
/** Blocks whose slots are read ahead; a power of two. */
const AHEAD = 128;
/** More of the slots are never filled: beyond, a search for a missing key becomes long (8.5 probes at 0.75). */
const MAX_LOAD = 0.75;

/** Bytes of shared memory that a table of this geometry takes, exactly. */
export const bytesOf = ({ slots, endpoints, rows }: Geometry): number =>
  slots * SLOT_WORDS * 4 + rowBytes(endpoints) * rows + rowBytes(endpoints);

/** Whole words, so that rows can be compared and copied by words. */
const rowBytes = (endpoints: number): number => Math.ceil(endpoints / 4) * 4;

export class HolderTable {
  readonly geometry: Geometry;
  readonly buffer: SharedArrayBuffer;
  /** Live marks by endpoint. */
  readonly live: Uint8Array;
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** The home of a key is as many of the highest bits of its words' sum, each times its multiplier. */
  readonly #shift: number;
  readonly #byLow: number;
  readonly #byHigh: number;
  readonly #pool: RowPool;
  readonly #walk: MatchWalk;
  /** Slots that hold a key. */
  #used = 0;
  /** What was read ahead; kept, so that reading it is not left out. */
  touched = 0;
  /** The next slot to sweep. */
  #swept = 0;

  /** Over new memory, or over that of the thread that writes. */
  constructor(geometry: Geometry, buffer: SharedArrayBuffer = new SharedArrayBuffer(bytesOf(geometry))) {
    const { slots, endpoints, rows } = geometry;
    this.geometry = geometry;
    this.buffer = buffer;
    this.#slots = new Int32Array(buffer, 0, slots * SLOT_WORDS);
    this.#mask = slots - 1;
    this.#shift = Math.clz32(slots - 1);
    [this.#byLow, this.#byHigh] = geometry.secret ?? [1 << this.#shift, 0];
    this.live = new Uint8Array(buffer, this.#slots.byteLength, rowBytes(endpoints));
    this.#pool = new RowPool(buffer, this.#slots.byteLength + this.live.byteLength, rowBytes(endpoints), rows);
    this.#walk = new MatchWalk(this.live, this.#pool);
  }

  get used(): number {
    return this.#used;
  }

  /** Only endpoints with a number below this one hold anything; default: any may. */
  given(endpoints: number): void {
    this.#walk.endpoints = endpoints;
  }

  /** Leading blocks of `keys` that each endpoint holds under one of these marks (as bits); valid until the next call. */
  match(keys: BlockKeys, marks = 0xff): Matches {
    this.#walk.begin(marks);
    const count = keys.length / 2;
    let block = 0;
    while (block < count) {
      block = this.#sameHolders(keys, block);
      if (block >= count) break;
      const at = this.#find(lowOf(keys, block), highOf(keys, block));
      if (at < 0 || !this.#walk.next(this.#slots[at + 2] ?? 0, this.#slots[at + 3] ?? 0, block)) break;
      block += 1;
    }
    return this.#walk.end(block);
  }

  /**
   * The first block from `block` on that has not the same holders as the one before it: most blocks of a prompt have. Nothing
   * else in the loop, so that the processor reads ahead: in a large table each slot is a read of memory.
   */
  #sameHolders(keys: BlockKeys, block: number): number {
    if (block === 0) return block;
    const slots = this.#slots;
    const { low: valueLow, high: valueHigh } = this.#walk.value;
    let next = block;
    for (; next < keys.length / 2; next++) {
      if ((next & (AHEAD - 1)) === 1) this.#touch(keys, next);
      const low = (keys[2 * next] as number) || 1;
      const at = this.#seek(low, keys[2 * next + 1] as number);
      if (slots[at + 2] !== valueLow || slots[at + 3] !== valueHigh || slots[at] !== low) break;
    }
    return next;
  }

  /**
   * Reads the homes of the next blocks, one after another with nothing that waits for them: so the memory is asked for all of
   * them at once, which a search that goes on only when it has compared cannot do.
   */
  #touch(keys: BlockKeys, block: number): void {
    const slots = this.#slots;
    const end = Math.min(2 * (block + AHEAD), keys.length);
    let touched = 0;
    for (let at = 2 * block; at < end; at += 2)
      touched ^= slots[this.#home(keys[at] as number, keys[at + 1] as number) * SLOT_WORDS] as number;
    this.touched = touched;
  }

  /**
   * The endpoint holds the block under this mark, and under no other: the mark it had, -1 where it had none, or undefined
   * where the table is full and nothing was written.
   */
  put(keys: BlockKeys, block: number, holder: number): number | undefined {
    const low = lowOf(keys, block);
    const high = highOf(keys, block);
    const at = this.#find(low, high);
    if (at < 0) return this.#insert(~at, low, high, holder) ? -1 : undefined;
    const before = this.#pool.markOf(this.#value(at), holder >> 3, this.live);
    if (before === (holder & 7)) return before;
    const value = this.#pool.with(this.#value(at), holder, this.live);
    if (value === undefined) return undefined;
    this.#write(at, value);
    return before;
  }

  /** The endpoint no longer holds the block under any of these marks. */
  drop(keys: BlockKeys, block: number, endpoint: number, marks = 0xff): void {
    const at = this.#find(lowOf(keys, block), highOf(keys, block));
    if (at < 0) return;
    if (this.#isAlone(at, endpoint, marks)) {
      this.#empty(at);
      return;
    }
    const value = this.#pool.without(this.#value(at), endpoint, marks, this.live);
    this.#write(at, value);
    if (isNobody(value)) this.#remove(at);
  }

  /** The endpoint is the only holder, under one of these marks, as mostly: then nothing is to be put together anew. */
  #isAlone(at: number, endpoint: number, marks: number): boolean {
    const holder = (this.#slots[at + 2] as number) - 1;
    if (this.#slots[at + 3] !== 0 || holder < 0 || holder > 0xfffe) return false;
    return holder >> 3 === endpoint && ((1 << (holder & 7)) & marks) !== 0;
  }

  #empty(at: number): void {
    this.#slots[at + 2] = 0;
    this.#remove(at);
  }

  /** Clears what no mask shows any more from the next `slots` slots; after all slots it begins anew. */
  sweep(slots: number): void {
    for (let left = Math.min(slots, this.geometry.slots); left > 0; left--) {
      const at = this.#swept * SLOT_WORDS;
      // What moves up into a slot that was cleared is looked at as well.
      while (this.#clean(at)) this.#remove(at);
      this.#swept = (this.#swept + 1) & this.#mask;
    }
  }

  /** Leaves those holders that live; true where none is left of a key. */
  #clean(at: number): boolean {
    const low = this.#slots[at + 2] ?? 0;
    const high = this.#slots[at + 3] ?? 0;
    if (high !== IN_ROW && areLive(low, high, this.live)) return low === 0 && high === 0 && this.#slots[at] !== 0;
    const rest = this.#pool.alive({ low, high }, this.live);
    if (rest.low === low && rest.high === high) return false;
    this.#write(at, rest);
    return isNobody(rest);
  }

  #value(at: number): Value {
    return { low: this.#slots[at + 2] ?? 0, high: this.#slots[at + 3] ?? 0 };
  }

  /** The high word first: a reader that sees it without the low one looks into a row that exists. */
  #write(at: number, { low, high }: Value): void {
    this.#pool.replace(this.#value(at), { low, high });
    this.#slots[at + 2] = low;
    this.#slots[at + 3] = high;
  }

  /** The slot at which the search for a key begins. */
  #home(low: number, high: number): number {
    return (Math.imul(low, this.#byLow) + Math.imul(high, this.#byHigh)) >>> this.#shift;
  }

  /** Where a key stands, or the slot with a low word of 0 at which the search for it ends: no key has that. */
  #seek(low: number, high: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = this.#home(low, high) * SLOT_WORDS;
    for (let word = slots[at]; word !== 0 && (word !== low || slots[at + 1] !== high); word = slots[at])
      at = (at + SLOT_WORDS) & mask;
    return at;
  }

  /** Where the key stands; where it does not, the empty slot at the end of its run, as its complement. */
  #find(low: number, high: number): number {
    let slot = this.#home(low, high);
    for (let steps = 0; steps <= this.#mask; slot = (slot + 1) & this.#mask, steps++) {
      const at = slot * SLOT_WORDS;
      const word = this.#slots[at] ?? 0;
      if (word === low && this.#slots[at + 1] === high) return at;
      if (word === 0 && this.#slots[at + 1] === 0) return ~at;
    }
    // Only a reader gets here, past slots that moved while it went by.
    return -1;
  }

  /** The first holder of a key that has none, in an empty slot; false where the table is full. */
  #insert(at: number, low: number, high: number, holder: number): boolean {
    if (this.#used >= MAX_LOAD * this.geometry.slots) return false;
    this.#used += 1;
    this.#slots[at + 2] = holder + 1;
    this.#slots[at + 3] = 0;
    this.#name(at, low, high);
    return true;
  }

  /** The low word last: what readers find by it is written. */
  #name(at: number, low: number, high: number): void {
    this.#slots[at + 1] = high;
    this.#slots[at] = low;
  }

  /** Empties a slot that nobody holds: those of its run that may stand nearer to their home move up. */
  #remove(at: number): void {
    this.#used -= 1;
    let hole = at / SLOT_WORDS;
    this.#name(at, 0, MOVING_HIGH);
    for (let slot = (hole + 1) & this.#mask; this.#slots[slot * SLOT_WORDS] !== 0; slot = (slot + 1) & this.#mask) {
      const home = this.#home(this.#slots[slot * SLOT_WORDS] ?? 0, this.#slots[slot * SLOT_WORDS + 1] ?? 0);
      if (this.#distance(home, slot) < this.#distance(hole, slot)) continue;
      this.#move(slot, hole);
      hole = slot;
    }
    this.#slots[hole * SLOT_WORDS + 1] = 0;
  }

  #distance(from: number, to: number): number {
    return (to - from) & this.#mask;
  }

  /** The copy stands before the old one goes. */
  #move(from: number, to: number): void {
    const source = from * SLOT_WORDS;
    const target = to * SLOT_WORDS;
    // Out of what is still to be swept into what was: it would be missed. Without a holder left it goes in the next round.
    if (this.#distance(this.#swept, from) < this.#distance(this.#swept, to)) this.#clean(source);
    this.#slots[target + 2] = this.#slots[source + 2] ?? 0;
    this.#slots[target + 3] = this.#slots[source + 3] ?? 0;
    this.#name(target, this.#slots[source] ?? 0, this.#slots[source + 1] ?? 0);
    this.#name(source, 0, MOVING_HIGH);
    this.#slots[source + 2] = 0;
    this.#slots[source + 3] = 0;
  }
}

/** A low word of zero marks slots without a key: such keys share the word 1, one in 2^32. */
const lowOf = (keys: BlockKeys, block: number): number => keys[block * 2] || 1;
const highOf = (keys: BlockKeys, block: number): number => keys[block * 2 + 1] ?? 0;
