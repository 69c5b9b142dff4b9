/**
 * A request body as it arrives. One piece is kept as it came, unless it is a small part of what was read with it; more
 * are copied into one growing buffer, because a body in a million pieces of one byte would hold a hundred times its size.
 */
import { BUFFER_OVERHEAD } from "./grpc.ts";

/** A piece keeps all of the memory that it is a part of; up to so many times its own size it may. */
const MOST_KEPT = 4;

const EMPTY: Buffer = Buffer.alloc(0);

export class BodyBuffer {
  #bytes: Buffer = EMPTY;
  #size = 0;
  /** The bytes are ours to write to. */
  #own = false;

  /** Bytes of body. */
  get size(): number {
    return this.#size;
  }

  /** Bytes of memory; what is held is less than five times as much. */
  get held(): number {
    return this.#size === 0 ? 0 : this.#bytes.length + BUFFER_OVERHEAD;
  }

  append(chunk: Buffer): void {
    if (this.#size === 0 && chunk.length * MOST_KEPT >= chunk.buffer.byteLength) {
      this.#bytes = chunk;
      this.#own = false;
    } else {
      this.#reserve(this.#size + chunk.length);
      chunk.copy(this.#bytes, this.#size);
    }
    this.#size += chunk.length;
  }

  /** The whole body. */
  whole(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  clear(): void {
    this.#bytes = EMPTY;
    this.#size = 0;
  }

  #reserve(needed: number): void {
    if (this.#own && needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#size * 2));
    this.#bytes.copy(grown, 0, 0, this.#size);
    this.#bytes = grown;
    this.#own = true;
  }
}

/** Envoy advises at most 64 KiB a chunk; the rest is room for framing. */
export const CHUNK_BYTES = 62_000;

/** In pieces that Envoy takes; at least one. */
export function cut(body: Buffer): Buffer[] {
  if (body.length <= CHUNK_BYTES) return [body];
  const count = Math.ceil(body.length / CHUNK_BYTES);
  return Array.from({ length: count }, (_, index) => body.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES));
}
