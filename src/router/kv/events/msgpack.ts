/**
 * MessagePack, read in place: only what KV events are made of, nothing is built for a value that is not wanted.
 *
 * Throws `Malformed` for whatever is not MessagePack, ends too early or is nested too deep; `decode.ts` catches it. Format:
 * the MessagePack specification (github.com/msgpack/msgpack, spec.md).
 */

import { fail } from "./malformed.ts";

/** What is skipped may be nested so deep; events need four levels. */
const MAX_DEPTH = 16;

/** What stands for nil where a count is read. */
export const NIL = -1;

/** Bytes of a value behind its first byte, for those of one size; others are `NaN`. */
const FIXED = new Map([
  ...[0xc0, 0xc2, 0xc3].map((type) => [type, 0] as const),
  ...[0xcc, 0xd0].map((type) => [type, 1] as const),
  ...[0xcd, 0xd1, 0xd4].map((type) => [type, 2] as const),
  ...[0xce, 0xd2, 0xca].map((type) => [type, 4] as const),
  ...[0xcf, 0xd3, 0xcb].map((type) => [type, 8] as const),
  // Extensions: a type byte and the data.
  ...([[0xd5, 3], [0xd6, 5], [0xd7, 9], [0xd8, 17]] as const), // prettier-ignore
]);

const SIZES = Uint8Array.from({ length: 256 }, (_, type) => FIXED.get(type) ?? 0xff);

export class MsgpackReader {
  bytes: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  at = 0;
  end = 0;
  /** The words of the hash that was read last. */
  low = 0;
  high = 0;

  /** Reads `bytes` from `from` up to `to`. */
  begin(bytes: Uint8Array, from: number, to: number): void {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.bytes = bytes;
    this.at = from;
    this.end = to;
  }

  /** The type byte of the next value, which is not taken. */
  peek(): number {
    if (this.at >= this.end) fail("truncated");
    return this.bytes[this.at] as number;
  }

  /** Takes nil; false, and nothing taken, where something else stands. */
  nil(): boolean {
    if (this.peek() !== 0xc0) return false;
    this.at += 1;
    return true;
  }

  /** Elements of an array, or NIL. */
  arrayOrNil(): number {
    const type = this.peek();
    if (type >= 0x90 && type <= 0x9f) return this.#counted(1, type & 0x0f);
    if (type === 0xdc) return this.#counted(3, this.#u16(this.at + 1));
    if (type === 0xdd) return this.#counted(5, this.#u32(this.at + 1));
    return this.nil() ? NIL : fail("shape");
  }

  array(): number {
    const count = this.arrayOrNil();
    return count === NIL ? fail("shape") : count;
  }

  isMap(): boolean {
    const type = this.peek();
    return (type >= 0x80 && type <= 0x8f) || type === 0xde || type === 0xdf;
  }

  isArray(): boolean {
    const type = this.peek();
    return (type >= 0x90 && type <= 0x9f) || type === 0xdc || type === 0xdd;
  }

  /** Pairs of a map. */
  map(): number {
    const type = this.peek();
    if (type >= 0x80 && type <= 0x8f) return this.#counted(1, type & 0x0f);
    if (type === 0xde) return this.#counted(3, this.#u16(this.at + 1));
    return type === 0xdf ? this.#counted(5, this.#u32(this.at + 1)) : fail("shape");
  }

