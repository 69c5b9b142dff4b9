/**
 * One stream of a connection: what its peer may still send, what may still be sent to it, and what waits for that.
 *
 * A small object without listeners: ten thousand of them wait for long answers at once.
 */
import { CODE } from "./frames.ts";

/** What is told of a stream. `closed` comes once, and last. */
export interface StreamListener {
  /** Bytes of a body; they may be kept. */
  data(chunk: Buffer): void;
  /** The peer sends no more. */
  ended(): void;
  /** What waited has gone out. */
  drained(): void;
  closed(): void;
}

/** What a stream needs of its connection. */
export interface Carrier {
  /** Sends as much as windows and socket allow, and the trailers behind the last of it. */
  pump(stream: OpenStream): void;
  headers(stream: OpenStream, block: Buffer, end: boolean): void;
  /** Lets the peer send this many bytes more. */
  grant(stream: OpenStream, bytes: number): void;
  reset(stream: OpenStream, code: number): void;
}

/** Less is not worth a frame. */
const LEAST_GRANT = 16_384;

export class OpenStream {
  readonly id: number;
  readonly #carrier: Carrier;
  readonly #window: number;
  listener: StreamListener | undefined;
  /** Bytes that we may send. */
  sendWindow: number;
  /** Bytes that the peer may send. */
  receiveWindow: number;
  /** The peer sends no more. */
  ended = false;
  closed = false;
  /** Some of its answer went out. */
  answered = false;
  /** Bytes of the body that were announced and are still to come; -1: none were announced. */
  announced: number;
  /** Parts that wait, the first from `#offset` on; none where nothing does: an empty list keeps room for 17. */
  #waiting: Uint8Array[] | undefined;
  #offset = 0;
  #unsent = 0;
  #trailers: Buffer | undefined;
  #paused = false;

  constructor(carrier: Carrier, id: number, windows: { send: number; receive: number }, announced = -1) {
    this.#carrier = carrier;
    this.id = id;
    this.announced = announced;
    this.sendWindow = windows.send;
    this.receiveWindow = windows.receive;
    this.#window = windows.receive;
  }

  /** Bytes that wait for the peer. */
  get unsent(): number {
    return this.#unsent;
  }

  get trailers(): Buffer | undefined {
    return this.#trailers;
  }

  /** Headers of the answer, at most 16 KiB in one block; with `end` they are all of it. */
  respond(block: Buffer, end = false): void {
    if (!this.closed) this.#carrier.headers(this, block, end);
  }

  write(part: Uint8Array): void {
    if (this.closed || this.#trailers !== undefined || part.length === 0) return;
    if (this.#waiting === undefined) this.#waiting = [part];
    else this.#waiting.push(part);
    this.#unsent += part.length;
    this.#carrier.pump(this);
  }

  /** Trailers follow what was written; nothing follows them. */
  end(trailers: Buffer): void {
    if (this.closed || this.#trailers !== undefined) return;
    this.answered = true;
    this.#trailers = trailers;
    this.#carrier.pump(this);
  }

  reset(code: number = CODE.cancel): void {
    if (!this.closed) this.#carrier.reset(this, code);
  }

  /** The peer may send what it was granted, and no more. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#grant(1);
  }

  /** Counts them off. */
  isMoreThanAnnounced(bytes: number): boolean {
    if (this.announced < 0) return false;
    this.announced -= bytes;
    return this.announced < 0;
  }

  /** Bytes were taken from the peer. */
  received(bytes: number): void {
    this.receiveWindow -= bytes;
    this.#grant(Math.min(this.#window, Math.max(LEAST_GRANT, this.#window / 2)));
  }

  #grant(least: number): void {
    const missing = this.#window - this.receiveWindow;
    if (this.#paused || this.ended || this.closed || missing < least) return;
    this.receiveWindow += missing;
    this.#carrier.grant(this, missing);
  }

  /** The next bytes to send, at most so many. */
  next(most: number): Uint8Array {
    const part = this.#waiting?.[0] ?? NOTHING;
    const piece = part.subarray(this.#offset, this.#offset + most);
    this.#offset += piece.length;
    this.#unsent -= piece.length;
    this.answered = true;
    if (this.#offset === part.length) {
      this.#waiting?.shift();
      if (this.#waiting?.length === 0) this.#waiting = undefined;
      this.#offset = 0;
    }
    return piece;
  }

  /** Nothing of it is kept. */
  close(): void {
    this.closed = true;
    this.#waiting = undefined;
    this.#unsent = 0;
    const { listener } = this;
    this.listener = undefined;
    listener?.closed();
  }
}

const NOTHING = Buffer.alloc(0);
