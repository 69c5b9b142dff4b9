/**
 * The server side of one HTTP/2 connection (RFC 9113): frames in, streams told, frames out.
 *
 * Decides from the bytes of the peer and the limits it is given; knows no socket, no gRPC and no proxy. It never trusts
 * the peer with memory or time: windows, header blocks, streams and frames that carry nothing are bounded, and what goes
 * beyond ends the connection. Why not node:http2, and what was measured: docs/adr/0010.
 */
import type { Clock, Timers } from "../../ports.ts";
import type { HeaderList } from "../headers.ts";
import { Budget } from "./budget.ts";
import { CODE, ConnectionError, DEFAULT_WINDOW, FLAG, FRAME, MAX_FRAME_BYTES, MAX_WINDOW } from "./frames.ts";
import { SETTING, frameOf, settingsFrame, wordAt, words } from "./frames.ts";
import { HeaderDecoder } from "./hpack.ts";
import { Output } from "./output.ts";
import { Parser, type Frame } from "./parser.ts";
import { OpenStream, type Carrier } from "./stream.ts";

export interface Limits {
  readonly maxStreams: number;
  /** Bytes that a peer may send of one stream, and over all, before they are taken. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly maxHeaderBytes: number;
  /** Streams reset, or refused, a second. */
  readonly resetsPerSecond: number;
  /** Frames a second that carry nothing: SETTINGS, PING, PRIORITY, empty DATA, what is unknown. */
  readonly idleFramesPerSecond: number;
}

/** The socket. */
export interface Wire {
  /** False where it takes no more for now. */
  write(parts: readonly Uint8Array[]): boolean;
  pause(): void;
  resume(): void;
  /** Ends it once all was written. */
  end(): void;
}

export interface ConnectionOptions {
  readonly limits: Limits;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Calls at the end of the turn: after all that runs now, and what it promised. */
  readonly defer: (task: () => void) => void;
  /** A request began. Its listener is to be set before this returns. */
  readonly opened: (stream: OpenStream) => void;
  /** Why the peer was sent away. */
  readonly refused: (error: ConnectionError) => void;
}

/** Gathered bytes that are written before the turn ends. */
const FLUSH_BYTES = 262_144;
/** CONTINUATION frames of one header block. */
const MAX_CONTINUATIONS = 16;
/** Streams that the peer opens between the two GOAWAYs of a drain are still served. */
const GOAWAY_LAG_MS = 1000;

export class Connection implements Carrier {
  readonly #options: ConnectionOptions;
  readonly #parser: Parser;
  readonly #decoder: HeaderDecoder;
  readonly #output = new Output();
  readonly #streams = new Map<number, OpenStream>();
  /** Streams with bytes that wait. */
  readonly #blocked = new Set<OpenStream>();
  readonly #resets: Budget;
  readonly #idle: Budget;
  readonly #monotonic: () => number;
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow: number;
  #peerWindow = DEFAULT_WINDOW;
  #peerFrame = MAX_FRAME_BYTES;
  #lastId = 0;
  #block: { readonly stream: number; readonly end: boolean; bytes: Buffer; pieces: number } | undefined;
  #scheduled = false;
  #full = false;
  #closing = false;
  #over = false;

