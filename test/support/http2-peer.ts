/** A peer of `Connection` without sockets: frames in, frames out, by a script. */
import { Connection } from "../../src/router/http2/connection.ts";
import { FLAG, FRAME, HEAD_BYTES, PREFACE, frameOf, wordAt } from "../../src/router/http2/frames.ts";
import { settingsFrame, type ConnectionError } from "../../src/router/http2/frames.ts";
import { blockOf } from "../../src/router/http2/hpack.ts";
import type { Limits } from "../../src/router/http2/limits.ts";
import type { OpenStream } from "../../src/router/http2/stream.ts";
import type { HeaderList } from "../../src/router/headers.ts";

export const LIMITS: Limits = {
  maxStreams: 10,
  streamWindow: 65_535,
  connectionWindow: 65_535,
  maxHeaderBytes: 16_384,
  resetsPerSecond: 50,
  grantsPerSecond: 50,
  idleFramesPerSecond: 20,
  settingsPerSecond: 10,
  faultsPerSecond: 5,
};

/** What a stream was told, by its id. */
export interface Heard {
  headers: HeaderList;
  readonly body: Buffer[];
  ended: boolean;
  drained: number;
  closed: boolean;
}

export interface SentFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Whole frames of what was sent. */
export function framesIn(bytes: Buffer): SentFrame[] {
  const frames: SentFrame[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length;) {
    const end = at + HEAD_BYTES + bytes.readUIntBE(at, 3);
    const payload = bytes.subarray(at + HEAD_BYTES, end);
    frames.push({ type: bytes[at + 3] ?? 0, flags: bytes[at + 4] ?? 0, stream: wordAt(bytes, at + 5), payload });
    at = end;
  }
  return frames;
}

const LINES: Readonly<Record<number, (frame: SentFrame) => string>> = {
  [FRAME.goaway]: ({ payload }) => `goaway ${wordAt(payload, 0)} code ${wordAt(payload, 4)}`,
  [FRAME.reset]: ({ stream, payload }) => `reset ${stream} code ${wordAt(payload, 0)}`,
  [FRAME.windowUpdate]: ({ stream, payload }) => `windowUpdate ${stream} by ${wordAt(payload, 0)}`,
  [FRAME.settings]: (frame) => `settings${ifSet(frame, FLAG.ack, "ack")}`,
  [FRAME.ping]: (frame) => `ping${ifSet(frame, FLAG.ack, "ack")}`,
  [FRAME.headers]: (frame) => `headers ${frame.stream}${ifSet(frame, FLAG.endStream, "end")}`,
  [FRAME.data]: (frame) => `data ${frame.stream} of ${frame.payload.length}${ifSet(frame, FLAG.endStream, "end")}`,
};

const ifSet = ({ flags }: SentFrame, flag: number, word: string): string => ((flags & flag) === 0 ? "" : ` ${word}`);

/** One line a frame: `reset 1 code 8`, `data 3 of 5 end`. */
export const lineOf = (frame: SentFrame): string => LINES[frame.type]?.(frame) ?? `type ${frame.type}`;

export class Peer {
  readonly connection: Connection;
  readonly heard = new Map<number, Heard>();
  readonly streams = new Map<number, OpenStream>();
  readonly errors: ConnectionError[] = [];
  /** Timers that wait. */
  readonly due: { ms: number; task: () => void }[] = [];
  now = 0;
  /** The socket takes what it is given. */
  room = true;
  paused = false;
  ended = false;
  writes = 0;
  #tasks: (() => void)[] = [];
  #sent: Buffer[] = [];

  constructor(limits: Partial<Limits> = {}, opened: (stream: OpenStream) => void = () => undefined) {
    this.connection = new Connection({
      limits: { ...LIMITS, ...limits },
      clock: { now: () => this.now, monotonic: () => this.now },
      timers: {
        after: (ms, task) => {
          this.due.push({ ms, task });
          return () => undefined;
        },
        every: () => () => undefined,
      },
      wire: {
        write: (parts) => {
          this.writes += 1;
          this.#sent.push(...parts.map((part) => Buffer.from(part)));
          return this.room;
        },
        pause: () => (this.paused = true),
        resume: () => (this.paused = false),
        end: () => (this.ended = true),
      },
      defer: (task) => this.#tasks.push(task),
      opened: (stream, headers) => {
        this.#listen(stream, headers);
        opened(stream);
      },
      refused: (error) => this.errors.push(error),
    });
  }

  /** Preface and SETTINGS, and what comes back is forgotten. */
  greet(settings: readonly (readonly [number, number])[] = []): this {
    this.send(PREFACE, settingsFrame(settings));
    this.take();
    return this;
  }

  send(...bytes: readonly Buffer[]): this {
    for (const chunk of bytes) this.connection.receive(chunk);
    this.turn();
    return this;
  }

  /** The turn ends: what was deferred runs. */
  turn(): void {
    while (this.#tasks.length > 0) for (const task of this.#tasks.splice(0)) task();
  }

  /** What was sent since the last time. */
  take(): SentFrame[] {
    this.turn();
    return framesIn(Buffer.concat(this.#sent.splice(0)));
  }

  lines(): string[] {
    return this.take().map(lineOf);
  }

  #listen(stream: OpenStream, headers: HeaderList): void {
    const heard: Heard = { headers, body: [], ended: false, drained: 0, closed: false };
    this.heard.set(stream.id, heard);
    this.streams.set(stream.id, stream);
    stream.listener = {
      data: (chunk) => void heard.body.push(Buffer.from(chunk)),
      ended: () => (heard.ended = true),
      drained: () => (heard.drained += 1),
      closed: () => (heard.closed = true),
    };
  }
}

export const REQUEST: HeaderList = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/x"],
];

export interface HeadersShape {
  readonly end?: boolean;
  readonly more?: boolean;
  readonly headers?: HeaderList;
}

export const headersFrame = (
  stream: number,
  { end = false, more = false, headers = REQUEST }: HeadersShape = {},
): Buffer =>
  frameOf(FRAME.headers, (end ? FLAG.endStream : 0) | (more ? 0 : FLAG.endHeaders), stream, blockOf(headers));

export const dataFrame = (stream: number, bytes: Uint8Array | number, end = false): Buffer =>
  frameOf(FRAME.data, end ? FLAG.endStream : 0, stream, typeof bytes === "number" ? Buffer.alloc(bytes, "x") : bytes);
