/**
 * Cuts the bytes of a peer into frames. Bodies are told of as they come, in whatever pieces; all other frames are told
 * whole, and only they are ever held, one at a time.
 */
import { CODE, ConnectionError, FLAG, FRAME, HEAD_BYTES, MAX_FRAME_BYTES, PREFACE, wordAt } from "./frames.ts";

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  /** Without padding and priority; valid until the next frame. */
  readonly payload: Buffer;
}

export interface FrameListener {
  frame(frame: Frame): void;
  /** Bytes of DATA, and how many of the window they cost: padding is paid for, too. */
  body(stream: number, chunk: Buffer, cost: number): void;
  /** A DATA frame is over. */
  bodyEnd(stream: number, empty: boolean, last: boolean): void;
}

const NOTHING = Buffer.alloc(0);

/** What frames of fixed length must have. */
const LENGTHS: Readonly<Record<number, number>> = {
  [FRAME.priority]: 5,
  [FRAME.reset]: 4,
  [FRAME.ping]: 8,
  [FRAME.windowUpdate]: 4,
};

/** Frames that belong to a stream, and those that belong to the connection; WINDOW_UPDATE is of both. */
const OF_STREAM = new Set<number>([FRAME.data, FRAME.headers, FRAME.priority, FRAME.reset, FRAME.continuation]);
const OF_CONNECTION = new Set<number>([FRAME.settings, FRAME.ping, FRAME.goaway]);

export class Parser {
  readonly #listener: FrameListener;
  /** Bytes of the preface that are still to come. */
  #preface = PREFACE.length;
  /** A head or a payload of which a part is here. */
  #held: Buffer = NOTHING;
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
    const held = this.#held.length;
    const end = at + wanted - held;
    if (end > bytes.length) {
      this.#held = Buffer.concat([this.#held, bytes.subarray(at)]);
      return bytes.length;
    }
    const whole = held === 0 ? bytes.subarray(at, end) : Buffer.concat([this.#held, bytes.subarray(at, end)]);
    if (held > 0) this.#held = NOTHING;
    if (this.#headed) this.#whole(whole);
    else this.#head(whole);
    return end;
  }

  #head(head: Buffer): void {
    this.#length = ((head[0] ?? 0) << 16) | ((head[1] ?? 0) << 8) | (head[2] ?? 0);
    this.#type = head[3] ?? 0;
    this.#flags = head[4] ?? 0;
    this.#stream = wordAt(head, 5);
    this.#check();
    if (this.#type === FRAME.data) this.#beginData();
    else if (this.#length === 0) this.#whole(NOTHING);
    else this.#headed = true;
  }

  #check(): void {
    const [type, length] = [this.#type, this.#length];
    if (length > MAX_FRAME_BYTES || (LENGTHS[type] ?? length) !== length)
      throw new ConnectionError(CODE.frameSize, `a frame of type ${type} with ${length} bytes`);
    const misplaced = this.#stream === 0 ? OF_STREAM.has(type) : OF_CONNECTION.has(type);
    if (misplaced) throw new ConnectionError(CODE.protocol, `a frame of type ${type} on stream ${this.#stream}`);
    const acked = (this.#flags & FLAG.ack) !== 0;
    if (type === FRAME.settings && (length % 6 !== 0 || (acked && length > 0)))
      throw new ConnectionError(CODE.frameSize, `SETTINGS of ${length} bytes`);
  }

  #beginData(): void {
    this.#left = this.#length;
    this.#padding = 0;
    this.#empty = true;
    this.#padded = (this.#flags & FLAG.padded) !== 0;
    if (this.#padded && this.#length === 0) throw padding();
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
    this.#listener.bodyEnd(this.#stream, this.#empty, (this.#flags & FLAG.endStream) !== 0);
  }

  #whole(payload: Buffer): void {
    this.#headed = false;
    const [type, flags, stream] = [this.#type, this.#flags, this.#stream];
    this.#listener.frame({ type, flags, stream, payload: type === FRAME.headers ? this.#block(payload) : payload });
  }

  /** The header block alone. */
  #block(payload: Buffer): Buffer {
    const padded = (this.#flags & FLAG.padded) !== 0 ? 1 : 0;
    const start = padded + ((this.#flags & FLAG.priority) !== 0 ? 5 : 0);
    const end = payload.length - (padded === 1 ? (payload[0] ?? 0) : 0);
    if (start > end) throw padding();
    return payload.subarray(start, end);
  }
}

const padding = (): ConnectionError => new ConnectionError(CODE.protocol, "padding longer than its frame");
