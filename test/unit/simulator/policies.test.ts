/** Each published policy in situations of which its formula says what it does. */
import t from "tap";
import type { RemoteSource } from "../../../src/simulator/engine/sequence.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { seededRandom } from "../../../src/simulator/random.ts";
import { Fleet } from "../../../src/simulator/routing/fleet.ts";
import { dynamo } from "../../../src/simulator/routing/policies/dynamo.ts";
import { kthena } from "../../../src/simulator/routing/policies/kthena.ts";
import { llmD } from "../../../src/simulator/routing/policies/llm-d.ts";
import { lmetric } from "../../../src/simulator/routing/policies/lmetric.ts";
import { SentPrefixes, toldPrefixes } from "../../../src/simulator/routing/policies/prefixes.ts";
import { sglang } from "../../../src/simulator/routing/policies/sglang.ts";
import { leastRequest, random, roundRobin } from "../../../src/simulator/routing/policies/simple.ts";
import type { Chooser, World } from "../../../src/simulator/routing/policy.ts";
import { TRACE_MODEL } from "../../../src/simulator/routing/scenes.ts";
import type { SimulatedRequest } from "../../../src/simulator/routing/workload.ts";

const worldOf = (both = 3, prefill = 0, decode = 0): World => {
  const time = new VirtualTime();
  const fleet = new Fleet({ both, prefill, decode }, TRACE_MODEL, time, () => undefined);
  return { fleet, time, random: seededRandom(1) };
};

/** `count` blocks from `from` on. */
const ask = (from: number, count = 8, outputTokens = 500): SimulatedRequest => ({
  ...{ at: 0, promptTokens: count * 512, outputTokens },
  blocks: Array.from({ length: count }, (_, index) => from + index),
});

/** Chooses, sends and serves; what the chooser keeps of it is released where the answer ends. */
function serve(chooser: Chooser, { fleet }: World, request: SimulatedRequest, forced?: number): number {
  const engine = forced ?? chooser.choose(request).engine;
  chooser.chosen?.(request, { engine });
  const sent = chooser.sent?.(request, engine);
  fleet.answer(engine, request, {
    firstToken: () => sent?.firstToken?.(),
    finished: () => sent?.over?.(),
  });
  return engine;
}

const SILENT = { firstToken: (): void => undefined, finished: (): void => undefined };

const many = (chooser: Chooser, request: SimulatedRequest, count = 60): Set<number> =>
  new Set(Array.from({ length: count }, () => chooser.choose(request).engine));

t.test("random goes everywhere, round robin in turn, least request where fewest are", (t) => {
  t.equal(many(random(worldOf()), ask(0)).size, 3);
  const turns = roundRobin(worldOf());
  t.same(
    Array.from({ length: 6 }, () => turns.choose(ask(0)).engine),
    [1, 2, 0, 1, 2, 0],
  );
  const world = worldOf();
  const least = leastRequest(world);
  t.same(new Set([0, 1, 2].map(() => serve(least, world, ask(0)))).size, 3, "each once");
  serve(least, world, ask(0), 0);
  serve(least, world, ask(0), 2);
  t.same(many(least, ask(0)), new Set([1]));
  t.end();
});

t.test("what was sent is remembered up to the capacity, tails forgotten before heads", (t) => {
  const prefixes = new SentPrefixes(2, 10);
  prefixes.record(0, ask(0, 6).blocks);
  t.same([prefixes.matched(0, ask(0, 8).blocks), prefixes.matched(1, ask(0, 8).blocks)], [6, 0]);
  prefixes.record(0, ask(100, 6).blocks);
  t.same([prefixes.matched(0, ask(100, 6).blocks), prefixes.matched(0, ask(0, 6).blocks)], [6, 4]);
  t.end();
});

