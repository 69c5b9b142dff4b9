/**
 * Collisions by force: chains of different tokens with the same keys, keys that share a slot, hashes of engines that mean two
 * blocks. Only what is predicted may be wrong: the table does not grow, nobody else is named, and all goes with the engine.
 */
import fc from "fast-check";
import t from "tap";
import { EventBatch } from "../../src/router/kv/events/batch.ts";
import { EngineCache, newCounts } from "../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../src/router/kv/events/decode.ts";
import type { HeldBlocks } from "../../src/router/kv/events/held.ts";
import { Numbers } from "../../src/router/kv/events/numbers.ts";
import { marksWith, Presence } from "../../src/router/kv/events/presence.ts";
import { Roots } from "../../src/router/kv/events/roots.ts";
import { TIER } from "../../src/router/kv/events/batch.ts";
import { NONE } from "../../src/router/kv/events/store.ts";
import { holderOf } from "../../src/router/kv/holders.ts";
import { HolderTable, secretOf } from "../../src/router/kv/table.ts";
import { randomOf } from "../support/hostile.ts";
import { batch, CLEARED, removed, stored } from "../support/events/publisher.ts";

const GEOMETRY = { slots: 1024, endpoints: 8, rows: 64 };
const TOKENS = 16;

/** Keys that differ in the highest bits alone, or have one home among the slots of any table, or are the same. */
const NEAR = [
  [9, 7],
  [9, 7 | 0x200000],
  [9, 7 | 0x40000000],
  [9 + GEOMETRY.slots, 7],
  [9 + 2 ** 20, 7],
  [9, 7],
] as const;

t.test("blocks of one engine whose keys are nearly the same come and go by themselves", (t) => {
  const change = fc.record({ key: fc.nat(NEAR.length - 1), tiers: fc.integer({ min: 0, max: 7 }), block: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 80 }), (changes) => {
      const table = new HolderTable(GEOMETRY);
      table.live.fill(0xff);
      const presence = new Presence(table, 3);
      const tiersOf = new Map<string, number>();
      const keysAt = (key: number): Int32Array => Int32Array.from(NEAR[key]!);
      const nameOf = (key: number): string => NEAR[key]!.join();
      for (const { key, tiers, block } of changes) {
        const name = `${nameOf(key)} ${block}`;
        presence.change(keysAt(key), 0, tiersOf.get(name) ?? 0, tiers);
        tiersOf.set(name, tiers);
      }
      const held = new Set([...tiersOf].filter(([, tiers]) => tiers > 0).map(([name]) => name.split(" ")[0]));
      const isRight = NEAR.every((_, key) => table.match(keysAt(key)).of(3) === (held.has(nameOf(key)) ? 1 : 0));
      return isRight && table.used === held.size;
    }),
    { numRuns: 500 },
  );
  t.end();
});

/** One engine's cache, from events as they are sent. */
function engineOf(limit = 1000) {
  const table = new HolderTable(GEOMETRY);
  const chain = new TokenChain(TOKENS);
  const numbers = new Numbers(table, () => 5);
  const limits = { keys: limit, blocks: limit, words: 100 };
  const renew = (held: EngineCache["held"] | undefined) => numbers.renew(held, limits);
  const cache = new EngineCache({ chain, roots: new Roots(chain), renew }, newCounts());
  const [events, decoder] = [new EventBatch(), new EventDecoder()];
  return {
    ...{ table, cache, numbers },
    take: (...all: object[]): void => {
      if (decoder.decode(events, batch(all, 1)) !== undefined) throw new Error("cannot be read");
      cache.apply(events);
    },
    depths: (tokens: readonly number[]): number[] => {
      const keys = new Int32Array((2 * tokens.length) / TOKENS);
      chain.extend(chain.root(""), Int32Array.from(tokens), [0, tokens.length], keys);
      const matches = table.match(keys);
      return Array.from({ length: GEOMETRY.endpoints }, (_, id) => matches.of(id));
    },
  };
}

