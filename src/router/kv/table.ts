/**
 * Which endpoints hold which block: one open-addressing table in shared memory, for all endpoints together.
 *
 * One writer; readers on other threads take no lock. A slot is four 32-bit words: the key, and its holders. A holder is an
 * endpoint and one of eight marks (generations of a history, tiers of a cache): up to four stand in the slot, more in a
 * row of the pool. Every endpoint has a mask of live marks: what the mask does not show does not exist, so that an
 * endpoint or a generation of it vanishes in constant time, and `sweep` clears it away later.
 *
 * Readers may meet a slot that is being written: they see a miss, or for one question a holder too many; never a torn
 * word (aligned 32-bit loads), never an endless loop. Layout: reference node-performance.md, section 7.
 */
import type { BlockKeys } from "./blocks.ts";
import { isNobody, type Value } from "./holders.ts";
import { MatchWalk, type Matches } from "./match.ts";
import { RowPool } from "./rows.ts";

export interface Geometry {
  /** A power of two; 16 bytes each. */
  readonly slots: number;
  /** Endpoints that can be told apart, at most 8190. */
  readonly endpoints: number;
  /** Sets of more than four holders that can be told apart; `endpoints` bytes each. */
  readonly rows: number;
}

/** Words of a slot: key low, key high, holders. */
const SLOT_WORDS = 4;
/** Key of a slot whose block is gone while others of its run stand behind it. */
const GONE_HIGH = 1;
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
  readonly #pool: RowPool;
  readonly #walk: MatchWalk;
  /** Slots that hold a key. */
  #used = 0;
  #swept = 0;

  /** Over new memory, or over that of the thread that writes. */
  constructor(geometry: Geometry, buffer: SharedArrayBuffer = new SharedArrayBuffer(bytesOf(geometry))) {
    const { slots, endpoints, rows } = geometry;
    this.geometry = geometry;
    this.buffer = buffer;
    this.#slots = new Int32Array(buffer, 0, slots * SLOT_WORDS);
    this.#mask = slots - 1;
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

  /** Leading blocks of `keys` that each endpoint holds; valid until the next call. */
  match(keys: BlockKeys): Matches {
    this.#walk.begin();
    const count = keys.length / 2;
    let block = 0;
    while (block < count) {
      const at = this.#find(lowOf(keys, block), highOf(keys, block));
      if (at < 0 || !this.#walk.next(this.#slots[at + 2] ?? 0, this.#slots[at + 3] ?? 0, block)) break;
      block += 1;
    }
    return this.#walk.end(block);
  }

  /**
   * The endpoint holds the block under this mark, and under no other: the mark it had, -1 where it had none, or undefined
   * where the table is full and nothing was written.
   */
  put(keys: BlockKeys, block: number, holder: number): number | undefined {
    const [low, high] = [lowOf(keys, block), highOf(keys, block)];
    const found = this.#find(low, high);
    const at = found >= 0 ? found : this.#claim(low, high);
    if (at === undefined) return undefined;
    const before = this.#pool.markOf(this.#value(at), holder >> 3, this.live);
    if (before === (holder & 7)) return before;
    const value = this.#pool.with(this.#value(at), holder, this.live);
    if (value !== undefined) this.#write(at, value);
    else if (found < 0) this.#empty(at);
    return value === undefined ? undefined : before;
  }

  /** The endpoint no longer holds the block under any of these marks. */
  drop(keys: BlockKeys, block: number, endpoint: number, marks = 0xff): void {
    const at = this.#find(lowOf(keys, block), highOf(keys, block));
    if (at < 0) return;
    const value = this.#pool.without(this.#value(at), endpoint, marks, this.live);
    this.#write(at, value);
    if (isNobody(value)) this.#empty(at);
  }

  /** Clears what no mask shows any more from the next `slots` slots; true when a round through the table ends. */
  sweep(slots: number): boolean {
    const end = Math.min(this.#swept + slots, this.geometry.slots);
    for (let slot = this.#swept; slot < end; slot++) this.#clean(slot * SLOT_WORDS);
    this.#swept = end === this.geometry.slots ? 0 : end;
    return this.#swept === 0;
  }

  #clean(at: number): void {
    const value = this.#value(at);
    if (isNobody(value)) return;
    const rest = this.#pool.alive(value, this.live);
    if (rest.low === value.low && rest.high === value.high) return;
    this.#write(at, rest);
    if (isNobody(rest)) this.#empty(at);
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

  #find(low: number, high: number): number {
    for (let slot = low & this.#mask, steps = 0; steps <= this.#mask; slot = (slot + 1) & this.#mask, steps++) {
      const at = slot * SLOT_WORDS;
      const word = this.#slots[at] ?? 0;
      if (word === low && this.#slots[at + 1] === high) return at;
      if (word === 0 && this.#slots[at + 1] === 0) return -1;
    }
    return -1;
  }

  /** A slot for a key that has none. */
  #claim(low: number, high: number): number | undefined {
    if (this.#used >= MAX_LOAD * this.geometry.slots) return undefined;
    let slot = low & this.#mask;
    while (!this.#isFree(slot)) slot = (slot + 1) & this.#mask;
    const at = slot * SLOT_WORDS;
    this.#used += 1;
    this.#slots[at + 1] = high;
    this.#slots[at] = low;
    return at;
  }

  #isFree(slot: number): boolean {
    return (this.#slots[slot * SLOT_WORDS] ?? 0) === 0;
  }

  /** A slot at the end of its run becomes empty, and those before it that only kept the run together. */
  #empty(at: number): void {
    this.#used -= 1;
    this.#slots[at] = 0;
    this.#slots[at + 1] = GONE_HIGH;
    let slot = at / SLOT_WORDS;
    if (this.#kind((slot + 1) & this.#mask) !== 0) return;
    for (; this.#kind(slot) === GONE_HIGH; slot = (slot - 1) & this.#mask) this.#slots[slot * SLOT_WORDS + 1] = 0;
  }

  /** 0 empty, 1 gone, -1 a key. */
  #kind(slot: number): number {
    return this.#isFree(slot) ? (this.#slots[slot * SLOT_WORDS + 1] ?? 0) : -1;
  }
}

/** A low word of zero marks slots without a key: such keys share the word 1, one in 2^32. */
const lowOf = (keys: BlockKeys, block: number): number => keys[block * 2] || 1;
const highOf = (keys: BlockKeys, block: number): number => keys[block * 2 + 1] ?? 0;