t.test("what engines tell arrives 50 ms later, and goes when the block does", (t) => {
  const world = worldOf(1);
  const told = toldPrefixes(world);
  const request = ask(0, 8);
  world.fleet.answer(0, request, { firstToken: () => undefined, finished: () => undefined });
  t.equal(told.matched(0, request.blocks), 0);
  world.time.advance(20_000);
  t.equal(told.matched(0, request.blocks), 8);
  for (let from = 1000; from < 6000; from += 100) {
    world.fleet.answer(0, ask(from, 100, 1), { firstToken: () => undefined, finished: () => undefined });
    world.time.advance(20_000);
  }
  t.equal(told.matched(0, request.blocks), 0, "evicted by 5,000 others");
  t.end();
});

t.test("Kthena: prefixes are known once the whole answer was sent, and count as much as load", (t) => {
  const world = worldOf();
  const chooser = kthena(
    { scorers: ["least-request", "prefix-cache"], version: "current" },
    world,
    toldPrefixes(world),
  );
  const first = serve(chooser, world, ask(0));
  t.notOk(many(chooser, ask(0)).has(first), "a sibling goes where nothing runs");
  world.time.advance(60_000);
  t.same(many(chooser, ask(0)), new Set([first]), "later it follows");
  t.equal(many(chooser, ask(500)).size, 3, "a stranger goes anywhere");
  t.end();
});

t.test("Kthena: 8,192 bytes of a prompt are written down, and five engines found", (t) => {
  const world = worldOf(8);
  const chooser = kthena({ scorers: ["prefix-cache"], version: "current" }, world, toldPrefixes(world));
  const sent = (request: SimulatedRequest, engine: number): void => chooser.sent?.(request, engine).over?.();
  sent(ask(0, 4), 3);
  // 4 of their 160 blocks each: 200 of them are half of 50,000 hashes.
  for (let count = 1; count <= 200; count++) sent(ask(1000 * count, 160), 3);
  t.same(many(chooser, ask(0, 8)), new Set([3]), "long prompts do not push out more than they write");
  const loaded = kthena({ scorers: ["least-request", "prefix-cache"], version: "current" }, world, toldPrefixes(world));
  for (const engine of [0, 1, 2, 3, 4, 5]) loaded.sent?.(ask(0), engine).over?.();
  for (const engine of [0, 1, 2, 3, 4]) loaded.sent?.(ask(9000), engine);
  t.ok(
    many(loaded, ask(0)).has(6),
    "the idle one of six holders is not always among the five, and then counts as a stranger",
  );
  t.end();
});

t.test("Kthena: an engine that answered nothing since keeps the latency that it had", (t) => {
  const world = worldOf(2);
  const chooser = kthena({ scorers: ["least-latency"], version: "current" }, world, toldPrefixes(world));
  // A prompt of 100,000 tokens there, one of 512 here.
  serve(chooser, world, ask(0, 200, 20), 0);
  serve(chooser, world, ask(1000, 1, 20), 1);
  world.time.advance(60_000);
  t.same(many(chooser, ask(0)), new Set([1]), "seconds ago, and nothing has come since");
  t.end();
});

t.test("waiting requests are those that wait for KV as well", (t) => {
  const { fleet, time } = worldOf(0, 1, 1);
  let source: RemoteSource | undefined;
  fleet.prefill(0, ask(0, 160), (kept) => (source = kept));
  time.advance(60_000);
  if (source === undefined) throw new Error("no prefill");
  fleet.answer(1, ask(0, 160), SILENT, source);
  time.advance(100);
  t.match(fleet.signals(1), { running: 0, waiting: 1, deferred: 1 });
  t.end();
});

t.test("Kthena's benchmark: least request by what was scraped a second ago", (t) => {
  const world = worldOf();
  const chooser = kthena({ scorers: ["least-request"], version: "benchmark" }, world, toldPrefixes(world));
  for (let count = 0; count < 20; count++) serve(chooser, world, ask(100 * count), 0);
  t.equal(many(chooser, ask(0)).size, 3, "not seen yet");
  world.time.advance(1001);
  t.same(many(chooser, ask(0)), new Set([1, 2]));
  t.end();
});