const promptOf = (prompt: number, blocks: number): number[] =>
  Array.from({ length: TOKENS * blocks }, (_, at) => prompt * 1000 + at);

t.test("where no row is left, a block that went to a farther tier is missed, and not taken to be near", (t) => {
  const table = new HolderTable({ slots: 64, endpoints: 8, rows: 1 });
  table.live.fill(0xff);
  const key = Int32Array.of(5, 5);
  const all = Array.from({ length: 5 }, (_, id) => new Presence(table, id));
  for (const presence of all) t.ok(presence.change(key, 0, 0, TIER.device | TIER.host));
  const near = marksWith(TIER.device);
  t.equal(table.match(key, near).of(0), 1);
  t.notOk(all[0]!.change(key, 0, TIER.device | TIER.host, TIER.host), "five holders with other marks are another row");
  t.equal(table.match(key, near).of(0), 0);
  t.equal(table.match(key, near).of(4), 1, "others stay");
  t.end();
});

type Step =
  | { do: "store"; hash: number; parent: number; prompt: number; medium: string; group: number }
  | { do: "remove"; hash: number; medium: string }
  | { do: "clear" };

const medium = fc.constantFrom("GPU", "GPU", "CPU", "DISK", "cpu");
const steps = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant("store" as const),
        hash: fc.nat(7),
        parent: fc.integer({ min: -1, max: 7 }),
        prompt: fc.nat(20),
        medium,
        group: fc.nat(3),
      }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("remove" as const), hash: fc.nat(7), medium }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const) }) },
  ),
  { maxLength: 80 },
);

function eventOf(step: Step): object {
  if (step.do === "clear") return CLEARED;
  if (step.do === "remove") return removed([BigInt(step.hash)], step.medium);
  const parent = step.parent < 0 ? null : BigInt(step.parent);
  const tokens = promptOf(step.prompt, 1);
  const event = stored({ hashes: [BigInt(step.hash)], parent, tokens, blockSize: TOKENS, medium: step.medium });
  return { ...event, group_idx: step.group, kv_cache_spec_kind: "full_attention" };
}

