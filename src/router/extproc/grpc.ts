/** gRPC framing over HTTP/2: each message is a byte of flags, four bytes of length (big endian), then the message. */
import { WireError } from "./wire.ts";

const PREFIX_BYTES = 5;

/** gRPC status codes that we send. */
export const GRPC = {
  ok: 0,
  cancelled: 1,
  invalidArgument: 3,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

/** The framed message, as buffers to be written in order. */
export function frame(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(
    parts.reduce((sum, part) => sum + part.length, 0),
    1,
  );
  return [prefix, ...parts];
}

/** A message longer than we take. */
export class MessageTooLarge extends WireError {}

const NOTHING: Buffer = Buffer.alloc(0);
/** What V8 and the allocator spend on a buffer beside its bytes. */
export const BUFFER_OVERHEAD = 256;
const LEAST_BYTES = 512;
/** Room is taken for so many times of what came, at most: a length is quickly claimed. */
const TRUST = 4;

/**
 * Cuts a byte stream into messages. One that is whole in its chunk is a piece of it; one that is not is copied, once,
 * into a buffer of its own: chunks of one byte would each hold on to the read that they came in.
 */
export class Deframer {
  readonly #maxBytes: number;
  /** The beginning of a message, and how much of it is here. */
  #begun: Buffer = NOTHING;
  #size = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of memory that wait for the rest of their message. */
  get held(): number {
    return this.#size === 0 ? 0 : this.#begun.length + BUFFER_OVERHEAD;
  }

  /** The messages that `chunk` completes. */
  push(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    let at = this.#size === 0 ? 0 : this.#goOn(chunk, messages);
    while (chunk.length - at >= PREFIX_BYTES) {
      const end = at + this.#lengthAt(chunk, at);
      if (end > chunk.length) break;
      messages.push(chunk.subarray(at + PREFIX_BYTES, end));
      at = end;
    }
    if (at < chunk.length) this.#gather(chunk, at, chunk.length);
    return messages;
  }

  /** Of the message, with its prefix. */
  #lengthAt(bytes: Buffer, at: number): number {
    if (bytes[at] !== 0) throw new WireError("compressed messages are not supported");
    const length = bytes.readUInt32BE(at + 1);
    if (length > this.#maxBytes)
      throw new MessageTooLarge(`message of ${length} bytes is larger than ${this.#maxBytes}`);
    return PREFIX_BYTES + length;
  }

  /** Takes what the begun message lacks; the position behind it. */
  #goOn(chunk: Buffer, messages: Buffer[]): number {
    const at = this.#size < PREFIX_BYTES ? this.#gather(chunk, 0, PREFIX_BYTES - this.#size) : 0;
    if (this.#size < PREFIX_BYTES) return at;
    const length = this.#lengthAt(this.#begun, 0);
    const end = this.#gather(chunk, at, at + length - this.#size);
    if (this.#size < length) return end;
    messages.push(this.#begun.subarray(PREFIX_BYTES, length));
    this.#begun = NOTHING;
    this.#size = 0;
    return end;
  }

  /** Copies; the position behind what was copied. */
  #gather(chunk: Buffer, from: number, to: number): number {
    const end = Math.min(to, chunk.length);
    this.#reserve(this.#size + end - from, chunk, from);
    this.#size += chunk.copy(this.#begun, this.#size, from, end);
    return end;
  }

  #reserve(needed: number, chunk: Buffer, from: number): void {
    if (needed <= this.#begun.length) return;
    const room = Math.max(LEAST_BYTES, needed * TRUST);
    // The whole message where its length is known, so that it is not copied again.
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(room, this.#wanted(chunk, from))));
    if (this.#size > 0) this.#begun.copy(grown, 0, 0, this.#size);
    this.#begun = grown;
  }

  #wanted(chunk: Buffer, from: number): number {
    if (this.#size >= PREFIX_BYTES) return this.#lengthAt(this.#begun, 0);
    return this.#size === 0 && chunk.length - from >= PREFIX_BYTES ? this.#lengthAt(chunk, from) : LEAST_BYTES;
  }
}
