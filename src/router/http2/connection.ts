/**
 * The server side of one HTTP/2 connection (RFC 9113): frames in, streams told, frames out.
 *
 * Decides from the bytes of the peer and the limits it is given; knows no socket, no gRPC and no proxy. It never trusts
 * the peer with memory or time: windows, header blocks, streams, resets and frames that carry nothing are bounded, and
 * what goes beyond ends the connection. Why not node:http2, and what is bounded how: docs/adr/0011-http2.md.
 */
import type { Clock, Timers } from "../../ports.ts";
import type { HeaderList } from "../headers.ts";
import { CODE, ConnectionError, DEFAULT_WINDOW, FLAG, FRAME, MAX_FRAME_BYTES, MAX_WINDOW } from "./frames.ts";
import { SETTING, frameOf, settingsFrame, wordAt, words } from "./frames.ts";
import { HeaderDecoder, type Decoded } from "./hpack.ts";
import { budgetsOf, type Budgets, type Limits } from "./limits.ts";
import { Parser, type Frame } from "./parser.ts";
import { requestHead, trailersFault } from "./request-head.ts";
import { Sender, type Wire } from "./sender.ts";
import { OpenStream, type Carrier } from "./stream.ts";

export interface ConnectionOptions {
  readonly limits: Limits;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Calls at the end of the turn: after all that runs now, and what it promised. */
  readonly defer: (task: () => void) => void;
  /** A request began. Its listener is to be set before this returns; the headers are not kept. */
  readonly opened: (stream: OpenStream, headers: HeaderList) => void;
  /** Why the peer was sent away. */
  readonly refused: (error: ConnectionError) => void;
}

/** CONTINUATION frames of one header block. */
const MAX_CONTINUATIONS = 16;
/** Streams that the peer opens between the two GOAWAYs of a drain are still served. */
export const GOAWAY_LAG_MS = 1000;
/** Who goes too far is kept waiting for so long. */
export const CALM_MS = 1000;

