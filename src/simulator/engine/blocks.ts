/**
 * The paged KV cache of one engine: which blocks exist, who refers to them, which are evicted.
 *
 * From the keys of a sequence it tells how long a prefix is cached, hands out blocks, and evicts the least recently
 * used block that nobody refers to. Blocks of one sequence are freed last first, so a chain loses its tail before its
 * head and what remains cached is always a usable prefix. Equal blocks are not merged, as in vLLM. It knows no time.
 */
const NONE = -1;

/** Told of each block whose content can be hit, of each that is evicted, and of a reset. Equal content counts twice. */
export interface BlockListener {
  stored(key: number): void;
  removed(key: number): void;
  /** All that was stored is gone. */
  cleared?(): void;
}

export class BlockCache {
  readonly capacity: number;
  readonly #refs: Int32Array;
  /** Key of a sealed block; NaN while its content is unknown or partial. */
  readonly #keys: Float64Array;
  /** Free list, least recently used first, closed to a ring by a sentinel at index `capacity`. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Next block with an equal key. */
  readonly #twin: Int32Array;
  readonly #byKey = new Map<number, number>();
  readonly #listener: BlockListener | undefined;
  #free = 0;

  /** @param capacity blocks, at least 1 */
  constructor(capacity: number, listener?: BlockListener) {
    this.#listener = listener;
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError(`capacity must be 1 or more, got ${capacity}`);
    this.capacity = capacity;
    this.#refs = new Int32Array(capacity);
    this.#keys = new Float64Array(capacity).fill(NaN);
    this.#next = new Int32Array(capacity + 1).fill(capacity);
    this.#previous = new Int32Array(capacity + 1).fill(capacity);
    this.#twin = new Int32Array(capacity).fill(NONE);
    for (let block = 0; block < capacity; block += 1) this.#append(block);
  }

  /** Blocks that nobody refers to; many of them still hold a cached prefix. */
  get free(): number {
    return this.#free;
  }

  get used(): number {
    return this.capacity - this.#free;
  }

  /** Blocks whose content can be hit. */
  get cached(): number {
    let count = 0;
    for (const key of this.#keys) if (!Number.isNaN(key)) count += 1;
    return count;
  }

  /** How many of the first `limit` keys are cached without a gap. */
  hits(keys: readonly number[], limit: number): number {
    const end = Math.min(limit, keys.length);
    let count = 0;
    while (count < end && this.#byKey.has(keys[count] ?? NaN)) count += 1;
    return count;
  }

  /**
   * Takes a reference on the first `hits` cached blocks of `keys` and on `fresh` empty blocks, evicting where needed.
   * All or nothing: undefined where there are too few free blocks, and then nothing has changed.
   */
  take(keys: readonly number[], hits: number, fresh: number): number[] | undefined {
    const shared = keys.slice(0, hits).map((key) => this.#find(key));
    const idle = shared.filter((block) => this.#refs[block] === 0).length;
    if (fresh + idle > this.#free) return undefined;
    for (const block of shared) this.#refer(block);
    return shared.concat(Array.from({ length: fresh }, () => this.#evict()));
  }

  /** Says what a full block holds; from now on it can be hit. A block is sealed once. */
  seal(block: number, key: number): void {
    if (!Number.isNaN(this.#keys[block])) return;
    this.#keys[block] = key;
    this.#twin[block] = this.#byKey.get(key) ?? NONE;
    this.#byKey.set(key, block);
    this.#listener?.stored(key);
  }

  /** Gives references back, the last block first. */
  release(blocks: readonly number[]): void {
    for (const block of blocks.toReversed()) {
      const refs = this.#refs[block] ?? 0;
      if (refs < 1) throw new Error(`block ${block} released more often than taken`);
      this.#refs[block] = refs - 1;
      if (refs === 1) this.#append(block);
    }
  }

  /** Forgets all content. Refused (false) while any block is referred to, as in vLLM. */
  reset(): boolean {
    if (this.used > 0) return false;
    this.#byKey.clear();
    this.#keys.fill(NaN);
    this.#twin.fill(NONE);
    this.#listener?.cleared?.();
    return true;
  }

  #find(key: number): number {
    const block = this.#byKey.get(key);
    if (block === undefined) throw new Error("a hit was taken that is not cached");
    return block;
  }

  #refer(block: number): void {
    if (this.#refs[block] === 0) this.#unlink(block);
    this.#refs[block] = (this.#refs[block] ?? 0) + 1;
  }

  /** The least recently used free block, emptied and referred to. */
  #evict(): number {
    const block = this.#next[this.capacity] ?? this.capacity;
    this.#forget(block);
    this.#refer(block);
    return block;
  }

  #forget(block: number): void {
    const key = this.#keys[block] ?? NaN;
    if (Number.isNaN(key)) return;
    const after = this.#twin[block] ?? NONE;
    const first = this.#byKey.get(key) ?? NONE;
    if (first !== block) this.#twin[this.#twinBefore(first, block)] = after;
    else if (after === NONE) this.#byKey.delete(key);
    else this.#byKey.set(key, after);
    this.#keys[block] = NaN;
    this.#twin[block] = NONE;
    this.#listener?.removed(key);
  }

  #twinBefore(first: number, block: number): number {
    let at = first;
    while (this.#twin[at] !== block) at = this.#twin[at] ?? NONE;
    return at;
  }

  #append(block: number): void {
    const last = this.#previous[this.capacity] ?? this.capacity;
    this.#link(last, block);
    this.#link(block, this.capacity);
    this.#free += 1;
  }

  #unlink(block: number): void {
    this.#link(this.#previous[block] ?? this.capacity, this.#next[block] ?? this.capacity);
    this.#free -= 1;
  }

  #link(before: number, after: number): void {
    this.#next[before] = after;
    this.#previous[after] = before;
  }
}
