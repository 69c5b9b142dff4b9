/**
 * What one engine holds of the router's blocks, as the shared table shows it: the tiers in which a block is, as one mark.
 *
 * The table knows a block once for each engine, engines may have it several times: under two salts, say, that are not told.
 * Such blocks are counted here, so that one goes from the table with the last of them.
 */
import type { BlockKeys } from "../blocks.ts";
import { holderOf } from "../holders.ts";
import type { HolderTable } from "../table.ts";

/** Marks of holders in the table: each a set of tiers (`TIER`), less one. */
const markOf = (tiers: number): number => tiers - 1;

/** Marks whose tiers have one of these among them, as bits: what a walk for those tiers goes by. */
export const marksWith = (tiers: number): number => {
  let marks = 0;
  for (let set = 1; set < 8; set++) if ((set & tiers) !== 0) marks |= 1 << markOf(set);
  return marks;
};

/** How many blocks of the engine are one of the router's, and how many of them are in each tier, by its bit. */
interface Shared {
  /** High word of the key. */
  readonly high: number;
  blocks: number;
  readonly tiers: [number, number, number];
  /** Another with the same number. */
  next: Shared | undefined;
}

/** Shared blocks are counted up to here; beyond, the first one that goes takes the block with it: a miss, no false hit. */
const MOST_SHARED = 65_536;

/** As many bits of a key as a number takes; the others are compared. */
const numberOf = (keys: BlockKeys, at: number): number =>
  ((keys[2 * at + 1] as number) & 0x1fffff) * 2 ** 32 + ((keys[2 * at] as number) >>> 0);

export class Presence {
  readonly #table: HolderTable;
  readonly #id: number;
  readonly #shared = new Map<number, Shared>();

  /** @param id the engine's number in the table; nobody else writes under it */
  constructor(table: HolderTable, id: number) {
    this.#table = table;
    this.#id = id;
  }

  /**
   * One of the engine's blocks was in the tiers `had` and is in `now`. False where the table is full and does not know
   * it.
   */
  change(keys: BlockKeys, at: number, had: number, now: number): boolean {
    if (had === now) return true;
    const shared = this.#shared.size === 0 ? undefined : this.#find(keys, at);
    if (shared !== undefined) return this.#changeShared(shared, { keys, at, had, now });
    if (now === 0) this.#table.drop(keys, at, this.#id);
    else return had === 0 ? this.#appear(keys, at, now) : this.#move(keys, at, now);
    return true;
  }

  /** Where the table has no room for what it is now, it knows nothing of it: better a miss than a false hit. */
  #move(keys: BlockKeys, at: number, now: number): boolean {
    const fits = this.#put(keys, at, now) !== undefined;
    if (!fits) this.#table.drop(keys, at, this.#id);
    return fits;
  }

  #put(keys: BlockKeys, at: number, tiers: number): number | undefined {
    return this.#table.put(keys, at, holderOf(this.#id, markOf(tiers)));
  }

  /** A block more of the engine, which may be one of the router's that it has already. */
  #appear(keys: BlockKeys, at: number, now: number): boolean {
    const before = this.#put(keys, at, now);
    if (before === undefined) return false;
    if (before < 0) return true;
    const tiers = before + 1;
    if ((tiers | now) !== now) this.#put(keys, at, tiers | now);
    if (this.#shared.size >= MOST_SHARED) return true;
    const number = numberOf(keys, at);
    const high = keys[2 * at + 1] as number;
    const shared: Shared = { high, blocks: 2, tiers: [0, 0, 0], next: this.#shared.get(number) };
    count(shared, tiers, 1);
    count(shared, now, 1);
    this.#shared.set(number, shared);
    return true;
  }

  #find(keys: BlockKeys, at: number): Shared | undefined {
    let shared = this.#shared.get(numberOf(keys, at));
    while (shared !== undefined && shared.high !== keys[2 * at + 1]) shared = shared.next;
    return shared;
  }

  #forget(number: number, shared: Shared): void {
    const first = this.#shared.get(number);
    if (first !== shared) {
      let before = first;
      while (before !== undefined && before.next !== shared) before = before.next;
      if (before !== undefined) before.next = shared.next;
    } else if (shared.next === undefined) this.#shared.delete(number);
    else this.#shared.set(number, shared.next);
  }

  #changeShared(shared: Shared, change: { keys: BlockKeys; at: number; had: number; now: number }): boolean {
    const { keys, at, had, now } = change;
    if (had === 0) shared.blocks += 1;
    if (now === 0) shared.blocks -= 1;
    count(shared, had, -1);
    count(shared, now, 1);
    const tiers = tiersOf(shared);
    if (shared.blocks <= 1) this.#forget(numberOf(keys, at), shared);
    if (tiers === 0) this.#table.drop(keys, at, this.#id);
    else return this.#move(keys, at, tiers);
    return true;
  }
}

function count({ tiers }: Shared, set: number, by: 1 | -1): void {
  for (let tier = 0; tier < 3; tier++) if ((set & (1 << tier)) !== 0) tiers[tier] = (tiers[tier] as number) + by;
}

const tiersOf = ({ tiers }: Shared): number => (tiers[0] > 0 ? 1 : 0) | (tiers[1] > 0 ? 2 : 0) | (tiers[2] > 0 ? 4 : 0);