interface Block {
  readonly stream: number;
  readonly end: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export class Connection implements Carrier {
  readonly #options: ConnectionOptions;
  readonly #parser: Parser;
  readonly #decoder: HeaderDecoder;
  readonly #sender: Sender;
  readonly #streams = new Map<number, OpenStream>();
  readonly #budgets: Budgets;
  #receiveWindow: number;
  #lastId = 0;
  #block: Block | undefined;
  #draining = false;
  /** The second GOAWAY is out: nothing new is served. */
  #closing = false;
  #over = false;

  constructor(options: ConnectionOptions) {
    const { limits, clock, wire, defer } = options;
    this.#options = options;
    this.#budgets = budgetsOf(limits, clock);
    this.#decoder = new HeaderDecoder(limits.maxHeaderBytes);
    this.#receiveWindow = limits.connectionWindow;
    this.#sender = new Sender({ wire, defer, answered: (stream) => this.#done(stream) });
    this.#parser = new Parser({
      frame: (frame) => this.#take(frame),
      bodyBegin: (stream) => this.#bodyBegin(stream),
      body: (stream, chunk, cost) => this.#body(stream, chunk, cost),
      bodyEnd: (stream, empty, last) => this.#bodyEnd(stream, empty, last),
    });
    this.#sender.send(
      settingsFrame([
        [SETTING.maxConcurrentStreams, limits.maxStreams],
        [SETTING.initialWindowSize, limits.streamWindow],
        [SETTING.maxHeaderListSize, limits.maxHeaderBytes],
      ]),
    );
    if (limits.connectionWindow > DEFAULT_WINDOW)
      this.#sender.send(frameOf(FRAME.windowUpdate, 0, 0, words(limits.connectionWindow - DEFAULT_WINDOW)));
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** The peer has shown that it speaks HTTP/2. */
  get greeted(): boolean {
    return this.#parser.greeted;
  }

  /** Bytes of the peer, in any pieces; they may be kept. Throws what a listener throws, and nothing of its own. */
  receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#parser.push(chunk);
      this.#sender.settle();
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.refuse(error);
    }
  }

  /** The socket takes bytes again. */
  writable(): void {
    this.#sender.writable();
  }

  /** A frame that asks for an answer: what a live peer sends back is heard. */
  ping(): void {
    this.#sender.send(frameOf(FRAME.ping, 0, 0, words(0, 0)));
  }

  /** Nothing was heard for a while: memory is given back. */
  rest(): void {
    this.#sender.rest();
  }

  /** No new streams; the connection ends with the last one that runs. */
  drain(): void {
    if (this.#draining || this.#over) return;
    this.#draining = true;
    this.#goaway(MAX_WINDOW, CODE.none);
    this.#options.timers.after(GOAWAY_LAG_MS, () => this.#close());
  }

  /** The socket is gone: so are all streams. */
  gone(): void {
    this.#over = true;
    this.#sender.stop();
    for (const stream of [...this.#streams.values()]) this.#forget(stream);
  }

  /** Sends the peer away; one that floods is not read from, and waits to hear of it, for it would come again at once. */
  refuse(error: ConnectionError): void {
    if (this.#over) return;
    const { wire, timers, refused } = this.#options;
    const last = frameOf(FRAME.goaway, 0, 0, words(this.#lastId, error.code));
    this.#sender.flush();
    this.gone();
    refused(error);
    const leave = (): void => {
      wire.write([last]);
      wire.end();
    };
    if (error.code !== CODE.calm) leave();
    else {
      wire.pause();
      timers.after(CALM_MS, leave);
    }
  }

  #close(): void {
    if (this.#over) return;
    this.#closing = true;
    this.#goaway(this.#lastId, CODE.none);
    this.#endIfDone();
  }

  #goaway(last: number, code: number): void {
    this.#sender.send(frameOf(FRAME.goaway, 0, 0, words(last, code)));
  }

  #endIfDone(): void {
    if (!this.#closing || this.#streams.size > 0 || this.#over) return;
    this.#sender.flush();
    this.#over = true;
    this.#sender.stop();
    this.#options.wire.end();
  }

  // What the peer sends.

  #take(frame: Frame): void {
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
      case FRAME.settings:
        this.#settings(frame);
        return;
      default:
        this.#budgets.idle.take();
        if (frame.type === FRAME.ping && (frame.flags & FLAG.ack) === 0)
          this.#sender.send(frameOf(FRAME.ping, FLAG.ack, 0, frame.payload));
    }
  }

  #settings({ flags, payload }: Frame): void {
    this.#budgets.settings.take();
    if ((flags & FLAG.ack) !== 0) return;
    let window: number | undefined;
    for (let at = 0; at < payload.length; at += 6)
      window = this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2)) ?? window;
    // Once a frame, which has room for 2730 of them: each touches every stream.
    if (window !== undefined) this.#sender.resize(window, this.#streams.values());
    this.#sender.send(frameOf(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)));
  }

  /** The window of a stream, where that is what is set. */
  #setting(id: number, value: number): number | undefined {
    if (id === SETTING.initialWindowSize) {
      if (value > MAX_WINDOW) throw new ConnectionError(CODE.flowControl, `a window of ${value} bytes`);
      return value;
    }
    if (id === SETTING.maxFrameSize) {
      if (value < MAX_FRAME_BYTES || value >= 2 ** 24)
        throw new ConnectionError(CODE.protocol, `frames of ${value} bytes`);
      this.#sender.frameBytes = value;
    } else if (id === SETTING.enablePush && value > 1) throw new ConnectionError(CODE.protocol, `ENABLE_PUSH ${value}`);
    return undefined;
  }

  #headers({ stream, flags, payload }: Frame): void {
    if (stream % 2 === 0) throw new ConnectionError(CODE.protocol, `a request on stream ${stream}`);
    const end = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) this.#whole(stream, payload, end);
    else this.#block = { stream, end, parts: [Buffer.from(payload)], bytes: payload.length };
  }

  #continuation({ flags, payload }: Frame): void {
    const block = this.#block;
    if (block === undefined) return;
    block.parts.push(Buffer.from(payload));
    block.bytes += payload.length;
    if (block.bytes > this.#options.limits.maxHeaderBytes || block.parts.length > MAX_CONTINUATIONS + 1)
      throw new ConnectionError(CODE.calm, "header block too long");
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    this.#whole(block.stream, Buffer.concat(block.parts), block.end);
  }

  /** A whole block. It is decoded whatever becomes of its stream: the table goes on with it. */
  #whole(id: number, block: Buffer, end: boolean): void {
    const decoded = this.#decoder.decode(block);
    if (id <= this.#lastId) {
      this.#trailers(id, decoded, end);
      return;
    }
    this.#lastId = id;
    if (this.#closing || this.#streams.size >= this.#options.limits.maxStreams) {
      this.#budgets.resets.take();
      this.#sendReset(id, CODE.refused);
      return;
    }
    this.#request(id, decoded, end);
  }

  #request(id: number, decoded: Decoded, end: boolean): void {
    if (end) this.#budgets.idle.take();
    decoded.head ??= requestHead(decoded.headers);
    if (decoded.tooLarge || decoded.head.fault !== undefined) {
      this.#budgets.faults.take();
      this.#sendReset(id, decoded.tooLarge ? CODE.calm : CODE.protocol);
      return;
    }
    const windows = { send: this.#sender.streamWindow, receive: this.#options.limits.streamWindow };
    const stream = new OpenStream(this, id, windows, decoded.head.length);
    this.#streams.set(id, stream);
    this.#options.opened(stream, decoded.headers);
    if (end) this.#ended(stream);
  }

  /** Of a stream that was reset here a moment ago nothing is wanted. */
  #trailers(id: number, { headers, tooLarge }: Decoded, end: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) this.#budgets.idle.take();
    else if (stream.ended) this.#fault(stream, CODE.streamClosed);
    else if (!end || tooLarge || trailersFault(headers) !== undefined) this.#fault(stream, CODE.protocol);
    else this.#ended(stream);
  }

  /** The peer sends no more of it; less than it announced is a fault. */
  #ended(stream: OpenStream): void {
    if (stream.closed) return;
    stream.ended = true;
    if (stream.announced > 0) this.#fault(stream, CODE.protocol);
    else stream.listener?.ended();
  }

  #bodyBegin(id: number): void {
    if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `DATA on idle stream ${id}`);
    const stream = this.#streams.get(id);
    if (stream?.ended === true) this.#fault(stream, CODE.streamClosed);
  }

  #body(id: number, chunk: Buffer, cost: number): void {
    this.#receiveWindow -= cost;
    if (this.#receiveWindow < 0) throw new ConnectionError(CODE.flowControl, "more than the connection's window");
    this.#grantConnection();
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (cost > stream.receiveWindow) this.#fault(stream, CODE.flowControl);
    else if (stream.isMoreThanAnnounced(chunk.length)) this.#fault(stream, CODE.protocol);
    else {
      stream.received(cost);
      if (chunk.length > 0) stream.listener?.data(chunk);
    }
  }

  #bodyEnd(id: number, empty: boolean, last: boolean): void {
    const stream = this.#streams.get(id);
    if (empty && (!last || stream === undefined)) this.#budgets.idle.take();
    if (last && stream !== undefined) this.#ended(stream);
  }

  /** All that came is taken at once: what is held of it is counted elsewhere, stream by stream. */
  #grantConnection(): void {
    const missing = this.#options.limits.connectionWindow - this.#receiveWindow;
    if (missing < this.#options.limits.connectionWindow / 2) return;
    this.#receiveWindow += missing;
    this.#sender.send(frameOf(FRAME.windowUpdate, 0, 0, words(missing)));
  }

  #peerReset({ stream: id }: Frame): void {
    if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `RST_STREAM of idle stream ${id}`);
    this.#budgets.resets.take();
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (!stream.answered) this.#budgets.early.take();
    this.#forget(stream);
  }

  #peerGrants({ stream: id, payload }: Frame): void {
    this.#budgets.grants.take();
    const bytes = wordAt(payload, 0);
    if (id > 0) this.#streamGranted(id, bytes);
    else if (bytes === 0) throw new ConnectionError(CODE.protocol, "a window update of nothing");
    else this.#sender.granted(bytes);
  }

  #streamGranted(id: number, bytes: number): void {
    if (id > this.#lastId || id % 2 === 0) throw new ConnectionError(CODE.protocol, `a window of idle stream ${id}`);
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.sendWindow += bytes;
    if (bytes === 0) this.#fault(stream, CODE.protocol);
    else if (stream.sendWindow > MAX_WINDOW) this.#fault(stream, CODE.flowControl);
    else this.#sender.unblock(stream);
  }

  /** The peer made us reset its stream: with no budget it could start work without end that way (CVE-2025-8671). */
  #fault(stream: OpenStream, code: number): void {
    this.#budgets.faults.take();
    this.reset(stream, code);
  }

  // What streams send.

  headers(stream: OpenStream, block: Buffer, end: boolean): void {
    this.#sender.headers(stream, block, end);
  }

  pump(stream: OpenStream): void {
    this.#sender.pump(stream);
  }

  grant(stream: OpenStream, bytes: number): void {
    this.#sender.send(frameOf(FRAME.windowUpdate, 0, stream.id, words(bytes)));
  }

  reset(stream: OpenStream, code: number): void {
    this.#sendReset(stream.id, code);
    this.#forget(stream);
  }

  /** We have said all; what the peer still sends of it is of no use. */
  #done(stream: OpenStream): void {
    if (!stream.ended) this.#sendReset(stream.id, CODE.none);
    this.#forget(stream);
  }

  #sendReset(id: number, code: number): void {
    this.#sender.send(frameOf(FRAME.reset, 0, id, words(code)));
  }

  #forget(stream: OpenStream): void {
    this.#streams.delete(stream.id);
    this.#sender.forget(stream);
    if (!stream.closed) stream.close();
    this.#endIfDone();
  }
}
