/** gRPC framing over HTTP/2: each message is a byte of flags, four bytes of length (big endian), then the message. */
import { WireError } from "./wire.ts";

const PREFIX_BYTES = 5;

/** gRPC status codes that we send. */
export const GRPC = {
  ok: 0,
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

/** Cuts a byte stream into messages; keeps a list of chunks, so that a large message is copied once at most. */
export class Deframer {
  #chunks: Buffer[] = [];
  #held = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of messages that are not complete. */
  get held(): number {
    return this.#held;
  }

  /** The messages that `chunk` completes. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    const messages: Buffer[] = [];
    for (let message = this.#take(); message !== undefined; message = this.#take()) messages.push(message);
    return messages;
  }

  #take(): Buffer | undefined {
    if (this.#held < PREFIX_BYTES) return undefined;
    const head = this.#peek(PREFIX_BYTES);
    if (head[0] !== 0) throw new WireError("compressed messages are not supported");
    const length = head.readUInt32BE(1);
    if (length > this.#maxBytes)
      throw new MessageTooLarge(`message of ${length} bytes is larger than ${this.#maxBytes}`);
    if (this.#held < PREFIX_BYTES + length) return undefined;
    return this.#cut(PREFIX_BYTES + length).subarray(PREFIX_BYTES);
  }

  /** The first `count` bytes in one piece, still held. */
  #peek(count: number): Buffer {
    const [first] = this.#chunks;
    if (first !== undefined && first.length >= count) return first;
    this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #cut(count: number): Buffer {
    const whole = this.#peek(count);
    this.#held -= count;
    if (whole.length === count) this.#chunks.shift();
    else this.#chunks[0] = whole.subarray(count);
    return whole.subarray(0, count);
  }
}
