/**
 * Cuts the bytes of a peer into frames. Bodies are told of as they come, in whatever pieces; all other frames are told
 * whole, and only they are ever held, one at a time.
 */
import { CODE, ConnectionError, FLAG, FRAME, HEAD_BYTES, PREFACE, wordAt } from "./frames.ts";
import { FrameOrder, checkFrame, type FrameHead } from "./rules.ts";

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  /** Without padding and priority; valid until the next frame. */
  readonly payload: Buffer;
}

export interface FrameListener {
  frame(frame: Frame): void;
  /** A DATA frame begins. */
  bodyBegin(stream: number): void;
  /** Bytes of DATA, and how many of the window they cost: padding is paid for, too. */
  body(stream: number, chunk: Buffer, cost: number): void;
  /** A DATA frame is over. */
  bodyEnd(stream: number, empty: boolean, last: boolean): void;
}

const NOTHING = Buffer.alloc(0);

export class Parser {
  readonly #listener: FrameListener;
  readonly #order = new FrameOrder();
  /** Bytes of the preface that are still to come. */
  #preface = PREFACE.length;
  /** A head or a payload of which a part is here: so much of it. */
  #held: Buffer = NOTHING;
  #filled = 0;
  #length = 0;
  #type = 0;
  #flags = 0;
  #stream = 0;
  /** Of the DATA frame that is being read: its bytes and its padding that are still to come; -1: no frame is. */
  #left = -1;
  #padding = 0;
  /** The head of the next frame was read. */
  #headed = false;
  /** The length of the padding is the next byte. */
  #padded = false;
  #empty = true;

  constructor(listener: FrameListener) {
    this.#listener = listener;
  }

  /** The peer is an HTTP/2 client: its preface and its SETTINGS were here. */
  get greeted(): boolean {
    return this.#order.greeted;
  }

  push(chunk: Buffer): void {
    const bytes = this.#preface > 0 ? this.#greet(chunk) : chunk;
    for (let at = 0; at < bytes.length;) at = this.#left >= 0 ? this.#data(bytes, at) : this.#next(bytes, at);
  }

  #greet(chunk: Buffer): Buffer {
    const wanted = PREFACE.subarray(PREFACE.length - this.#preface);
    const length = Math.min(wanted.length, chunk.length);
    if (!chunk.subarray(0, length).equals(wanted.subarray(0, length)))
      throw new ConnectionError(CODE.protocol, "no HTTP/2 client");
    this.#preface -= length;
    return chunk.subarray(length);
  }

  /** Goes on with a head or a whole payload. */
  #next(bytes: Buffer, at: number): number {
    const wanted = this.#headed ? this.#length : HEAD_BYTES;
    const end = at + wanted - this.#filled;
    const whole = this.#filled === 0 && end <= bytes.length ? bytes.subarray(at, end) : this.#fill(wanted, bytes, at);
    if (whole === undefined) return bytes.length;
    if (this.#headed) this.#whole(whole);
    else this.#head(whole);
    return end;
  }

  /** Undefined until all of it is here. */
  #fill(wanted: number, bytes: Buffer, at: number): Buffer | undefined {
    if (this.#filled === 0) this.#held = Buffer.allocUnsafe(wanted);
    this.#filled += bytes.copy(this.#held, this.#filled, at);
    if (this.#filled < wanted) return undefined;
    const whole = this.#held;
    this.#held = NOTHING;
    this.#filled = 0;
    return whole;
  }

  #head(head: Buffer): void {
    this.#length = ((head[0] ?? 0) << 16) | ((head[1] ?? 0) << 8) | (head[2] ?? 0);
    this.#type = head[3] ?? 0;
    this.#flags = head[4] ?? 0;
    this.#stream = wordAt(head, 5);
    const read: FrameHead = { type: this.#type, flags: this.#flags, stream: this.#stream, length: this.#length };
    this.#order.check(read);
    checkFrame(read);
    if (this.#type === FRAME.data) this.#beginData();
    else if (this.#length === 0) this.#whole(NOTHING);
    else this.#headed = true;
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  #beginData(): void {
    this.#left = this.#length;
    this.#padding = 0;
    this.#empty = true;
    this.#padded = this.#has(FLAG.padded);
    this.#listener.bodyBegin(this.#stream);
    if (this.#padded && this.#length === 0) throw tooShort();
    if (this.#length === 0) this.#endData();
  }

  #data(bytes: Buffer, from: number): number {
    let at = from;
    if (this.#padded) {
      this.#padding = bytes[at++] ?? 0;
      this.#padded = false;
      this.#left -= 1 + this.#padding;
      if (this.#left < 0) throw padding();
      this.#listener.body(this.#stream, NOTHING, 1 + this.#padding);
    }
    const end = Math.min(bytes.length, at + this.#left);
    if (end > at) {
      this.#left -= end - at;
      this.#empty = false;
      this.#listener.body(this.#stream, bytes.subarray(at, end), end - at);
    }
    const skipped = this.#left > 0 ? 0 : Math.min(bytes.length - end, this.#padding);
    this.#padding -= skipped;
    if (this.#left === 0 && this.#padding === 0) this.#endData();
    return end + skipped;
  }

  #endData(): void {
    this.#left = -1;
    this.#listener.bodyEnd(this.#stream, this.#empty, this.#has(FLAG.endStream));
  }

  #whole(payload: Buffer): void {
    this.#headed = false;
    const [type, flags, stream] = [this.#type, this.#flags, this.#stream];
    this.#listener.frame({ type, flags, stream, payload: type === FRAME.headers ? this.#block(payload) : payload });
  }

  /** The header block alone. */
  #block(payload: Buffer): Buffer {
    const padded = this.#has(FLAG.padded) ? 1 : 0;
    const start = padded + (this.#has(FLAG.priority) ? 5 : 0);
    if (start > payload.length) throw tooShort();
    const end = payload.length - (padded === 1 ? (payload[0] ?? 0) : 0);
    if (start > end) throw padding();
    return payload.subarray(start, end);
  }
}

const tooShort = (): ConnectionError => new ConnectionError(CODE.frameSize, "a frame too short for its flags");
const padding = (): ConnectionError => new ConnectionError(CODE.protocol, "padding longer than its frame");