  constructor(options: ConnectionOptions) {
    const { limits, clock } = options;
    this.#options = options;
    this.#monotonic = () => clock.monotonic();
    this.#resets = new Budget(limits.resetsPerSecond, clock.monotonic());
    this.#idle = new Budget(limits.idleFramesPerSecond, clock.monotonic());
    this.#decoder = new HeaderDecoder(limits.maxHeaderBytes);
    this.#receiveWindow = limits.connectionWindow;
    this.#parser = new Parser({
      frame: (frame) => this.#take(frame),
      body: (stream, chunk, cost) => this.#body(stream, chunk, cost),
      bodyEnd: (stream, empty, last) => this.#bodyEnd(stream, empty, last),
    });
    this.#send(
      settingsFrame([
        [SETTING.maxConcurrentStreams, limits.maxStreams],
        [SETTING.initialWindowSize, limits.streamWindow],
        [SETTING.maxHeaderListSize, limits.maxHeaderBytes],
      ]),
    );
    this.#send(frameOf(FRAME.windowUpdate, 0, 0, words(limits.connectionWindow - DEFAULT_WINDOW)));
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** Bytes of the peer, in any pieces. */
  receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.#refuse(error);
    }
  }

  /** The socket takes bytes again. */
  writable(): void {
    if (!this.#full || this.#over) return;
    this.#full = false;
    this.#options.wire.resume();
    this.#pumpAll();
    this.#schedule();
  }

  /** A frame that asks for an answer: what a live peer sends back is heard. */
  ping(): void {
    this.#send(frameOf(FRAME.ping, 0, 0, words(0, 0)));
  }

  /** No new streams; the connection ends with the last one that runs. */
  drain(): void {
    if (this.#closing || this.#over) return;
    this.#goaway(MAX_WINDOW, CODE.none);
    this.#options.timers.after(GOAWAY_LAG_MS, () => this.#close());
  }

  /** The socket is gone: so are all streams. */
  gone(): void {
    this.#over = true;
    for (const stream of [...this.#streams.values()]) this.#forget(stream);
  }

  #close(): void {
    if (this.#over) return;
    this.#closing = true;
    this.#goaway(this.#lastId, CODE.none);
    this.#endIfDone();
  }

  #goaway(last: number, code: number): void {
    this.#send(frameOf(FRAME.goaway, 0, 0, words(last, code)));
  }

  #refuse(error: ConnectionError): void {
    this.#goaway(this.#lastId, error.code);
    this.#flush();
    this.gone();
    this.#options.refused(error);
    this.#options.wire.end();
  }

  #endIfDone(): void {
    if (!this.#closing || this.#streams.size > 0 || this.#over) return;
    this.#flush();
    this.#over = true;
    this.#options.wire.end();
  }

  // What the peer sends.

  #take(frame: Frame): void {
    if (this.#block !== undefined && frame.type !== FRAME.continuation)
      throw new ConnectionError(CODE.protocol, "a frame inside a header block");
    switch (frame.type) {
      case FRAME.headers:
        this.#headers(frame);
        return;
      case FRAME.continuation:
        this.#continuation(frame);
        return;
      case FRAME.reset:
        this.#peerReset(frame);
        return;
      case FRAME.windowUpdate:
        this.#peerGrants(frame);
        return;
      default:
        this.#control(frame);
    }
  }

  #control({ type, flags, payload }: Frame): void {
    if (!this.#idle.take(this.#monotonic)) throw new ConnectionError(CODE.calm, "too many frames that carry nothing");
    if (type === FRAME.push) throw new ConnectionError(CODE.protocol, "PUSH_PROMISE of a client");
    if (type === FRAME.settings && (flags & FLAG.ack) === 0) this.#settings(payload);
    if (type === FRAME.ping && (flags & FLAG.ack) === 0) this.#send(frameOf(FRAME.ping, FLAG.ack, 0, payload));
  }

  #settings(payload: Buffer): void {
    for (let at = 0; at < payload.length; at += 6) this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.#send(frameOf(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)));
    this.#pumpAll();
  }

  #setting(id: number, value: number): void {
    if (id === SETTING.initialWindowSize) {
      if (value > MAX_WINDOW) throw new ConnectionError(CODE.flowControl, `a window of ${value} bytes`);
      for (const stream of this.#streams.values()) stream.sendWindow += value - this.#peerWindow;
      this.#peerWindow = value;
    } else if (id === SETTING.maxFrameSize) {
      if (value < MAX_FRAME_BYTES || value >= 2 ** 24) throw new ConnectionError(CODE.protocol, `frames of ${value} bytes`);
      this.#peerFrame = value;
    } else if (id === SETTING.enablePush && value > 1) throw new ConnectionError(CODE.protocol, `ENABLE_PUSH ${value}`);
  }

  #headers({ stream, flags, payload }: Frame): void {
    if (stream % 2 === 0) throw new ConnectionError(CODE.protocol, `a request on stream ${stream}`);
    const end = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) this.#open(stream, payload, end);
    else this.#block = { stream, end, bytes: Buffer.from(payload), pieces: 0 };
  }

  #continuation({ stream, flags, payload }: Frame): void {
    const block = this.#block;
    if (block?.stream !== stream) throw new ConnectionError(CODE.protocol, "CONTINUATION of nothing");
    block.pieces += 1;
    if (block.bytes.length + payload.length > this.#options.limits.maxHeaderBytes || block.pieces > MAX_CONTINUATIONS)
      throw new ConnectionError(CODE.calm, "header block too long");
    block.bytes = Buffer.concat([block.bytes, payload]);
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    this.#open(stream, block.bytes, block.end);
  }

  /** A whole block. It is decoded whatever becomes of its stream: the table goes on with it. */
  #open(id: number, block: Buffer, end: boolean): void {
    const headers = this.#decoder.decode(block);
    if (id <= this.#lastId) {
      this.#trailers(id, end);
      return;
    }
    this.#lastId = id;
    if (this.#closing || this.#streams.size >= this.#options.limits.maxStreams) {
      if (!this.#resets.take(this.#monotonic)) throw new ConnectionError(CODE.calm, "too many streams");
      this.#sendReset(id, CODE.refused);
      return;
    }
    this.#begin(id, headers, end);
  }

  #begin(id: number, headers: HeaderList, end: boolean): void {
    const windows = { send: this.#peerWindow, receive: this.#options.limits.streamWindow };
    const stream = new OpenStream(this, id, headers, windows);
    this.#streams.set(id, stream);
    this.#options.opened(stream);
    if (end) this.#ended(stream);
  }

  /** Of a stream that was reset here a moment ago nothing is wanted. */
  #trailers(id: number, end: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (!end || stream.ended) this.reset(stream, CODE.protocol);
    else this.#ended(stream);
  }

  #ended(stream: OpenStream): void {
    stream.ended = true;
    stream.listener?.ended();
  }

  #body(id: number, chunk: Buffer, cost: number): void {
    if (this.#block !== undefined) throw new ConnectionError(CODE.protocol, "DATA inside a header block");
    this.#receiveWindow -= cost;
    if (this.#receiveWindow < 0) throw new ConnectionError(CODE.flowControl, "more than the connection's window");
    this.#grantConnection();
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `DATA on idle stream ${id}`);
      return;
    }
    if (stream.ended || cost > stream.receiveWindow) {
      this.reset(stream, stream.ended ? CODE.streamClosed : CODE.flowControl);
      return;
    }
    stream.received(cost);
    if (chunk.length > 0) stream.listener?.data(chunk);
  }

  #bodyEnd(id: number, empty: boolean, last: boolean): void {
    if (empty && !last && !this.#idle.take(this.#monotonic)) throw new ConnectionError(CODE.calm, "too many empty frames");
    const stream = this.#streams.get(id);
    if (last && stream !== undefined && !stream.ended) this.#ended(stream);
  }

  /** All that came is taken at once: what is held of it is counted elsewhere, stream by stream. */
  #grantConnection(): void {
    const missing = this.#options.limits.connectionWindow - this.#receiveWindow;
    if (missing < this.#options.limits.connectionWindow / 2) return;
    this.#receiveWindow += missing;
    this.#send(frameOf(FRAME.windowUpdate, 0, 0, words(missing)));
  }

  #peerReset({ stream: id }: Frame): void {
    if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `RST_STREAM of idle stream ${id}`);
    if (!this.#resets.take(this.#monotonic)) throw new ConnectionError(CODE.calm, "too many streams are reset");
    const stream = this.#streams.get(id);
    if (stream !== undefined) this.#forget(stream);
  }

  #peerGrants({ stream: id, payload }: Frame): void {
    if (!this.#resets.take(this.#monotonic)) throw new ConnectionError(CODE.calm, "too many window updates");
    const bytes = wordAt(payload, 0);
    if (id === 0) this.#connectionGranted(bytes);
    else this.#streamGranted(id, bytes);
  }

  #connectionGranted(bytes: number): void {
    if (bytes === 0) throw new ConnectionError(CODE.protocol, "a window update of nothing");
    this.#sendWindow += bytes;
    if (this.#sendWindow > MAX_WINDOW) throw new ConnectionError(CODE.flowControl, "the connection's window overflows");
    this.#pumpAll();
  }

  #streamGranted(id: number, bytes: number): void {
    if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `a window of idle stream ${id}`);
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.sendWindow += bytes;
    if (bytes === 0) this.reset(stream, CODE.protocol);
    else if (stream.sendWindow > MAX_WINDOW) this.reset(stream, CODE.flowControl);
    else if (this.#blocked.has(stream)) this.#pumpDrained(stream);
  }

  // What goes to the peer.

  headers(stream: OpenStream, block: Buffer, end: boolean): void {
    const flags = FLAG.endHeaders | (end ? FLAG.endStream : 0);
    this.#output.head(block.length, FRAME.headers, flags, stream.id);
    this.#output.put(block);
    this.#schedule();
    if (end) this.done(stream);
  }

  pump(stream: OpenStream): void {
    while (stream.unsent > 0) {
      const room = Math.min(stream.sendWindow, this.#sendWindow, this.#peerFrame);
      if (room <= 0 || this.#full) {
        this.#blocked.add(stream);
        return;
      }
      const piece = stream.next(room);
      stream.sendWindow -= piece.length;
      this.#sendWindow -= piece.length;
      this.#output.head(piece.length, FRAME.data, 0, stream.id);
      this.#output.put(piece);
      this.#schedule();
    }
    this.#blocked.delete(stream);
    const { trailers } = stream;
    if (trailers !== undefined) this.headers(stream, trailers, true);
  }

  grant(stream: OpenStream, bytes: number): void {
    this.#send(frameOf(FRAME.windowUpdate, 0, stream.id, words(bytes)));
  }

  reset(stream: OpenStream, code: number): void {
    this.#sendReset(stream.id, code);
    this.#forget(stream);
  }

  /** We have said all; what the peer still sends of it is of no use. */
  done(stream: OpenStream): void {
    if (!stream.ended) this.#sendReset(stream.id, CODE.none);
    this.#forget(stream);
  }

  #sendReset(id: number, code: number): void {
    this.#send(frameOf(FRAME.reset, 0, id, words(code)));
  }

  #forget(stream: OpenStream): void {
    this.#streams.delete(stream.id);
    this.#blocked.delete(stream);
    if (!stream.closed) stream.close();
    this.#endIfDone();
  }

  #pumpAll(): void {
    for (const stream of [...this.#blocked]) if (!stream.closed) this.#pumpDrained(stream);
  }

  #pumpDrained(stream: OpenStream): void {
    this.pump(stream);
    if (!this.#blocked.has(stream)) stream.listener?.drained();
  }

  #send(frame: Buffer): void {
    this.#output.put(frame);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#output.bytes > FLUSH_BYTES) this.#flush();
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#options.defer(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#over || this.#output.bytes === 0) return;
    if (this.#options.wire.write(this.#output.take()) || this.#full) return;
    this.#full = true;
    // A peer that does not read is not read from.
    this.#options.wire.pause();
  }
}
