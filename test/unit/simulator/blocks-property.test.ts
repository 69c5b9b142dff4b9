import fc from "fast-check";
import t from "tap";
import { BlockCache } from "../../../src/simulator/engine/blocks.ts";

const CAPACITY = 12;

const demand = (isTrue: boolean, what: string): void => {
  if (!isTrue) throw new Error(what);
};

/** What a cache should be, in the plainest way: a list of free blocks, and who refers to what. */
class Model {
  readonly #refs = new Map<number, number>();
  readonly #keyOf = new Map<number, number>();
  /** Free blocks, least recently used first. */
  #lru = Array.from({ length: CAPACITY }, (_, block) => block);

  get free(): number {
    return this.#lru.length;
  }

  get cached(): number {
    return this.#keyOf.size;
  }

  hits(keys: readonly number[]): number {
    const cached = new Set(this.#keyOf.values());
    const gap = keys.findIndex((key) => !cached.has(key));
    return gap === -1 ? keys.length : gap;
  }

  /** Free blocks that taking these keys would need. */
  need(keys: readonly number[], hits: number): number {
    const inUse = new Set([...this.#keyOf].filter(([block]) => (this.#refs.get(block) ?? 0) > 0).map(([, key]) => key));
    return keys.length - keys.slice(0, hits).filter((key) => inUse.has(key)).length;
  }

  /** Hits leave the free list; then the fresh blocks must be its oldest. */
  took(blocks: readonly number[], hits: number, keys: readonly number[]): void {
    blocks.slice(0, hits).forEach((block) => this.#refer(block));
    for (const block of blocks.slice(hits)) {
      demand(this.#lru[0] === block, `evicted ${block}, not the least recently used`);
      this.#keyOf.delete(block);
      this.#refer(block);
    }
    blocks.forEach((block, index) => this.#keyOf.set(block, keys[index] ?? NaN));
  }

  released(blocks: readonly number[]): void {
    for (const block of blocks.toReversed()) {
      const refs = (this.#refs.get(block) ?? 0) - 1;
      this.#refs.set(block, refs);
      if (refs === 0) this.#lru.push(block);
    }
  }

  #refer(block: number): void {
    this.#lru = this.#lru.filter((other) => other !== block);
    this.#refs.set(block, (this.#refs.get(block) ?? 0) + 1);
  }
}

/** The cache and its model through one history. */
class Trial {
  readonly #cache = new BlockCache(CAPACITY);
  readonly #model = new Model();
  readonly #held: number[][] = [];
  refusals = 0;

  take(keys: readonly number[]): void {
    const hits = this.#cache.hits(keys, keys.length);
    demand(hits === this.#model.hits(keys), `${hits} hits`);
    const fits = this.#model.need(keys, hits) <= this.#model.free;
    const blocks = this.#cache.take(keys, hits, keys.length - hits);
    demand((blocks !== undefined) === fits, "refused what fits, or took what does not");
    if (blocks === undefined) this.refusals += 1;
    else this.#hold(blocks, hits, keys);
  }

  release(index: number): void {
    const [blocks = []] = this.#held.splice(index % Math.max(1, this.#held.length), 1);
    this.#cache.release(blocks);
    this.#model.released(blocks);
  }

  check(): void {
    const { free, used, cached } = this.#cache;
    demand(free === this.#model.free && free + used === CAPACITY, "free blocks differ");
    demand(cached === this.#model.cached && cached <= CAPACITY, "cached blocks differ");
  }

  #hold(blocks: number[], hits: number, keys: readonly number[]): void {
    this.#model.took(blocks, hits, keys);
    blocks.forEach((block, index) => this.#cache.seal(block, keys[index] ?? NaN));
    this.#held.push(blocks);
  }
}

/** Chains over few roots, so that histories share prefixes and fight for blocks. */
const chain = fc
  .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 1, max: 5 }))
  .map(([root, length]) => Array.from({ length }, (_, index) => root * 100 + index));

const command = fc.oneof(
  chain.map((keys) => (trial: Trial) => trial.take(keys)),
  fc.nat().map((index) => (trial: Trial) => trial.release(index)),
);

t.test("any history of the block cache behaves like the plain model", (t) => {
  let refusals = 0;
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const trial = new Trial();
      for (const act of commands) {
        act(trial);
        trial.check();
      }
      refusals += trial.refusals;
    }),
    { numRuns: 500 },
  );
  t.ok(refusals > 0, `${refusals} times there were too few blocks`);
  t.end();
});