t.test("an engine whose hashes mean several blocks: others are not named, nothing grows, and a clear mends it", (t) => {
  fc.assert(
    fc.property(steps, (all) => {
      const { table, cache, take, depths, numbers } = engineOf(6);
      for (const step of all) {
        take(eventOf(step));
        if (table.used > 6 || cache.held.blocks > 6) return false;
        const named = depths(promptOf(step.do === "store" ? step.prompt : 0, 1));
        if (named.some((depth, id) => depth > 0 && id !== cache.held.id)) return false;
      }
      take(CLEARED);
      numbers.bury(Infinity);
      if (table.used !== 0) return false;
      take(stored({ hashes: [1n, 2n], parent: null, tokens: promptOf(3, 2), blockSize: TOKENS }));
      return depths(promptOf(3, 2))[cache.held.id] === 2;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("a hash that is used again for other tokens, once its block was removed, is the other block", (t) => {
  const { cache, take, depths } = engineOf();
  const store = (prompt: number): object =>
    stored({ hashes: [5n], parent: null, tokens: promptOf(prompt, 1), blockSize: TOKENS });
  take(store(1), removed([5n]), store(2));
  t.same(
    [1, 2].map((prompt) => depths(promptOf(prompt, 1))[cache.held.id]),
    [0, 1],
  );
  take(store(2), removed([5n]));
  t.equal(depths(promptOf(2, 1))[cache.held.id], 1, "it was stored twice");
  take(removed([5n]), removed([5n]), removed([5n]));
  t.equal(depths(promptOf(2, 1))[cache.held.id], 0);
  take(store(1));
  t.equal(depths(promptOf(1, 1))[cache.held.id], 1, "what was removed too often does not count against it");
  t.end();
});

t.test(
  "two chains that meet in one key: each engine is thought to hold both, and neither block outlives its engine",
  (t) => {
    const table = new HolderTable(GEOMETRY);
    const numbers = new Numbers(table, () => 5);
    const limits = { keys: 100, blocks: 100, words: 100 };
    const engines = [numbers.renew(undefined, limits), numbers.renew(undefined, limits)];
    // Different chains up to their second block, whose key is the same.
    const chains = [Int32Array.of(11, 1, 77, 7), Int32Array.of(22, 2, 77, 7)];
    const add = (held: HeldBlocks, keys: Int32Array, hash: number): void => {
      for (let block = 0; block < 2; block++) {
        const place = { from: block, to: block + 1, tokens: keys, tail: 0, end: 0, start: { low: 0, high: 0 } };
        const at = held.add({ low: hash, high: block, out: keys, ...place });
        if (at !== NONE) held.stored(at, TIER.device, false);
      }
    };
    engines.forEach((held, at) => add(held, chains[at]!, at + 1));
    const depths = (chain: number): number[] => {
      const matches = table.match(chains[chain]!);
      return engines.map(({ id }) => matches.of(id));
    };
    t.same(
      [depths(0), depths(1)],
      [
        [2, 0],
        [0, 2],
      ],
      "the first block tells them apart",
    );
    t.equal(table.used, 3);
    const [first, second] = engines as [HeldBlocks, HeldBlocks];
    add(first, chains[1]!, 9);
    t.same(
      [depths(0), depths(1)],
      [
        [2, 0],
        [2, 2],
      ],
    );
    // Of the first engine both blocks with that key go.
    for (const hash of [1, 9]) first.removed(first.find(hash, 1), TIER.device);
    t.same(
      [depths(0), depths(1)],
      [
        [1, 0],
        [1, 2],
      ],
    );
    for (const held of [first, second]) numbers.retire(held);
    t.same(
      [depths(0), depths(1)],
      [
        [0, 0],
        [0, 0],
      ],
    );
    numbers.bury(Infinity);
    t.equal(table.used, 0);
    t.end();
  },
);

t.test("keys that are chosen to share a slot are spread by a secret, and each is found", (t) => {
  const SLOTS = 2 ** 16;
  // The lowest 16 bits of both words are the same: without a secret all of them stand in one run.
  const keys = (count: number): Int32Array =>
    Int32Array.from({ length: 2 * count }, (_, word) => (word % 2 === 0 ? (word / 2) % 256 : word >> 9) * SLOTS + 7);
  const random = randomOf(7);
  for (let round = 0; round < 20; round++) {
    const secret = secretOf({ next: random });
    const table = new HolderTable({ slots: SLOTS, endpoints: 4, rows: 64, secret });
    table.live.fill(0xff);
    const all = keys(20_000);
    for (let block = 0; block < 20_000; block++) table.put(all, block, holderOf(1, 0));
    t.equal(table.match(all).of(1), 20_000);
    t.ok(longestRun(table, SLOTS) < 64, `runs of ${longestRun(table, SLOTS)}`);
  }
  const plain = new HolderTable({ slots: SLOTS, endpoints: 4, rows: 64 });
  plain.live.fill(0xff);
  const some = keys(2000);
  for (let block = 0; block < 2000; block++) plain.put(some, block, holderOf(1, 0));
  t.equal(longestRun(plain, SLOTS), 2000, "the keys are as bad as they are meant to be");
  t.end();
});

/** Slots in use one behind another, at most. */
function longestRun({ buffer }: HolderTable, slots: number): number {
  const words = new Int32Array(buffer, 0, 4 * slots);
  let [longest, run] = [0, 0];
  for (let slot = 0; slot < slots; slot++) {
    run = words[4 * slot] === 0 ? 0 : run + 1;
    longest = Math.max(longest, run);
  }
  return longest;
}
