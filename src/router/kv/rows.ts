/**
 * Holders of a block as the table stores them: up to four in the two words of the slot, more in a shared row.
 *
 * In the slot each holder is 16 bits, its number plus one. A row has a byte for each endpoint: its marks. Rows never
 * change once a slot names them; blocks with the same holders share one, as those of a common prompt do.
 */
import {
  IN_ROW,
  INLINE,
  inline,
  inlineMarks,
  inlineWith,
  inlineWithout,
  isLive,
  NOBODY,
  withMarks,
  type Value,
} from "./holders.ts";

/** Rows that nobody names rest until so many others were freed: a reader may still be at them (a walk takes 20 us). */
const RESTING_ROWS = 64;

export class RowPool {
  readonly bytes: Uint8Array;
  readonly width: number;
  readonly #capacity: number;
  /** Slots that name each row. */
  readonly #references: Int32Array;
  readonly #free: number[] = [];
  #fresh = 0;
  /** Rows by a hash of their bytes. */
  readonly #byHash = new Map<number, number[]>();
  readonly #scratch: Uint8Array;
  /** Bytes of a row in which anything stands, in whole words: only numbers below it were ever written. */
  #inUse = 0;
  readonly #words: Uint32Array;
  readonly #hashes: Float64Array;
  /** The last step from one row to another: blocks of a prompt take the same one after another. */
  #last = { from: -1, holder: -1, to: -1 };

  constructor(buffer: SharedArrayBuffer, offset: number, width: number, capacity: number) {
    this.bytes = new Uint8Array(buffer, offset, width * capacity);
    this.width = width;
    this.#capacity = capacity;
    this.#references = new Int32Array(capacity);
    this.#hashes = new Float64Array(capacity);
    this.#words = new Uint32Array(width / 4);
    this.#scratch = new Uint8Array(this.#words.buffer);
  }

  /** The live mark under which an endpoint is among the holders, or -1. */
  markOf(value: Value, endpoint: number, live: Uint8Array): number {
    const marks = this.marks(value, endpoint) & (live[endpoint] ?? 0);
    return marks === 0 ? -1 : 31 - Math.clz32(marks);
  }

  /** Marks of an endpoint among the holders, live or not, as bits. */
  marks(value: Value, endpoint: number): number {
    if (value.high === IN_ROW) return this.bytes[value.low * this.width + endpoint] ?? 0;
    return inlineMarks(value, endpoint);
  }