  /** Each element is a byte at least: more of them than bytes are left is a lie, and must not be made room for. */
  #counted(head: number, count: number): number {
    this.at += head;
    if (count > this.end - this.at) fail("truncated");
    return count;
  }

  isText(): boolean {
    const type = this.peek();
    return (type >= 0xa0 && type <= 0xbf) || (type >= 0xd9 && type <= 0xdb);
  }

  isBytes(): boolean {
    const type = this.peek();
    return type >= 0xc4 && type <= 0xc6;
  }

  /** Takes the head of a text; `at` is then its first byte, and it has so many. */
  textHead(): number {
    const type = this.peek();
    if (type >= 0xa0 && type <= 0xbf) return this.#counted(1, type & 0x1f);
    if (type === 0xd9) return this.#counted(2, this.#u8(this.at + 1));
    if (type === 0xda) return this.#counted(3, this.#u16(this.at + 1));
    return type === 0xdb ? this.#counted(5, this.#u32(this.at + 1)) : fail("shape");
  }

  /** The same of bytes. */
  bytesHead(): number {
    const type = this.peek();
    if (type === 0xc4) return this.#counted(2, this.#u8(this.at + 1));
    if (type === 0xc5) return this.#counted(3, this.#u16(this.at + 1));
    return type === 0xc6 ? this.#counted(5, this.#u32(this.at + 1)) : fail("shape");
  }

  /** A text of at most `most` bytes. */
  text(most: number): string {
    const length = this.textHead();
    if (length > most) fail("tooLarge");
    const from = this.at;
    this.at += length;
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, length).toString("utf8");
  }

  /** A number of any kind, as a double. */
  number(): number {
    const type = this.peek();
    if (type < 0x80) return this.bytes[this.at++] as number;
    if (type >= 0xe0) return (this.bytes[this.at++] as number) - 256;
    const at = this.at + 1;
    const size = SIZES[type] as number;
    if (size === 0xff || at + size > this.end) fail(size === 0xff ? "shape" : "truncated");
    const value = this.#numberOf(type, at);
    this.at = at + size;
    return value;
  }

  #numberOf(type: number, at: number): number {
    const view = this.#view;
    // prettier-ignore
    switch (type) {
      case 0xcc: return view.getUint8(at);
      case 0xcd: return view.getUint16(at);
      case 0xce: return view.getUint32(at);
      case 0xcf: return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
      case 0xcb: return view.getFloat64(at);
      default: return this.#signedOf(type, at);
    }
  }

  #signedOf(type: number, at: number): number {
    const view = this.#view;
    // prettier-ignore
    switch (type) {
      case 0xca: return view.getFloat32(at);
      case 0xd0: return view.getInt8(at);
      case 0xd1: return view.getInt16(at);
      case 0xd2: return view.getInt32(at);
      case 0xd3: return view.getInt32(at) * 2 ** 32 + view.getUint32(at + 4);
      default: return fail("shape");
    }
  }

  /** A token: an integer, of which the lower 32 bits are kept. */
  token(): number {
    return this.number() | 0;
  }

  /** `count` tokens into `out` from `to` on. One loop over locals: it is most of what an event costs. */
  tokens(out: Int32Array, to: number, count: number): void {
    const end = to + count;
    for (let index = to; index < end; index++) {
      index = this.#plainTokens(out, index, end);
      if (index < end) out[index] = this.token();
    }
  }

  /** Those of one, three and five bytes: the index of the first that is something else. */
  #plainTokens(out: Int32Array, from: number, to: number): number {
    const { bytes } = this;
    // Behind it a token may end beyond what was given.
    const safe = this.end - 5;
    let at = this.at;
    let index = from;
    for (; index < to && at <= safe; index++) {
      const type = bytes[at] as number;
      if (type === 0xce) {
        out[index] =
          ((bytes[at + 1] as number) << 24) |
          ((bytes[at + 2] as number) << 16) |
          ((bytes[at + 3] as number) << 8) |
          (bytes[at + 4] as number);
        at += 5;
      } else if (type === 0xcd) {
        out[index] = ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
        at += 3;
      } else if (type < 0x80) {
        out[index] = type;
        at += 1;
      } else break;
    }
    this.at = at;
    return index;
  }

  /** The same of hashes, into pairs of words. */
  hashes(out: Int32Array, to: number, count: number): void {
    for (let index = to; index < to + 2 * count; index += 2) {
      this.hash();
      out[index] = this.low;
      out[index + 1] = this.high;
    }
  }

  /**
   * A block hash into `low` and `high`: an integer, signed or not, as its 64 bits; of bytes the last eight, as vLLM makes
   * its integers. Bytes that are fewer count as if zeros stood before them.
   */
  hash(): void {
    const type = this.peek();
    if (type === 0xcf || type === 0xd3) this.#wideHash();
    else if (this.isBytes()) this.#bytesHash();
    else this.#smallHash();
  }

  #wideHash(): void {
    if (this.at + 9 > this.end) fail("truncated");
    this.high = this.#view.getInt32(this.at + 1);
    this.low = this.#view.getInt32(this.at + 5);
    this.at += 9;
  }

  #smallHash(): void {
    const value = this.number();
    if (!Number.isInteger(value)) fail("shape");
    this.low = value | 0;
    this.high = Math.floor(value / 2 ** 32) | 0;
  }

  #bytesHash(): void {
    const length = this.bytesHead();
    const end = this.at + length;
    [this.low, this.high] = [0, 0];
    for (let at = Math.max(this.at, end - 8); at < end; at++) {
      this.high = (this.high << 8) | (this.low >>> 24);
      this.low = (this.low << 8) | (this.bytes[at] as number);
    }
    this.at = end;
  }

  /** Takes one value, whatever it is. */
  skip(depth = 0): void {
    if (depth > MAX_DEPTH) fail("tooDeep");
    if (this.isMap()) for (let left = 2 * this.map(); left > 0; left--) this.skip(depth + 1);
    else if (this.isArray()) for (let left = this.array(); left > 0; left--) this.skip(depth + 1);
    else if (this.isText()) this.#pass(this.textHead());
    else if (this.isBytes()) this.#pass(this.bytesHead());
    else this.#skipPlain();
  }

  #pass(bytes: number): void {
    this.at += bytes;
  }

  #skipPlain(): void {
    const type = this.peek();
    if (type < 0x80 || type >= 0xe0) return void (this.at += 1);
    const size = type >= 0xc7 && type <= 0xc9 ? this.#extension(type) : (SIZES[type] as number);
    if (size === 0xff) fail("shape");
    if (this.at + 1 + size > this.end) fail("truncated");
    this.at += 1 + size;
  }

  /** Length, type byte and data of an extension whose length is told. */
  #extension(type: number): number {
    if (type === 0xc7) return 2 + this.#u8(this.at + 1);
    if (type === 0xc8) return 3 + this.#u16(this.at + 1);
    return 5 + this.#u32(this.at + 1);
  }

  #u8(at: number): number {
    if (at + 1 > this.end) fail("truncated");
    return this.#view.getUint8(at);
  }

  #u16(at: number): number {
    if (at + 2 > this.end) fail("truncated");
    return this.#view.getUint16(at);
  }

  #u32(at: number): number {
    if (at + 4 > this.end) fail("truncated");
    return this.#view.getUint32(at);
  }
}
