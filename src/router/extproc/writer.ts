/**
 * Writes protobuf messages into one growing buffer: a reply is a dozen nested messages of a few bytes each, and a buffer
 * for each of them costs more than routing the request.
 *
 * Lengths are patched in when a message closes. Large bodies are not copied: they become parts of their own between
 * pieces of the buffer.
 */
const FIRST_BYTES = 1024;
/** A slab serves some hundred replies: what a writer leaves of it is the next one's. */
const SLAB_BYTES = 65_536;
/** Up to here bytes are copied into the buffer; above, they are a part of the output as they stand. */
export const COPY_BYTES = 1024;
/** Short strings are written by hand: a native call costs as much as this many characters. */
const SHORT_TEXT = 64;
const FRAME_PREFIX_BYTES = 5;

export class Writer {
  #parts: Uint8Array[] = [];
  #bytes: Buffer = leaf();
  /** Start of what no part holds yet. */
  #start = 0;
  #at = 0;
  /** Bytes in `#parts`. */
  #done = 0;

  /** Everything written, in order. The writer is used up. */
  parts(): readonly Uint8Array[] {
    this.#cut();
    giveBack(this.#bytes, this.#at);
    return this.#parts;
  }

  /** One gRPC message: a byte of flags and four of length before what `write` writes. */
  frame(write: () => void): void {
    this.#reserve(FRAME_PREFIX_BYTES);
    const [at, start, part] = [this.#at, this.#start, this.#parts.length];
    this.#at += FRAME_PREFIX_BYTES;
    const before = this.#total();
    write();
    // Large bytes may have cut the prefix off, into the first part since; else it is in the buffer, grown or not.
    const cut = part < this.#parts.length ? this.#parts[part] : undefined;
    putFrame(cut ?? this.#bytes, cut === undefined ? at : at - start, this.#total() - before);
  }

  varint(value: number): void {
    this.#reserve(10);
    this.#at = put(this.#bytes, this.#at, value);
  }

  /** A number; zero, the default, is not written. */
  number(field: number, value: number): void {
    if (value === 0) return;
    this.varint(field * 8);
    this.varint(value);
  }

  /** Key and length of a length-delimited field: what stands before its bytes. */
  prefix(field: number, length: number): void {
    this.varint(field * 8 + 2);
    this.varint(length);
  }

  /** A sub-message of what `write` writes, which must not hold large bytes; present even when empty. */
  message(field: number, write: () => void): void {
    this.prefix(field, 0);
    const start = this.#at;
    write();
    const length = this.#at - start;
    const more = sizeOf(length) - 1;
    if (more > 0) {
      this.#reserve(more);
      this.#bytes.copyWithin(start + more, start, this.#at);
      this.#at += more;
    }
    put(this.#bytes, start - 1, length);
  }

  text(field: number, value: string): void {
    if (value.length <= SHORT_TEXT && this.#short(field, value, 0x7f)) return;
    const length = Buffer.byteLength(value, "utf8");
    this.prefix(field, length);
    this.#reserve(length);
    this.#at += this.#bytes.write(value, this.#at, "utf8");
  }

  /** Header values: each character is a byte. */
  latin1(field: number, value: string): void {
    if (value.length <= SHORT_TEXT && this.#short(field, value, 0xff)) return;
    this.prefix(field, value.length);
    this.#reserve(value.length);
    this.#at += this.#bytes.write(value, this.#at, "latin1");
  }

  /** Bytes without key and length; large ones become a part of the output as they stand. */
  raw(bytes: Uint8Array): void {
    if (bytes.length <= COPY_BYTES) this.copy(bytes);
    else {
      this.#cut();
      this.#push(bytes);
    }
  }

  /** Bytes without key and length, whatever their size: they may stand inside a message. */
  copy(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** False, with nothing written, where a character is above `highest`. */
  #short(field: number, value: string, highest: number): boolean {
    const before = this.#at;
    this.prefix(field, value.length);
    this.#reserve(value.length);
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code > highest) {
        this.#at = before;
        return false;
      }
      this.#bytes[this.#at++] = code;
    }
    return true;
  }

  #total(): number {
    return this.#done + this.#at - this.#start;
  }

  #cut(): void {
    if (this.#at > this.#start) this.#push(this.#bytes.subarray(this.#start, this.#at));
    this.#start = this.#at;
  }

  #push(part: Uint8Array): void {
    this.#parts.push(part);
    this.#done += part.length;
  }

  #reserve(count: number): void {
    const needed = this.#at + count;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
  }
}

/** Where the next writers write. */
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let taken = 0;

function leaf(): Buffer {
  if (taken + FIRST_BYTES > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    taken = 0;
  }
  taken += FIRST_BYTES;
  return slab.subarray(taken - FIRST_BYTES, taken);
}

/** What the last writer did not need. */
function giveBack(bytes: Buffer, used: number): void {
  if (bytes.buffer === slab.buffer && bytes.byteOffset + bytes.length === slab.byteOffset + taken)
    taken -= bytes.length - used;
}

/** Bytes of a varint. */
export function sizeOf(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) size += 1;
  return size;
}

/** Writes a varint; the position after it. */
function put(bytes: Buffer, from: number, value: number): number {
  let at = from;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) + 128;
  bytes[at++] = rest;
  return at;
}

function putFrame(bytes: Uint8Array, at: number, length: number): void {
  bytes[at] = 0;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at + 1, length);
}