  /** The holders with one more, which replaces other marks of its endpoint; undefined where there is no row for it. */
  with(value: Value, holder: number, live: Uint8Array): Value | undefined {
    if (value.high === IN_ROW && this.#last.from === value.low && this.#last.holder === holder && this.#isNamed())
      return { low: this.#last.to, high: IN_ROW };
    const few = value.high === IN_ROW ? undefined : inlineWith(value, holder >> 3, holder, live);
    if (few !== undefined) return few;
    this.#load(value, live);
    this.#use(holder);
    this.#scratch[holder >> 3] = 1 << (holder & 7);
    const next = this.#store();
    if (value.high === IN_ROW && next?.high === IN_ROW) this.#last = { from: value.low, holder, to: next.low };
    return next;
  }

  #isNamed(): boolean {
    return (this.#references[this.#last.to] ?? 0) > 0;
  }

  /** The holders without these marks of an endpoint; nobody where the pool is full: better a miss than a false hit. */
  without(value: Value, endpoint: number, marks: number, live: Uint8Array): Value {
    if (value.high !== IN_ROW) return inlineWithout(value, endpoint, marks, live);
    this.#load(value, live);
    this.#scratch[endpoint] = (this.#scratch[endpoint] ?? 0) & ~marks;
    return this.#store() ?? NOBODY;
  }

  /** The holders that live. */
  alive(value: Value, live: Uint8Array): Value {
    const few = value.high === IN_ROW ? undefined : inlineWith(value, -1, -1, live);
    if (few !== undefined) return few;
    this.#load(value, live);
    return this.#store() ?? value;
  }

  /** One slot no longer names the first and now names the second. */
  replace(before: Value, after: Value): void {
    if (after.high === IN_ROW) this.#references[after.low] = (this.#references[after.low] ?? 0) + 1;
    if (before.high !== IN_ROW) return;
    const left = (this.#references[before.low] ?? 0) - 1;
    this.#references[before.low] = left;
    if (left === 0) this.#release(before.low);
  }

  #load(value: Value, live: Uint8Array): void {
    if (value.high === IN_ROW) {
      const row = value.low * this.width;
      for (let at = 0; at < this.#inUse; at++) this.#scratch[at] = (this.bytes[row + at] ?? 0) & (live[at] ?? 0);
      return;
    }
    this.#scratch.fill(0, 0, this.#inUse);
    for (let place = 0; place < INLINE; place++) {
      const holder = inline(value.low, value.high, place);
      if (holder < 0 || !isLive(holder, live)) continue;
      this.#use(holder);
      this.#scratch[holder >> 3] = (this.#scratch[holder >> 3] ?? 0) | (1 << (holder & 7));
    }
  }

  #use(holder: number): void {
    this.#inUse = Math.max(this.#inUse, ((holder >> 3) | 3) + 1);
  }

  /** What was loaded and changed, in the slot where it fits. */
  #store(): Value | undefined {
    const few = this.#few();
    if (few !== undefined) return few;
    const hash = this.#hash();
    const known = this.#byHash.get(hash)?.find((row) => this.#equals(row));
    const row = known ?? this.#take(hash);
    return row === undefined ? undefined : { low: row, high: IN_ROW };
  }

  /** What was loaded, as holders in a slot; undefined where they are too many. */
  #few(): Value | undefined {
    let few: Value | undefined = NOBODY;
    for (let word = 0; word < this.#inUse / 4 && few !== undefined; word++)
      if (this.#words[word] !== 0)
        for (let endpoint = word * 4; endpoint < word * 4 + 4; endpoint++)
          few = withMarks(few, endpoint, this.#scratch[endpoint] ?? 0);
    return few;
  }

  #hash(): number {
    let [a, b] = [0x811c9dc5, 0x9e3779b9];
    for (let at = 0; at < this.#inUse / 4; at++) {
      const word = this.#words[at] as number;
      // Words in which nobody stands count for nothing: there are more of them as numbers are given.
      if (word === 0) continue;
      a = Math.imul(a ^ word ^ at, 0x01000193);
      b = Math.imul(b ^ a ^ (word >>> 15), 0x85ebca6b);
    }
    return (a >>> 0) * 2 ** 21 + (b >>> 11);
  }

  #equals(row: number): boolean {
    const start = row * this.width;
    for (let at = 0; at < this.#inUse; at++) if (this.bytes[start + at] !== this.#scratch[at]) return false;
    return true;
  }

  #take(hash: number): number | undefined {
    const rested = this.#free.length > RESTING_ROWS || this.#fresh === this.#capacity;
    const row = rested ? this.#free.shift() : this.#fresh++;
    if (row === undefined) return undefined;
    this.bytes.set(this.#scratch, row * this.width);
    this.#hashes[row] = hash;
    const same = this.#byHash.get(hash);
    if (same === undefined) this.#byHash.set(hash, [row]);
    else same.push(row);
    return row;
  }

  #release(row: number): void {
    const hash = this.#hashes[row] ?? 0;
    const left = (this.#byHash.get(hash) ?? []).filter((other) => other !== row);
    if (left.length === 0) this.#byHash.delete(hash);
    else this.#byHash.set(hash, left);
    if (this.#last.from === row || this.#last.to === row) this.#last = { from: -1, holder: -1, to: -1 };
    this.#free.push(row);
  }
}
