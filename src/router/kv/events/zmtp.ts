/**
 * ZMTP 3.0 with mechanism NULL, as far as a subscriber and a dealer need it: what libzmq speaks under PUB and ROUTER sockets.
 *
 * Pure: bytes in, messages out, in place; a message is handed on when all its frames are here. Bounded in everything that
 * a peer may choose. Format: RFC 23/ZMTP 3.0 (rfc.zeromq.org/spec/23).
 */

export type SocketType = "SUB" | "DEALER";

const GREETING_BYTES = 64;
const MORE = 1;
const LONG = 2;
const COMMAND = 4;
/** Larger messages are refused: twenty times the largest of an engine at 8192 tokens a step. */
const MAX_MESSAGE_BYTES = 16 * 2 ** 20;
/** Room for what is not here whole that is kept when it is no longer needed. */
const KEPT_BYTES = 2 ** 20;
/** Topic, number and payload behind a delimiter, and some to spare. */
const MAX_FRAMES = 8;

/** Signature, version 3.0, mechanism NULL, no server. */
export function greeting(): Uint8Array {
  const bytes = new Uint8Array(GREETING_BYTES);
  bytes[0] = 0xff;
  bytes[9] = 0x7f;
  bytes[10] = 3;
  bytes.set(Buffer.from("NULL", "latin1"), 12);
  return bytes;
}

export function frame(body: Uint8Array, more = false): Uint8Array {
  if (body.length > 255) throw new RangeError("only short frames are sent");
  return Buffer.concat([Uint8Array.of(more ? MORE : 0, body.length), body]);
}

export function ready(type: SocketType): Uint8Array {
  const body = Buffer.concat([short("READY"), property("Socket-Type", type), property("Identity", "")]);
  return Buffer.concat([Uint8Array.of(COMMAND, body.length), body]);
}

const short = (text: string): Buffer => Buffer.concat([Uint8Array.of(text.length), Buffer.from(text, "latin1")]);

function property(name: string, value: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  return Buffer.concat([short(name), length, Buffer.from(value, "latin1")]);
}

/** All topics. */
export const SUBSCRIBE_ALL = frame(Uint8Array.of(1));

/** What a peer says. Bytes and frames are valid in the call alone. */
export interface ZmtpSink {
  /** It speaks ZMTP 3; now it is our turn to say what we are. */
  greeted(): void;
  /** It is a socket of this type. */
  readied(type: string): void;
  /** Frame i stands from `frames[2i]` up to `frames[2i + 1]`. */
  message(bytes: Uint8Array, frames: Int32Array, count: number): void;
}

export type ZmtpError = "greeting" | "command" | "tooLarge" | "tooManyFrames";

export class ZmtpReader {
  readonly #sink: ZmtpSink;
  #kept: Uint8Array = new Uint8Array(0);
  #filled = 0;
  #greeted = false;
  readonly #frames = new Int32Array(2 * MAX_FRAMES);
  #error: ZmtpError | undefined;

  constructor(sink: ZmtpSink) {
    this.#sink = sink;
  }

  /** Reads on: what is wrong with the peer, after which nothing more is read of it. */
  push(chunk: Uint8Array): ZmtpError | undefined {
    if (this.#filled === 0) {
      const used = this.#read(chunk, chunk.length);
      this.#keep(chunk.subarray(used));
    } else {
      this.#keep(chunk);
      const used = this.#read(this.#kept, this.#filled);
      this.#kept.copyWithin(0, used, this.#filled);
      this.#filled -= used;
      if (this.#filled === 0 && this.#kept.length > KEPT_BYTES) this.#kept = new Uint8Array(0);
    }
    return this.#error;
  }

  /** Bytes of room for what is not here whole. */
  get held(): number {
    return this.#kept.length;
  }

  #keep(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const needed = this.#filled + bytes.length;
    if (needed > this.#kept.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#kept.length));
      larger.set(this.#kept.subarray(0, this.#filled));
      this.#kept = larger;
    }
    this.#kept.set(bytes, this.#filled);
    this.#filled = needed;
  }

  /** Bytes that were read, whole messages only. */
  #read(bytes: Uint8Array, end: number): number {
    let at = this.#greeted ? 0 : this.#greeting(bytes, end);
    if (!this.#greeted) return 0;
    for (let next = this.#one(bytes, at, end); next > at && this.#error === undefined; next = this.#one(bytes, at, end))
      at = next;
    return at;
  }

  #greeting(bytes: Uint8Array, end: number): number {
    if (!isGreeting(bytes, end)) this.#error = "greeting";
    if (end < GREETING_BYTES || this.#error !== undefined) return 0;
    this.#greeted = true;
    this.#sink.greeted();
    return GREETING_BYTES;
  }

  /** One command or message from `from` on: where it ends, or `from` while it is not here whole. */
  #one(bytes: Uint8Array, from: number, end: number): number {
    let at = from;
    for (let count = 0; ; count++) {
      if (count === MAX_FRAMES) return this.#fail("tooManyFrames", from);
      const head = headOf(bytes, at, end);
      if (head === 0) return from;
      const flags = bytes[at] as number;
      const size = sizeOf(bytes, at);
      const body = at + head;
      if (body + size - from > MAX_MESSAGE_BYTES) return this.#fail("tooLarge", from);
      if (body + size > end) return from;
      at = body + size;
      if ((flags & COMMAND) !== 0) return this.#command(bytes.subarray(body, at)) ? at : this.#fail("command", from);
      this.#frames[2 * count] = body;
      this.#frames[2 * count + 1] = at;
      if ((flags & MORE) !== 0) continue;
      this.#sink.message(bytes, this.#frames, count + 1);
      return at;
    }
  }

  #fail(error: ZmtpError, at: number): number {
    this.#error = error;
    return at;
  }

  /** Others than READY are not for us. */
  #command(body: Uint8Array): boolean {
    const text = Buffer.from(body).toString("latin1");
    if (text.startsWith("\x05ERROR")) return false;
    if (!text.startsWith("\x05READY")) return true;
    const type = /\x0bSocket-Type\0\0\0(.)/is.exec(text);
    if (type === null) return false;
    const from = type.index + type[0].length;
    this.#sink.readied(text.slice(from, from + (type[1] ?? "").charCodeAt(0)));
    return true;
  }
}

/** As far as it is here: the signature, version 3 or later, mechanism NULL. */
function isGreeting(bytes: Uint8Array, end: number): boolean {
  const is = (at: number, fits: (byte: number) => boolean): boolean => at >= end || fits(bytes[at] as number);
  const head = is(0, (byte) => byte === 0xff) && is(9, (byte) => byte === 0x7f) && is(10, (byte) => byte >= 3);
  return head && (end < GREETING_BYTES || Buffer.from(bytes.slice(12, 17)).toString("latin1") === "NULL\0");
}

/** Bytes of a frame's head; 0 while it is not here whole. */
function headOf(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end) return 0;
  const head = ((bytes[at] as number) & LONG) === 0 ? 2 : 9;
  return at + head > end ? 0 : head;
}

function sizeOf(bytes: Uint8Array, at: number): number {
  if (((bytes[at] as number) & LONG) === 0) return bytes[at + 1] as number;
  return numberAt(bytes, at + 1);
}

/** An unsigned integer of eight bytes, the first one the highest. */
export function numberAt(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let byte = at; byte < at + 8; byte++) value = value * 256 + (bytes[byte] as number);
  return value;
}
