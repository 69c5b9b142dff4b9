/**
 * What goes out on one connection: streams as their windows and the socket allow, one write at the end of a turn.
 *
 * A socket that takes no more is not written bodies to, and its peer is not read from: what it provokes stays within
 * what it had sent before.
 */
import { CODE, ConnectionError, DEFAULT_WINDOW, FLAG, FRAME, MAX_FRAME_BYTES, MAX_WINDOW } from "./frames.ts";
import { Output } from "./output.ts";
import type { OpenStream } from "./stream.ts";

/** The socket. */
export interface Wire {
  /** False where it takes no more for now. */
  write(parts: readonly Uint8Array[]): boolean;
  pause(): void;
  resume(): void;
  /** Ends it once all was written. */
  end(): void;
}

export interface SenderOptions {
  readonly wire: Wire;
  /** Calls at the end of the turn: after all that runs now, and what it promised. */
  readonly defer: (task: () => void) => void;
  /** All of an answer went out. */
  readonly answered: (stream: OpenStream) => void;
}

/** Gathered bytes that are written before the turn ends. */
const FLUSH_BYTES = 262_144;

export class Sender {
  readonly #options: SenderOptions;
  readonly #output = new Output();
  /** Streams with bytes that wait: whoever was served last waits longest. */
  readonly #blocked = new Set<OpenStream>();
  #window = DEFAULT_WINDOW;
  #streamWindow = DEFAULT_WINDOW;
  #frameBytes = MAX_FRAME_BYTES;
  #scheduled = false;
  #due = false;
  #full = false;
  #over = false;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** What the peer takes of a new stream. */
  get streamWindow(): number {
    return this.#streamWindow;
  }

  set frameBytes(bytes: number) {
    this.#frameBytes = bytes;
  }

  /** SETTINGS_INITIAL_WINDOW_SIZE: for streams to come and, by the difference, for those that run (section 6.9.2). */
  resize(window: number, streams: Iterable<OpenStream>): void {
    for (const stream of streams) {
      stream.sendWindow += window - this.#streamWindow;
      if (stream.sendWindow > MAX_WINDOW) throw new ConnectionError(CODE.flowControl, "a stream's window overflows");
    }
    this.#streamWindow = window;
    this.#due = true;
  }

  granted(bytes: number): void {
    // While it was open, who waits does so for a window of its own.
    if (this.#window <= 0) this.#due = true;
    this.#window += bytes;
    if (this.#window > MAX_WINDOW) throw new ConnectionError(CODE.flowControl, "the connection's window overflows");
  }

  /** After what a peer sent at once: many small windows are looked at as one. */
  settle(): void {
    if (!this.#due || this.#over) return;
    this.#due = false;
    for (const stream of [...this.#blocked]) {
      if (this.#window <= 0 || this.#full) return;
      if (stream.sendWindow > 0) this.unblock(stream);
    }
  }

  /** The socket takes bytes again. */
  writable(): void {
    if (!this.#full || this.#over) return;
    this.#full = false;
    this.#options.wire.resume();
    this.#due = true;
    this.settle();
  }

  send(frame: Buffer): void {
    this.#output.put(frame);
    this.#schedule();
  }

  headers(stream: OpenStream, block: Buffer, end: boolean): void {
    const flags = FLAG.endHeaders | (end ? FLAG.endStream : 0);
    this.#output.head(block.length, FRAME.headers, flags, stream.id);
    this.#output.put(block);
    this.#schedule();
    if (end) this.#options.answered(stream);
  }

  /** Sends as much as windows and socket allow, and the trailers behind the last of it. */
  pump(stream: OpenStream): void {
    for (let sent = false; stream.unsent > 0; sent = true) {
      const room = Math.min(stream.sendWindow, this.#window, this.#frameBytes);
      if (room <= 0 || this.#full) {
        if (sent) this.#blocked.delete(stream);
        this.#blocked.add(stream);
        return;
      }
      this.#piece(stream, room);
    }
    this.#blocked.delete(stream);
    const { trailers } = stream;
    if (trailers !== undefined) this.headers(stream, trailers, true);
  }

  /** As `pump`, for a stream that may wait; it is told where nothing of it waits any more. */
  unblock(stream: OpenStream): void {
    if (!this.#blocked.has(stream)) return;
    this.pump(stream);
    if (!this.#blocked.has(stream)) stream.listener?.drained();
  }

  forget(stream: OpenStream): void {
    this.#blocked.delete(stream);
  }

  flush(): void {
    if (this.#over || this.#output.bytes === 0) return;
    if (this.#options.wire.write(this.#output.take()) || this.#full) return;
    this.#full = true;
    this.#options.wire.pause();
  }

  /** Nothing is sent any more. */
  stop(): void {
    this.#over = true;
    this.#blocked.clear();
    this.#output.release();
  }

  /** Nothing happens here: memory is given back. */
  rest(): void {
    if (this.#output.bytes === 0) this.#output.release();
  }

  /** One frame of what waits, however many parts that is. */
  #piece(stream: OpenStream, room: number): void {
    const length = Math.min(room, stream.unsent);
    stream.sendWindow -= length;
    this.#window -= length;
    this.#output.head(length, FRAME.data, 0, stream.id);
    for (let left = length; left > 0;) {
      const piece = stream.next(left);
      this.#output.put(piece);
      left -= piece.length;
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#output.bytes > FLUSH_BYTES) this.flush();
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#options.defer(() => {
      this.#scheduled = false;
      this.flush();
    });
  }
}
