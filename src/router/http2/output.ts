/**
 * What goes out on one connection, gathered until the end of the turn: a socket is written to once, however many streams
 * answer in it. Small bytes are copied into a slab; large ones go as they stand.
 */
import { HEAD_BYTES, putHead } from "./frames.ts";

/** Slabs double up to the largest: a connection that says little costs little. */
const LEAST_SLAB_BYTES = 512;
const SLAB_BYTES = 65_536;
/** Up to here a copy costs less than one more part of a write: a frame of the usual size goes into the slab. */
const COPY_BYTES = 16_384;

const NOTHING = Buffer.alloc(0);

export class Output {
  #slab: Buffer = NOTHING;
  #start = 0;
  #at = 0;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** Bytes gathered. */
  get bytes(): number {
    return this.#bytes;
  }

  head(length: number, type: number, flags: number, stream: number): void {
    this.#reserve(HEAD_BYTES);
    putHead(this.#slab, this.#at, { length, type, flags, stream });
    this.#at += HEAD_BYTES;
    this.#bytes += HEAD_BYTES;
  }

  put(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (bytes.length > COPY_BYTES) {
      this.#cut();
      this.#parts.push(bytes);
      return;
    }
    this.#reserve(bytes.length);
    this.#slab.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Gives back what it does not need; what was put and not taken is lost. */
  release(): void {
    this.#slab = NOTHING;
    this.#start = 0;
    this.#at = 0;
    this.#parts = [];
    this.#bytes = 0;
  }

  /** All of it, in order. What was taken is never written over. */
  take(): readonly Uint8Array[] {
    this.#cut();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    return parts;
  }

  #cut(): void {
    if (this.#at > this.#start) this.#parts.push(this.#slab.subarray(this.#start, this.#at));
    this.#start = this.#at;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#slab.length) return;
    this.#cut();
    const size = Math.min(SLAB_BYTES, Math.max(LEAST_SLAB_BYTES, this.#slab.length * 2));
    this.#slab = Buffer.allocUnsafeSlow(Math.max(size, bytes));
    this.#start = 0;
    this.#at = 0;
  }
}
