/**
 * The walk along the blocks of one prompt, for all endpoints at once: who holds the run from the start, and how far.
 *
 * Blocks of a prompt mostly have the same holders one after another: those cost a comparison of two words. Only where the
 * holders change are the endpoints still in the run looked at, so the walk costs blocks plus changes, not blocks times
 * endpoints.
 */
import { IN_ROW, INLINE, inline, type Value } from "./holders.ts";
import type { RowPool } from "./rows.ts";

/** Valid until the next walk. */
export interface Matches {
  /** Leading blocks that the endpoint holds. */
  of(endpoint: number): number;
}

export class MatchWalk implements Matches {
  readonly #live: Uint8Array;
  readonly #pool: RowPool;
  readonly #depths: Uint32Array;
  /** Endpoints that hold the first block; of them, those before `#running` hold all blocks so far. */
  readonly #found: Uint16Array;
  /** Numbers of endpoints that were ever given, from 0 on: no row has others. */
  endpoints: number;
  #count = 0;
  #running = 0;
  /** Holders of the block that was looked at last. */
  value: Value = { low: 0, high: 0 };
  #marks = 0xff;

  constructor(live: Uint8Array, pool: RowPool) {
    this.#live = live;
    this.#pool = pool;
    this.endpoints = live.length;
    this.#depths = new Uint32Array(live.length);
    this.#found = new Uint16Array(live.length);
  }

  of(endpoint: number): number {
    return this.#depths[endpoint] ?? 0;
  }

  /** @param marks those that count, as bits */
  begin(marks: number): void {
    this.#marks = marks;
    for (let at = 0; at < this.#count; at++) this.#depths[this.#found[at] ?? 0] = 0;
    this.#count = 0;
    this.#running = 0;
  }

  /** The holders of the next block; false where nobody holds the run any more. */
  next(low: number, high: number, block: number): boolean {
    if (block > 0 && low === this.value.low && high === this.value.high) return true;
    this.value = { low, high };
    if (block === 0) this.#start();
    else this.#narrow(block);
    return this.#running > 0;
  }

  end(blocks: number): this {
    for (let at = 0; at < this.#running; at++) this.#depths[this.#found[at] ?? 0] = blocks;
    return this;
  }

  /** Those that do not hold this block change places with the last that may. */
  #narrow(block: number): void {
    for (let at = 0; at < this.#running;) {
      const endpoint = this.#found[at] ?? 0;
      if (this.#holds(endpoint)) at += 1;
      else {
        this.#depths[endpoint] = block;
        this.#running -= 1;
        this.#found[at] = this.#found[this.#running] ?? 0;
        this.#found[this.#running] = endpoint;
      }
    }
  }

  #holds(endpoint: number): boolean {
    return (this.#pool.marks(this.value, endpoint) & this.#marks & (this.#live[endpoint] ?? 0)) !== 0;
  }

  #start(): void {
    const { low, high } = this.value;
    if (high === IN_ROW) for (let endpoint = 0; endpoint < this.endpoints; endpoint++) this.#take(endpoint);
    else for (let place = 0; place < INLINE; place++) this.#take(inline(low, high, place) >> 3);
    this.#running = this.#count;
  }

  #take(endpoint: number): void {
    if (endpoint < 0 || !this.#holds(endpoint)) return;
    for (let at = 0; at < Math.min(this.#count, INLINE); at++) if (this.#found[at] === endpoint) return;
    this.#found[this.#count++] = endpoint;
  }
}
