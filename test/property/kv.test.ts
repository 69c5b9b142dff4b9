/** The shared table against a plain Map of sets, and the history against what was recorded; the hash against another. */
import fc from "fast-check";
import t from "tap";
import xxhash from "xxhash-wasm";
import { createBlockHasher, type BlockKeys } from "../../src/router/kv/blocks.ts";
import { HistoryIndex } from "../../src/router/kv/history.ts";
import { holderOf } from "../../src/router/kv/holders.ts";
import { HolderTable } from "../../src/router/kv/table.ts";

const SMALL = { slots: 128, endpoints: 12, rows: 48 };
const key = (at: number): readonly [number, number] => [Math.imul(at + 1, 64) | 0, at];
const chain = (start: number, length: number): BlockKeys =>
  new Int32Array(Array.from({ length }, (_, at) => key(start + at)).flat());

type Step =
  | { do: "put" | "drop"; at: number; endpoint: number; mark: number }
  | { do: "hide"; endpoint: number; mark: number }
  | { do: "sweep" };

/** Keys whose home is the same slot, so that runs grow long; few of them, so that they come and go. */
const steps = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: step("put") },
    { weight: 4, arbitrary: step("drop") },
    fc.record({ do: fc.constant("hide" as const), endpoint: fc.nat(11), mark: fc.nat(1) }),
    fc.constant({ do: "sweep" as const }),
  ),
  { minLength: 20, maxLength: 400 },
);
function step(kind: "put" | "drop"): fc.Arbitrary<Step> {
  return fc.record({ do: fc.constant(kind), at: fc.nat(40), endpoint: fc.nat(11), mark: fc.nat(1) });
}

const secrets = fc.option(fc.tuple(fc.integer(), fc.integer()).map(([low, high]) => [low | 1, high | 1] as const));

t.test("the table says what a map of sets says, whatever is put, dropped, hidden and swept", (t) => {
  fc.assert(
    fc.property(steps, secrets, (all: readonly Step[], secret) => {
      const table = new HolderTable({ ...SMALL, ...(secret && { secret }) });
      table.live.fill(0xff);
      const model = new Map<number, Map<number, number>>();
      for (const one of all) apply(table, model, one);
      for (let start = 0; start <= 40; start++) {
        const matches = table.match(chain(start, 41 - start));
        for (let endpoint = 0; endpoint < SMALL.endpoints; endpoint++) {
          let depth = 0;
          while (model.get(start + depth)?.has(endpoint) === true) depth += 1;
          if (matches.of(endpoint) !== depth) return false;
        }
      }
      // A block that was moved behind the sweep when its last holder was gone keeps its slot until the next round.
      table.sweep(SMALL.slots);
      return table.used === [...model.values()].filter((holders) => holders.size > 0).length;
    }),
    { numRuns: 400 },
  );
  t.end();
});

/** A hidden mark is taken into use again only after a whole sweep, as the history does. */
function apply(table: HolderTable, model: Map<number, Map<number, number>>, one: Step): void {
  if (one.do === "sweep") table.sweep(SMALL.slots / 3);
  else if (one.do === "hide") hide(table, model, one);
  else putOrDrop(table, model, one);
}

function hide(table: HolderTable, model: Map<number, Map<number, number>>, one: Step & { do: "hide" }): void {
  table.live[one.endpoint] = (table.live[one.endpoint] ?? 0) & ~(1 << one.mark);
  for (const holders of model.values()) if (holders.get(one.endpoint) === one.mark) holders.delete(one.endpoint);
  // In parts, from wherever the sweep stands, with a block dropped between: nothing may slip past it.
  for (let part = 0; part < 8; part++) {
    const at = (one.endpoint * 7 + part) % 41;
    table.sweep(SMALL.slots / 8);
    table.drop(chain(at, 1), 0, one.endpoint);
    model.get(at)?.delete(one.endpoint);
  }
  table.live[one.endpoint] = 0xff;
}

