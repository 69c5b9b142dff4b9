/**
 * What goes out on one connection, gathered until the end of the turn: a socket is written to once, however many streams
 * answer in it. Small bytes are copied into a slab; large ones go as they stand.
 */
import { HEAD_BYTES, putHead } from "./frames.ts";

const SLAB_BYTES = 65_536;
/** Up to here a copy costs less than one more part of a write. */
const COPY_BYTES = 4096;

export class Output {
  #slab: Buffer = Buffer.allocUnsafeSlow(0);
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
    this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    this.#start = 0;
    this.#at = 0;
  }
}
