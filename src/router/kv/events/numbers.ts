/**
 * Numbers of the table, under which engines hold blocks: a new one for each incarnation of a cache.
 *
 * What an engine held vanishes in constant time: its number lives no more. Its blocks are given up a few at a time, and only
 * then does the number serve again, after all others that are free: a reader that has not heard yet finds nothing there.
 */
import type { HolderTable } from "../table.ts";
import { HeldBlocks, type CacheLimits } from "./held.ts";

const EVERY_MARK = 0xff;
/** Free numbers rest until there are so many: what was said of them is read until the next message, 200 ms later. */
const RESTING = 64;

export class Numbers {
  readonly #table: HolderTable;
  readonly #seed: () => number;
  readonly #free: number[] = [];
  #fresh = 0;
  #retired: HeldBlocks[] = [];

  /** @param seed a number that engines cannot guess, for each store */
  constructor(table: HolderTable, seed: () => number) {
    this.#table = table;
    this.#seed = seed;
  }

  /** Numbers ever given: readers need not look beyond. */
  get given(): number {
    return this.#fresh;
  }

  /** Blocks that wait to be given up. */
  get waiting(): number {
    return this.#retired.reduce((sum, { blocks }) => sum + blocks, 0);
  }

  /** An empty cache in place of another, whose blocks are gone at once. */
  renew(before: HeldBlocks | undefined, limits: CacheLimits): HeldBlocks {
    if (before !== undefined) this.retire(before);
    const id = this.#take();
    this.#table.live[id] = EVERY_MARK;
    return new HeldBlocks(this.#table, id, limits, this.#seed());
  }

  retire(held: HeldBlocks): void {
    this.#table.live[held.id] = 0;
    this.#retired.push(held);
  }

  /** Gives up so many blocks of those that are gone. */
  bury(most: number): void {
    for (let first = this.#retired[0]; first !== undefined; first = this.#retired[0]) {
      if (!first.bury(most)) return;
      this.#retired.shift();
      this.#free.push(first.id);
    }
  }

  /** Low numbers serve again, so that readers and rows have few to look at. Where all are taken, those that wait are given up at once. Throws where more are in use than there are. */
  #take(): number {
    const rested = this.#free.length > RESTING || this.#fresh === this.#table.geometry.endpoints;
    if (!rested) return this.#fresh++;
    if (this.#free.length === 0) this.bury(Infinity);
    const id = this.#free.shift();
    if (id === undefined) throw new RangeError("more engines than the table has numbers");
    return id;
  }
}