t.test("Kthena: the decode pod first, the prefill pod by its own score", (t) => {
  const world = worldOf(0, 2, 2);
  const chooser = kthena({ scorers: ["least-request"], version: "current" }, world, toldPrefixes(world));
  chooser.sent?.(ask(0), 0);
  chooser.sent?.(ask(0), 3);
  t.same(chooser.choose(ask(0)), { engine: 2, prefill: 1 });
  t.end();
});

t.test("llm-d: prefix 3 beats queue 2, and not queue and cache use together", (t) => {
  const world = worldOf();
  const chooser = llmD(world);
  chooser.chosen?.(ask(0), { engine: 1 });
  t.same(many(chooser, ask(0)), new Set([1]), "written at the pick");
  for (let count = 0; count < 300; count++) world.fleet.answer(1, ask(1000 + 7 * count, 7, 5000), SILENT);
  world.time.advance(100);
  t.same(many(chooser, ask(0)), new Set([1]), "299 wait there, in a cache that is empty yet");
  world.time.advance(30_000);
  t.notOk(many(chooser, ask(0)).has(1), "256 run in a cache of 1,845 blocks, and the others wait");
  t.end();
});

t.test("llm-d: prefill where it is decoded only where next to nothing is left to compute", (t) => {
  const world = worldOf(0, 2, 1);
  const chooser = llmD(world);
  const { engine, prefill = NaN } = chooser.choose(ask(0));
  t.equal(engine, 2);
  // Of the first 7 blocks alone: a block is left to compute.
  chooser.chosen?.(ask(0, 7), { engine, prefill });
  t.same(
    new Set(Array.from({ length: 60 }, () => chooser.choose(ask(0)).prefill)),
    new Set([prefill]),
    "known of both",
  );
  chooser.chosen?.(ask(0), { engine });
  t.same(chooser.choose(ask(0)), { engine: 2 });
  t.end();
});

t.test("SGLang: follows a match above the threshold, until loads are out of balance", (t) => {
  const world = worldOf();
  const chooser = sglang(world);
  const first = serve(chooser, world, ask(0));
  t.same(many(chooser, ask(0)), new Set([first]));
  const stranger = { ...ask(0), blocks: [0, 1, ...ask(900, 6).blocks] };
  t.notOk(many(chooser, stranger, 1).has(first), "two of eight are below it");
  for (let count = 0; count < 70; count++) chooser.sent?.(ask(0), first);
  t.notOk(many(chooser, ask(0), 1).has(first), "70 more than others");
  t.end();
});

t.test("Dynamo: blocks to prefill plus blocks that are active", (t) => {
  const world = worldOf(2);
  const chooser = dynamo(world, toldPrefixes(world));
  const first = chooser.sent?.(ask(0, 8), 0);
  t.same(many(chooser, ask(100, 4)), new Set([1]));
  // There: 8 and its own 8 to prefill, 8 active. Elsewhere: its own 8 to prefill, and then active.
  t.same(many(chooser, ask(0, 8)), new Set([1]), "no engine has told of a block yet");
  first?.firstToken?.();
  t.equal(many(chooser, ask(0, 8)).size, 2, "once they are computed it costs as much on either");
  first?.over?.();
  t.equal(many(chooser, ask(100, 4)).size, 2);
  t.end();
});

t.test("LMetric: tokens to prefill times requests", (t) => {
  const world = worldOf(2);
  const chooser = lmetric(world, toldPrefixes(world));
  const sent = chooser.sent?.(ask(0, 8), 0);
  t.same(many(chooser, ask(100, 4)), new Set([1]));
  chooser.sent?.(ask(200, 2), 1);
  chooser.sent?.(ask(300, 2), 1);
  // Engine 0: (8 + 4) blocks x 2 requests = 24; engine 1: (4 + 4) x 3 = 24.
  t.equal(many(chooser, ask(100, 4)).size, 2);
  sent?.firstToken?.();
  t.same(many(chooser, ask(100, 4)), new Set([0]), "its prefill is over, 4 x 2");
  t.end();
});
