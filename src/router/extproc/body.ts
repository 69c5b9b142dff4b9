/**
 * A request body as it arrives. One piece is kept as it came; more are copied into one growing buffer, because a body
 * in a million pieces of one byte would hold a hundred times its size.
 */
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

  /** Bytes of memory. */
  get held(): number {
    return this.#bytes.length;
  }

  append(chunk: Buffer): void {
    if (this.#size === 0) {
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
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#size * 2));
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