function putOrDrop(
  table: HolderTable,
  model: Map<number, Map<number, number>>,
  one: Step & { do: "put" | "drop" },
): void {
  const holders = model.get(one.at) ?? new Map<number, number>();
  model.set(one.at, holders);
  if (one.do === "drop") {
    table.drop(chain(one.at, 1), 0, one.endpoint);
    holders.delete(one.endpoint);
  } else if (table.put(chain(one.at, 1), 0, holderOf(one.endpoint, one.mark)) !== undefined)
    holders.set(one.endpoint, one.mark);
}

t.test("a full table refuses and loses nothing", (t) => {
  const table = new HolderTable({ slots: 64, endpoints: 8, rows: 8 });
  table.live.fill(0xff);
  const taken = Array.from({ length: 64 }, (_, at) => table.put(chain(at, 1), 0, holderOf(3, 0)) !== undefined);
  t.equal(taken.filter(Boolean).length, 48, "three quarters of the slots");
  t.equal(table.match(chain(0, 64)).of(3), 48);
  t.equal(table.used, 48);
  t.end();
});

t.test("the history holds the newest 5/6 of an endpoint's capacity, and never more than all of it", (t) => {
  const prompts = fc.array(fc.tuple(fc.nat(2), fc.nat(300), fc.integer({ min: 1, max: 12 })), { maxLength: 120 });
  fc.assert(
    fc.property(prompts, fc.integer({ min: 60, max: 120 }), (all, capacity) => {
      const index = new HistoryIndex({ slots: 2 ** 16, endpoints: 4, rows: 64 }, capacity);
      const recent: number[][] = [[], [], []];
      for (const [endpoint, start, length] of all) {
        index.record(String(endpoint), chain(start, length));
        const blocks = Array.from({ length }, (_, at) => start + at);
        recent[endpoint] = [...(recent[endpoint] ?? []).filter((at) => !blocks.includes(at)), ...blocks.toReversed()];
      }
      return recent.every((blocks, endpoint) => {
        const held = (at: number): boolean => index.match(chain(at, 1)).of(String(endpoint)) === 1;
        // One generation may hold one prompt too many where it turns.
        return blocks.slice(-Math.floor((capacity * 5) / 6)).every(held) && blocks.filter(held).length <= capacity + 6;
      });
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("a table with room for a thousand times as much tempts nobody to remember more than engines hold", (t) => {
  const index = new HistoryIndex({ slots: 2 ** 20, endpoints: 16, rows: 64 }, 600);
  let most = 0;
  for (let prompt = 0; prompt < 3000; prompt++) {
    index.record(prompt % 3 === 0 ? "seldom" : "often", chain(prompt * 40, 40));
    most = Math.max(most, index.blocks);
  }
  t.ok(most <= 2 * (600 + 40), `${most} blocks of two engines with 600 each`);
  t.ok(most >= 2 * 500);
  t.end();
});

t.test(
  "a history too large for its memory learns on, whoever comes and goes, and never claims what was not sent",
  (t) => {
    const prompts = fc.array(fc.tuple(fc.nat(5), fc.nat(3000), fc.integer({ min: 1, max: 12 })), {
      minLength: 300,
      maxLength: 600,
    });
    fc.assert(
      fc.property(prompts, fc.constantFrom(50, 400, 1e6), (all, capacity) => {
        const index = new HistoryIndex({ slots: 1024, endpoints: 8, rows: 64 }, capacity);
        const sent = new Map<string, Set<number>>();
        for (const [at, [endpoint, start, length]] of all.entries()) {
          const name = String(endpoint);
          // A number serves again after the sweep: a hundred blocks go through the whole table.
          if (at % 60 === 59) {
            index.forget(name);
            sent.delete(name);
          }
          index.record(name, chain(start, length));
          if (index.match(chain(start, length)).of(name) !== length) return false;
          const blocks = sent.get(name) ?? new Set();
          sent.set(name, blocks);
          for (let at = start; at < start + length; at++) blocks.add(at);
        }
        const claims = (at: number): string[] => {
          const matches = index.match(chain(at, 1));
          return ["0", "1", "2", "3", "4", "5"].filter((name) => matches.of(name) > 0);
        };
        return Array.from({ length: 3012 }, (_, at) => at).every((at) =>
          claims(at).every((name) => sent.get(name)?.has(at) === true),
        );
      }),
      { numRuns: 200 },
    );
    t.end();
  },
);

t.test("a full memory is shared: who sends little keeps it, and who sends much goes on", (t) => {
  const index = new HistoryIndex({ slots: 8192, endpoints: 16, rows: 64 }, 1e6);
  index.record("quiet", chain(1e6, 50));
  for (let prompt = 0; prompt < 20_000; prompt++) index.record(`e${prompt % 4}`, chain(prompt * 10, 10));
  t.equal(index.match(chain(1e6, 50)).of("quiet"), 50);
  const newest = Array.from({ length: 100 }, (_, at) => 19_999 - at);
  const found = newest.filter((prompt) => index.match(chain(prompt * 10, 10)).of(`e${prompt % 4}`) === 10);
  t.equal(found.length, 100);
  t.ok(index.blocks > 8192 * 0.4 && index.blocks < 8192 * 0.75, `${index.blocks} blocks held`);
  t.end();
});

t.test("one endpoint may hold what nobody else needs", (t) => {
  const index = new HistoryIndex({ slots: 8192, endpoints: 128, rows: 64 }, 1e6);
  for (let other = 0; other < 99; other++) index.record(`idle${other}`, chain(1e6 + other, 1));
  for (let prompt = 0; prompt < 20_000; prompt++) index.record("busy", chain(prompt * 10, 10));
  t.ok(index.blocks > 8192 * 0.4, `${index.blocks} blocks held`);
  t.end();
});

t.test("an endpoint that is forgotten is gone at once, and its number serves another", (t) => {
  const index = new HistoryIndex({ slots: 1024, endpoints: 2, rows: 16 }, 100);
  for (let round = 0; round < 50; round++) {
    const name = `e${round}`;
    index.record("stays", chain(0, 20));
    index.record(name, chain(0, 20));
    t.equal(index.match(chain(0, 20)).of(name), 20);
    index.forget(name);
    t.equal(index.match(chain(0, 20)).of(name), 0);
    for (let second = 0; second < 2; second++) index.keep(new Set(["stays"]));
  }
  t.equal(index.match(chain(0, 20)).of("stays"), 20);
  t.equal(index.blocks, 20);
  t.end();
});

t.test(
  "the chain is XXH64 of each block, seeded with the hash of the one before, however the prompt is cut",
  async () => {
    const [hasher, other] = [createBlockHasher(), await xxhash()];
    const shape = fc.record({
      text: fc.uint8Array({ maxLength: 3000 }),
      blockBytes: fc.constantFrom(1, 3, 4, 8, 16, 31, 32, 33, 64, 100, 256, 70_000),
      cut: fc.nat(3000),
      times: fc.constantFrom(1, 50),
    });
    fc.assert(
      fc.property(shape, ({ text, blockBytes, cut, times }) => {
        const whole = Buffer.concat(Array.from({ length: times }, () => text));
        if (whole.length / blockBytes > 5000) return true;
        let hash = other.h64("seed");
        const expected: number[] = [];
        for (let at = 0; at + blockBytes <= whole.length; at += blockBytes) {
          hash = other.h64Raw(whole.subarray(at, at + blockBytes), hash);
          expected.push(Number(hash & 0xffffffffn) | 0, Number(hash >> 32n) | 0);
        }
        const keys = hasher.keys([whole.subarray(0, cut), whole.subarray(cut)], blockBytes, "seed");
        return expected.length === keys.length && expected.every((word, at) => word === keys[at]);
      }),
      { numRuns: 300 },
    );
  },
);
