/**
 * Protocol Buffers on the wire: the few primitives that ext_proc messages need.
 * Format: varint keys `(field << 3) | type`; type 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
 */
const EMPTY = Buffer.alloc(0);

/** Bad bytes from the peer: the stream ends with INVALID_ARGUMENT. */
export class WireError extends Error {}

/** Walks the fields of one message without copying. */
export class Reader {
  readonly #bytes: Buffer;
  #at: number;
  #end: number;
  /** Wire type of the field whose number was read last. */
  #type = 0;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get done(): boolean {
    return this.#at >= this.#end;
  }

  /** Unsigned varint up to 2^53; longer ones are ten bytes of a negative number, which no field here holds. */
  varint(): number {
    const first = this.#next();
    if (first < 0x80) return first;
    this.#at -= 1;
    return this.#long();
  }

  /** Keys and most lengths have one byte; the others are multiplied together, since shifts end at 32 bits. */
  #long(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      const byte = this.#next();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new WireError("varint longer than ten bytes");
  }

  #next(): number {
    if (this.#at >= this.#end) throw new WireError("message ends inside a field");
    return this.#bytes[this.#at++] ?? 0;
  }

  /** Number of the next field, or 0 at the end of the message. What is not read of it is to be passed. */
  field(): number {
    if (this.#at >= this.#end) return 0;
    const key = this.varint();
    this.#type = key % 8;
    const number = Math.floor(key / 8);
    // Taken for the end of the message, it would hide what follows.
    if (number === 0) throw new WireError("field number 0");
    return number;
  }

  /** Goes into the message that the field is; what `leave` is to be given once its fields were all read. */
  enter(): number {
    const outer = this.#end;
    const start = this.#pass();
    this.#end = this.#at;
    this.#at = start;
    return outer;
  }

  leave(outer: number): void {
    this.#end = outer;
  }

  bytes(): Buffer {
    const start = this.#pass();
    return this.#bytes.subarray(start, this.#at);
  }

  message(): Reader {
    const start = this.#pass();
    return new Reader(this.#bytes, start, this.#at);
  }

  text(): string {
    const start = this.#pass();
    return this.#bytes.toString("utf8", start, this.#at);
  }

  /** Bytes that are not read yet. */
  get left(): number {
    return this.#end - this.#at;
  }

  /** Bytes of a field, each a character: a piece of what `latin1` made of the message, or without it a copy of them. */
  piece(all: ReturnType<Reader["latin1"]> | undefined): string {
    const start = this.#pass();
    if (all === undefined) return this.#bytes.toString("latin1", start, this.#at);
    return all.text.substring(start - all.from, this.#at - all.from);
  }

  /** The rest of the message, each byte a character, and where it starts. */
  latin1(): { readonly text: string; readonly from: number } {
    return { text: this.#bytes.toString("latin1", this.#at, this.#end), from: this.#at };
  }

  /** Goes behind a length-delimited field; where its bytes start. */
  #pass(): number {
    const length = this.varint();
    if (length > this.#end - this.#at) throw new WireError("field is longer than its message");
    this.#at += length;
    return this.#at - length;
  }

  double(): number {
    if (this.#end - this.#at < 8) throw new WireError("message ends inside a double");
    this.#at += 8;
    return this.#bytes.readDoubleLE(this.#at - 8);
  }

  /** Passes the field whose number was read. */
  pass(): void {
    const type = this.#type;
    if (type === 0) this.varint();
    else if (type === 2) this.#pass();
    else if (type === 1 || type === 5) this.#jump(type === 1 ? 8 : 4);
    else throw new WireError(`wire type ${type} is not in use`);
  }

  #jump(count: number): void {
    if (count > this.#end - this.#at) throw new WireError("message ends inside a field");
    this.#at += count;
  }
}

/** Calls `visit` for each field; what it does not take is skipped. */
export function eachField(reader: Reader, visit: (field: number, reader: Reader) => boolean): void {
  for (let field = reader.field(); field > 0; field = reader.field()) if (!visit(field, reader)) reader.pass();
}

function varintBytes(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** Key and length of a length-delimited field: what stands before its bytes. */
export const prefix = (field: number, length: number): Buffer =>
  Buffer.concat([varintBytes(field * 8 + 2), varintBytes(length)]);

export const varintField = (field: number, value: number): Buffer =>
  value === 0 ? EMPTY : Buffer.concat([varintBytes(field * 8), varintBytes(value)]);

export const boolField = (field: number, value: boolean): Buffer => varintField(field, value ? 1 : 0);

export const bytesField = (field: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([prefix(field, bytes.length), bytes]);

export const textField = (field: number, text: string): Buffer => bytesField(field, Buffer.from(text, "utf8"));

/** A sub-message of the given encoded fields; present even when empty. */
export const messageField = (field: number, parts: readonly Uint8Array[]): Buffer =>
  bytesField(field, parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts));
