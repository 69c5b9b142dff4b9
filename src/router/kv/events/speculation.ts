/**
 * What endpoints are about to hold: prompts that were sent moments ago, of which no event has told yet.
 *
 * Siblings of a burst meet by it. Believed for a short while: by then events have said it, or the engine was too busy to
 * begin. A small table of the serving thread's own; times are the marks of its holders, so that what is old vanishes at once.
 */
import type { Clock } from "../../../ports.ts";
import type { BlockKeys } from "../blocks.ts";
import { holderOf } from "../holders.ts";
import { HolderTable, type Secret } from "../table.ts";

/** Slices of the time for which it is believed; half of the marks rest until they were swept away. */
const SLICES = 4;
const MARKS = 8;
/** 4 MiB: 190,000 blocks, which is 1000 prompts of 3000 tokens. */
const SLOTS = 2 ** 18;
const ROWS = 1024;

export class Speculation {
  readonly #table: HolderTable;
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #ids = new Map<string, number>();
  readonly #free: number[] = [];
  /** Numbers that were given up, and in which slice: what was recorded under them is still in the table. */
  readonly #resting: { readonly id: number; readonly slice: number }[] = [];
  #fresh = 0;
  #slice = 0;

  /** @param keepMs milliseconds for which a prompt is believed to be there */
  constructor(endpoints: number, keepMs: number, clock: Clock, secret?: Secret) {
    this.#table = new HolderTable({ slots: SLOTS, endpoints, rows: ROWS, ...(secret && { secret }) });
    this.#table.given(0);
    this.#clock = clock;
    this.#sliceMs = Math.max(1, keepMs / (SLICES - 1));
    this.#slice = this.#now();
  }

  record(endpoint: string, keys: BlockKeys): void {
    this.#turn();
    const id = this.#idOf(endpoint);
    if (id === undefined) return;
    const holder = holderOf(id, this.#slice % MARKS);
    for (let block = 0; block < keys.length / 2; block++)
      if (this.#table.put(keys, block, holder) === undefined) return;
  }

  /** Leading blocks that each endpoint is about to hold; valid until the next call. */
  match(keys: BlockKeys): (endpoint: string) => number {
    this.#turn();
    const matches = this.#table.match(keys);
    return (endpoint) => {
      const id = this.#ids.get(endpoint);
      return id === undefined ? 0 : matches.of(id);
    };
  }

  /** The endpoint began anew, or is gone. */
  forget(endpoint: string): void {
    const id = this.#ids.get(endpoint);
    if (id === undefined) return;
    this.#ids.delete(endpoint);
    this.#table.live[id] = 0;
    this.#resting.push({ id, slice: this.#slice });
  }

  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#ids.keys()) if (!endpoints.has(endpoint)) this.forget(endpoint);
  }

  #now(): number {
    return Math.floor(this.#clock.monotonic() / this.#sliceMs);
  }

  /**
   * Slices that are over vanish; their marks serve again when the whole table was swept. Swept by what is believed now and was
   * before: after a pause the marks of new slices are those of old ones, whose blocks must not come back with them.
   */
  #turn(): void {
    const now = this.#now();
    if (now === this.#slice) return;
    const since = now - this.#slice;
    this.#table.live.fill(marksOf(now, SLICES - since), 0, this.#fresh);
    this.#table.sweep(since >= MARKS - SLICES ? SLOTS : (SLOTS / (MARKS - SLICES)) * since);
    this.#slice = now;
    for (let first = this.#resting[0]; first !== undefined && now - first.slice >= MARKS; first = this.#resting[0])
      this.#free.push(this.#resting.shift()?.id ?? first.id);
    this.#table.live.fill(marksOf(now, SLICES), 0, this.#fresh);
  }

  #idOf(endpoint: string): number | undefined {
    const known = this.#ids.get(endpoint);
    if (known !== undefined) return known;
    const id = this.#free.pop() ?? (this.#fresh < this.#table.geometry.endpoints ? this.#fresh++ : undefined);
    if (id === undefined) return undefined;
    this.#table.given(this.#fresh);
    this.#ids.set(endpoint, id);
    this.#table.live[id] = marksOf(this.#slice, SLICES);
    return id;
  }
}

/** Marks of the oldest `count` of the slices that are believed in this one. */
function marksOf(slice: number, count: number): number {
  let marks = 0;
  for (let age = SLICES - 1; age >= SLICES - count; age--) marks |= 1 << ((slice + MARKS - age) % MARKS);
  return marks;
}
