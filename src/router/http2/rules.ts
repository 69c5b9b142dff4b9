/** What a frame must be like whatever its stream is doing: its length, its stream, its place (RFC 9113, 3.4, 4.2 and 6). */
import { CODE, ConnectionError, FLAG, FRAME, MAX_FRAME_BYTES } from "./frames.ts";

export interface FrameHead {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly length: number;
}

/** What frames of fixed length must have. */
const LENGTHS: Readonly<Record<number, number>> = {
  [FRAME.priority]: 5,
  [FRAME.reset]: 4,
  [FRAME.ping]: 8,
  [FRAME.windowUpdate]: 4,
};
/** What others must have at least. */
const LEAST: Readonly<Record<number, number>> = { [FRAME.goaway]: 8 };

/** Frames that belong to a stream, and those that belong to the connection; WINDOW_UPDATE is of both. */
const OF_STREAM = new Set<number>([FRAME.data, FRAME.headers, FRAME.priority, FRAME.reset, FRAME.continuation]);
const OF_CONNECTION = new Set<number>([FRAME.settings, FRAME.ping, FRAME.goaway]);

/** Throws a ConnectionError. */
export function checkFrame(head: FrameHead): void {
  const { type, stream, length } = head;
  if (hasWrongLength(head)) throw new ConnectionError(CODE.frameSize, `a frame of type ${type} with ${length} bytes`);
  const misplaced = stream === 0 ? OF_STREAM.has(type) : OF_CONNECTION.has(type);
  if (misplaced || type === FRAME.push)
    throw new ConnectionError(CODE.protocol, `a frame of type ${type} on stream ${stream}`);
}

function hasWrongLength({ type, flags, length }: FrameHead): boolean {
  if (length > MAX_FRAME_BYTES || (LENGTHS[type] ?? length) !== length || length < (LEAST[type] ?? 0)) return true;
  return type === FRAME.settings && (length % 6 !== 0 || ((flags & FLAG.ack) !== 0 && length > 0));
}

/** SETTINGS come first, and nothing comes between the frames of a header block. */
export class FrameOrder {
  /** Its SETTINGS were here. */
  greeted = false;
  /** Of the header block that goes on in the next frame; 0: none does. */
  #open = 0;

  /** Throws a ConnectionError. */
  check({ type, flags, stream }: FrameHead): void {
    if (!this.greeted && (type !== FRAME.settings || (flags & FLAG.ack) !== 0))
      throw new ConnectionError(CODE.protocol, "no SETTINGS at first");
    this.greeted = true;
    const isOpen = this.#open > 0;
    if (isOpen !== (type === FRAME.continuation) || (isOpen && stream !== this.#open))
      throw new ConnectionError(CODE.protocol, `a frame of type ${type} inside or outside a header block`);
    if (isOpen || type === FRAME.headers) this.#open = (flags & FLAG.endHeaders) === 0 ? stream : 0;
  }
}
