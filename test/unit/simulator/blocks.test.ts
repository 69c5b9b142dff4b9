import t from "tap";
import { BlockCache } from "../../../src/simulator/engine/blocks.ts";
import { blockKeys, sequenceDigest } from "../../../src/simulator/engine/keys.ts";

/** Takes all blocks of a sequence and seals them, as an engine does; undefined where they do not fit. */
function fill(cache: BlockCache, keys: readonly number[]): number[] | undefined {
  const hits = cache.hits(keys, keys.length);
  const blocks = cache.take(keys, hits, keys.length - hits);
  blocks?.forEach((block, index) => cache.seal(block, keys[index] ?? NaN));
  return blocks;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

t.test("keys are chained: a block is the same only after the same tokens", (t) => {
  const keys = blockKeys([1, 2, 3, 4, 1, 2, 3, 4, 9], 4);
  t.equal(keys.length, 2, "the partial block has no key");
  t.not(keys[0], keys[1], "equal content elsewhere is another block");
  t.same(blockKeys([1, 2, 3, 4, 5, 6, 7, 8], 4)[0], keys[0]);
  t.not(blockKeys([1, 2, 3, 5, 1, 2, 3, 4], 4)[1], keys[1], "a difference before it changes a block");
  t.ok(keys.every(Number.isSafeInteger));
  t.end();
});

t.test("a salt separates everything, from the first block on", (t) => {
  const tokens = range(0, 64);
  const [plain, salted] = [blockKeys(tokens, 16), blockKeys(tokens, 16, "tenant-a")];
  t.same(
    plain.filter((key) => salted.includes(key)),
    [],
  );
  t.not(sequenceDigest(tokens), sequenceDigest(tokens, "tenant-a"));
  t.end();
});

t.test("a digest tells lengths and orders apart", (t) => {
  const digests = [[1, 2], [2, 1], [1, 2, 0], [0, 1, 2], []].map((tokens) => sequenceDigest(tokens));
  t.equal(new Set(digests).size, digests.length);
  t.end();
});

t.test("keys of 100,000 different blocks do not collide", (t) => {
  const keys = blockKeys(range(0, 100_000), 1);
  t.equal(new Set(keys).size, keys.length);
  t.end();
});

t.test("blocks of a finished sequence stay cached until they are needed", (t) => {
  const cache = new BlockCache(4);
  const keys = [11, 12, 13];
  cache.release(fill(cache, keys) ?? []);
  t.equal(cache.used, 0);
  t.equal(cache.hits(keys, 3), 3);
  t.equal(cache.hits(keys, 2), 2, "no more than asked for");
  t.equal(cache.hits([99, 12, 13], 3), 0, "a gap ends the prefix");
  t.end();
});

t.test("eviction takes the tail of the sequence that was freed first", (t) => {
  const cache = new BlockCache(6);
  const [older, newer] = [fill(cache, [11, 12, 13]) ?? [], fill(cache, [21, 22, 23]) ?? []];
  cache.release(older);
  cache.release(newer);
  cache.take([], 0, 1);
  t.equal(cache.hits([11, 12, 13], 3), 2, "the tail goes first");
  cache.take([], 0, 2);
  t.equal(cache.hits([11, 12, 13], 3), 0);
  t.equal(cache.hits([21, 22, 23], 3), 3, "the newer one is whole");
  t.end();
});

t.test("a hit makes a prefix recently used", (t) => {
  const cache = new BlockCache(4);
  for (const keys of [
    [11, 12],
    [21, 22],
  ])
    cache.release(fill(cache, keys) ?? []);
  cache.release(cache.take([11, 12], 2, 0) ?? []);
  cache.take([], 0, 2);
  t.equal(cache.hits([11, 12], 2), 2);
  t.equal(cache.hits([21, 22], 2), 0);
  t.end();
});

t.test("taking is all or nothing, and hits that are idle count as needed", (t) => {
  const cache = new BlockCache(4);
  cache.release(fill(cache, [11, 12]) ?? []);
  t.equal(cache.take([11, 12], 2, 3), undefined, "2 idle hits and 3 fresh are 5 of 4");
  t.equal(cache.free, 4, "nothing has changed");
  t.equal(cache.hits([11, 12], 2), 2);
  t.equal(cache.take([11, 12], 2, 2)?.length, 4);
  t.equal(cache.free, 0);
  t.end();
});

t.test("equal blocks are kept apart; the prefix is cached until the last of them goes", (t) => {
  const cache = new BlockCache(3);
  const [first] = cache.take([], 0, 1) ?? [];
  const [second] = cache.take([], 0, 1) ?? [];
  cache.seal(first ?? 0, 7);
  cache.seal(second ?? 0, 7);
  cache.release([first ?? 0]);
  cache.take([], 0, 2);
  t.equal(cache.hits([7], 1), 1, "the other still holds it");
  cache.release([second ?? 0]);
  cache.take([], 0, 1);
  t.equal(cache.hits([7], 1), 0);
  t.end();
});

t.test("resetting forgets all, but not while a block is in use", (t) => {
  const cache = new BlockCache(4);
  const blocks = fill(cache, [11, 12]) ?? [];
  t.equal(cache.reset(), false);
  t.equal(cache.hits([11, 12], 2), 2);
  cache.release(blocks);
  t.equal(cache.reset(), true);
  t.equal(cache.hits([11, 12], 2), 0);
  t.equal(fill(cache, [11, 12, 13, 14])?.length, 4, "and everything can be taken again");
  t.end();
});

t.test("misuse is an error, not a wrong count", (t) => {
  const cache = new BlockCache(2);
  const blocks = cache.take([], 0, 1) ?? [];
  cache.release(blocks);
  t.throws(() => cache.release(blocks), /more often/);
  t.throws(() => cache.take([5], 1, 0), /not cached/);
  for (const capacity of [0, -1, 1.5]) t.throws(() => new BlockCache(capacity), RangeError);
  t.end();
});
