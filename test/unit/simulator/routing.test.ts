/** Workloads, traces and runs in virtual time: what goes in comes out, the same again for the same seed. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { capacityOf, runCell, type Row } from "../../../src/simulator/routing/cells.ts";
import { drive, type Outcome } from "../../../src/simulator/routing/drive.ts";
import { figuresOf } from "../../../src/simulator/routing/figures.ts";
import { POLICIES, type PolicyName } from "../../../src/simulator/routing/policies/index.ts";
import { tandem } from "../../../src/simulator/routing/policies/tandem.ts";
import { SCENES, TRACE_MODEL } from "../../../src/simulator/routing/scenes.ts";
import { atRate, parseTrace } from "../../../src/simulator/routing/trace.ts";
import { BLOCK_TOKENS, conversations, sharedPrefixes } from "../../../src/simulator/routing/workload.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

const router = loadConfig({}).router;
const options = { tandem: { config: router, log: SILENT_LOG, metrics: NO_METRICS } };
const requests = conversations({ seed: 1, requestsPerSecond: 8, seconds: 20 });
const BOTH = { both: 2, prefill: 0, decode: 0 };
const SPLIT = { both: 0, prefill: 1, decode: 2 };

const run = (policy: PolicyName, topology = BOTH, seed = 1): Promise<Row> =>
  runCell(
    { policy, replay: { kind: "trace", name: "t", requests }, topology, load: 0.7, capacityRps: 12, seed },
    options,
  );

t.test("conversations are in order, grow, and are the same for the same seed", (t) => {
  t.same(conversations({ seed: 1, requestsPerSecond: 8, seconds: 20 }), requests);
  t.notSame(conversations({ seed: 2, requestsPerSecond: 8, seconds: 20 }), requests);
  t.ok(requests.every(({ at }, index) => at >= (requests[index - 1]?.at ?? 0)));
  t.ok(requests.every(({ blocks, outputTokens }) => blocks.length > 8 && outputTokens > 0));
  t.end();
});

t.test("groups share exactly their system prompt", (t) => {
  const lengths = { systemTokens: 1024, questionTokens: 256, outputTokens: 8, blockTokens: 128 };
  const all = sharedPrefixes({ groups: 4, promptsPerGroup: 5, ...lengths, seed: 1 });
  t.equal(all.length, 20);
  t.equal(new Set(all.map(({ blocks }) => blocks[0])).size, 4);
  t.equal(new Set(all.map(({ blocks }) => blocks.slice(0, 8).join())).size, 4, "of 8 blocks");
  t.equal(new Set(all.flatMap(({ blocks }) => blocks.slice(8))).size, 40, "and 2 blocks of its own each");
  t.ok(all.every(({ promptTokens, blocks }) => promptTokens === blocks.length * 128));
  t.end();
});

t.test("every policy answers every request, with and without prefill engines, and a run can be repeated", async (t) => {
  for (const policy of POLICIES)
    for (const topology of [BOTH, SPLIT]) {
      const row = await run(policy, topology);
      t.equal(row.requests, requests.length, `${policy} ${row.topology}`);
      t.ok(row.ttftMs.p50 > 12 && row.ttftMs.p99 >= row.ttftMs.p50 && row.e2eMs.mean > row.ttftMs.mean, policy);
      t.ok(row.hitRate > 0 && row.hitRate < 1, policy);
      t.same(await run(policy, topology), row, `${policy} again`);
    }
  t.notSame(
    (await run("tandem", BOTH, 2)).ttftMs,
    (await run("tandem", BOTH, 1)).ttftMs,
    "another seed is another run",
  );
});

t.test("policies that know what of a whole prompt is cached find more there than those that do not", async (t) => {
  const blind = (await run("random")).hitRate;
  for (const policy of ["tandem", "llm-d", "sglang", "dynamo", "lmetric"] as const)
    t.ok((await run(policy)).hitRate > blind, policy);
});

t.test("a replica that does not know what the other sent where finds less in the caches", async (t) => {
  const hitRate = async (index: boolean): Promise<number> => {
    const shares = { load: true, index, deltaMs: 50 };
    const outcomes = await drive({
      policy: (world) => tandem({ ...options.tandem, routers: 2, shares }, world),
      workload: { requests, blockTokens: BLOCK_TOKENS },
      ...{ topology: BOTH, model: TRACE_MODEL, seed: 1 },
    });
    return figuresOf(outcomes).hitRate;
  };
  const [told, alone] = [await hitRate(true), await hitRate(false)];
  t.ok(alone < told, `${alone} and ${told}`);
});

t.test("clients send one request after another, and runs go on with the engines as they are", async (t) => {
  const [scene] = SCENES;
  if (scene === undefined) throw new Error("no scene");
  const workload = { ...scene.workload(1), clients: 3, runs: 2 };
  const some = { ...workload, requests: workload.requests.slice(0, 60) };
  const policy = tandem.bind(undefined, options.tandem);
  const outcomes = await drive({ policy, workload: some, topology: scene.topology, model: scene.model, seed: 1 });
  t.same(
    [...Map.groupBy(outcomes, ({ run }) => run).values()].map(({ length }) => length),
    [60, 60],
  );
  const inFlight = (at: number): number => outcomes.filter((each) => each.at <= at && at < each.at + each.e2eMs).length;
  t.ok(outcomes.every(({ at }) => inFlight(at) <= 3));
  const hits = (of: number): number =>
    outcomes.filter(({ run }) => run === of).reduce((sum, each) => sum + each.cachedTokens, 0);
  t.ok(hits(1) > hits(0), "the second run finds what the first one left");
});

t.test("a request that no engine can hold ends the run with that", async (t) => {
  const request = { at: 0, blocks: [1], promptTokens: 10, outputTokens: 1e6 };
  for (const topology of [BOTH, SPLIT])
    for (const policy of ["tandem", "random"] as const)
      await t.rejects(
        runCell(
          {
            policy,
            replay: { kind: "trace", name: "t", requests: [request] },
            topology,
            load: 1,
            capacityRps: 1,
            seed: 1,
          },
          options,
        ),
        { message: /longer than the KV cache/ },
        policy,
      );
});

t.test("figures of outcomes, by hand", (t) => {
  const outcome = (at: number, ttftMs: number, e2eMs: number, outputTokens: number): Outcome => ({
    ...{ run: 0, at, ttftMs, e2eMs, outputTokens, promptTokens: 100, cachedTokens: 25 },
  });
  const figures = figuresOf([outcome(0, 100, 200, 11), outcome(1000, 3000, 4000, 2), outcome(2000, 50, 8000, 101)]);
  t.same(figures.ttftMs, { mean: 1050, p50: 100, p90: 3000, p99: 3000 });
  t.same(figures.tpotMs.mean, Number(((10 + 1000 + 79.5) / 3).toFixed(1)));
  t.same([figures.throughputRps, figures.hitRate, figures.goodputRps], [0.3, 0.25, 0.1], "10 s, one of three is good");
  t.end();
});

t.test("a trace: rates, order, and errors that name the line", async (t) => {
  const line = (more: object): string =>
    JSON.stringify({ timestamp: 0, input_length: 600, output_length: 0, hash_ids: [1, 2], ...more });
  const trace = parseTrace(`${line({ timestamp: 3000 })}\n\n${line({ hash_ids: [1, 3] })}\n`);
  t.same(
    trace.map(({ at, blocks, outputTokens }) => [at, blocks, outputTokens]),
    [
      [0, [1, 3], 1],
      [3000, [1, 2], 1],
    ],
  );
  for (const [text, message] of [
    ["", /no request/],
    ["{", /line 1: not a JSON object/],
    [`${line({})}\n[]`, /line 2: not a JSON object/],
    [line({ input_length: 0 }), /line 1: input_length is to be an integer of 1 or more/],
    [line({ timestamp: -1 }), /line 1: timestamp/],
    [line({ output_length: "5" }), /line 1: output_length/],
    [line({ hash_ids: [1] }), /line 1: 600 tokens are 2 blocks of 512, hash_ids has 1/],
    [line({ hash_ids: [1, "2"] }), /line 1: hash_ids is to be a list of integers/],
  ] as const)
    t.throws(() => parseTrace(text), { message }, text);
  const many = atRate(requests, 4, 1);
  t.match(((many.at(-1)?.at ?? 0) / 1000).toFixed(2), (requests.length / 4).toFixed(2), "four a second");
  t.ok(many.every(({ at }, index) => at >= (many[index - 1]?.at ?? 0)));
  const long = conversations({ seed: 1, requestsPerSecond: 20, seconds: 60 });
  const [two, four] = [await capacityOf(long, BOTH), await capacityOf(long, { ...BOTH, both: 4 })];
  t.ok(four > 1.4 * two, `capacity grows with engines: ${two}, ${four}`);
});
