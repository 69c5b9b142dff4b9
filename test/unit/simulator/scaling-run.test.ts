/** Workloads over simulated pods: how traces are read, what shapes draw, and what holds of every run. */
import fc from "fast-check";
import t from "tap";
import { multiplied, parseArrivals, type Arrival } from "../../../src/simulator/scaling/arrivals.ts";
import { runScalingCell, type Workload } from "../../../src/simulator/scaling/cells.ts";
import { LIMITS, REPLICA_SET, type ScalingPolicy, type View } from "../../../src/simulator/scaling/policy.ts";
import { policiesNamed, SCALING_POLICIES } from "../../../src/simulator/scaling/policies/index.ts";
import { TRUTH } from "../../../src/simulator/scaling/pool.ts";
import { runScaling } from "../../../src/simulator/scaling/run.ts";
import { arrivalsOf, SHAPES, type Shape } from "../../../src/simulator/scaling/shapes.ts";
import { latenciesOf, POOL_ROLES, World, type PoolRole } from "../../../src/simulator/scaling/world.ts";
import { quantile } from "../../../src/autoscaler/windows.ts";
import { seededRandom } from "../../../src/simulator/random.ts";

const HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";
const STEP_MS = 50;

const demand = (isTrue: boolean, what: string): void => {
  if (!isTrue) throw new Error(what);
};

t.test("Azure's traces, in the form of 2023 and of 2024; times from the first request", (t) => {
  const of2023 = `${HEAD}\r\n2023-11-16 18:15:50.9951690,396,109\r\n2023-11-16 18:15:46.6805900,374,44\r\n`;
  t.same(parseArrivals(of2023), [
    { at: 0, promptTokens: 374, answerTokens: 44 },
    { at: 4315, promptTokens: 396, answerTokens: 109 },
  ]);
  const of2024 = `${HEAD}\n2024-05-10 00:00:00.009930+00:00,2162,5\n\n2024-05-10 00:00:01+00:00,0,0\n`;
  t.same(parseArrivals(of2024), [
    { at: 0, promptTokens: 2162, answerTokens: 5 },
    { at: 991, promptTokens: 1, answerTokens: 1 },
  ]);
  const zones = `${HEAD}\n2024-05-10 02:00:00.5+02:00,1,1\n2024-05-10 00:00:01Z,1,1`;
  t.same(
    parseArrivals(zones).map(({ at }) => at),
    [0, 500],
    "a zone counts",
  );
  t.end();
});

const mooncake = (timestamp: unknown, more: object = {}): string =>
  JSON.stringify({ timestamp, input_length: 700, output_length: 20, hash_ids: [1, 2], ...more });

t.test("Mooncake's traces, in the order of their times, from the first request", (t) => {
  t.same(parseArrivals(`${mooncake(9000)}\n\n${mooncake(6000, { output_length: 0 })}\n`), [
    { at: 0, promptTokens: 700, answerTokens: 1 },
    { at: 3000, promptTokens: 700, answerTokens: 20 },
  ]);
  t.end();
});

t.test("what is no trace names its line and what was expected", (t) => {
  const good = "2023-11-16 18:15:46.6805900,374,44";
  for (const [text, message] of [
    ["", /^line 1: expected TIMESTAMP,ContextTokens,GeneratedTokens, or a JSON object a line$/],
    ["time,in,out\n", /^line 1: expected TIMESTAMP/],
    [HEAD, /^the trace has no request$/],
    [`${HEAD}\n${good}\nsoon,1,1`, /^line 3: soon is no time as 2023-11-16 18:15:46\.6805900$/],
    [`${HEAD}\n5,1,1`, /^line 2: 5 is no time/],
    [`${HEAD}\n2023-11-16,1,1`, /^line 2: 2023-11-16 is no time/],
    [`${HEAD}\n2023-13-16 18:15:46,1,1`, /^line 2: 2023-13-16 18:15:46 is no time/],
    [`${HEAD}\n,1,1`, /^line 2: an empty field is no time/],
    [
      `${HEAD}\n${good}\n\n2023-11-16 18:15:46,-1,1`,
      /^line 4: ContextTokens is to be an integer of 0 or more, not -1$/,
    ],
    [`${HEAD}\n2023-11-16 18:15:46,1,1.5`, /^line 2: GeneratedTokens is to be an integer of 0 or more, not 1\.5$/],
    [`${HEAD}\n2023-11-16 18:15:46,1`, /^line 2: GeneratedTokens is to be an integer of 0 or more, not empty$/],
    [`${HEAD}\n2023-11-16 18:15:46,9999999999,1`, /^line 2: ContextTokens is to be an integer/],
    [`${mooncake(0)}\n{"timestamp": 1`, /^line 2: not a JSON object$/],
    [`${mooncake(0)}\n${mooncake("now")}`, /^line 2: timestamp is to be an integer of 0 or more$/],
    [
      `${mooncake(0)}\n\n${mooncake(0, { input_length: 0 })}`,
      /^line 3: input_length is to be an integer of 1 or more$/,
    ],
    [`${mooncake(0)}\n${mooncake(1e12)}`, /^from the first request to the last are 11575 days; at most 31 are run$/],
    [`${HEAD}\n${good}\n2024-11-16 18:15:46,1,1`, /^from the first request to the last are 366 days/],
  ] as const)
    t.throws(() => parseArrivals(text), { name: "RangeError", message });
  t.end();
});

t.test("copies lie within five seconds of their request, and a seed repeats them", (t) => {
  const arrivals = [60_000, 120_000].map((at) => ({ at, promptTokens: at / 100, answerTokens: 7 }));
  const copies = multiplied(arrivals, 50, seededRandom(3));
  t.equal(copies.length, 100);
  for (const { at, promptTokens } of copies) t.ok(Math.abs(at - 100 * promptTokens) <= 5000);
  t.same(
    copies.map(({ at }) => at),
    copies.map(({ at }) => at).sort((a, b) => a - b),
  );
  t.same(multiplied(arrivals, 50, seededRandom(3)), copies);
  t.notSame(multiplied(arrivals, 50, seededRandom(4)), copies);
  t.end();
});

const shapeNamed = (name: string): Shape => {
  const shape = SHAPES.find((each) => each.name === name);
  if (shape === undefined) throw new Error(name);
  return shape;
};

/** The first minutes alone. */
const first = (name: string, minutes: number): Shape => ({ ...shapeNamed(name), hours: minutes / 60 });

t.test("shapes: the same seed draws the same, another others; in order, whole tokens", (t) => {
  for (const { name } of SHAPES) {
    const arrivals = arrivalsOf(first(name, 3), 5);
    // As text: the test library takes minutes to compare thousands of objects.
    const text = JSON.stringify(arrivals);
    t.ok(JSON.stringify(arrivalsOf(first(name, 3), 5)) === text, name);
    t.ok(JSON.stringify(arrivalsOf(first(name, 3), 6)) !== text, name);
    t.ok(
      arrivals.every(({ at }, index) => at >= (arrivals[index - 1]?.at ?? 0) && at < 180_000),
      "in order, within the time",
    );
    t.ok(arrivals.every((each) => [each.promptTokens, each.answerTokens].every((n) => Number.isInteger(n) && n >= 1)));
  }
  t.end();
});

/** What their descriptions say, in requests a second from one minute to another. */
const RATES: readonly (readonly [string, number, number, number])[] = [
  ["diurnal", 0, 3.8 * 60, 40],
  ["diurnal", 0, 2, 10],
  ["diurnal", 56, 58, 70],
  ["bursts", 0, 25, 25],
  ["bursts", 25, 28, 75],
  ["bursts", 28, 55, 25],
  ["bursts", 55, 58, 75],
  ["bursts", 205, 208, 75],
  ["shift", 0, 3.8 * 60, 25],
  ["ramp", 0, 90, 42.5],
  ["ramp", 90, 150, 80],
  ["silence", 0, 50, 30],
  ["silence", 51, 90, 0],
  ["silence", 90, 150, 30],
  ["noise", 0, 3.8 * 60, 40],
];

const drawn = new Map<string, readonly Arrival[]>();
const all = (name: string): readonly Arrival[] => {
  const arrivals = drawn.get(name) ?? arrivalsOf(shapeNamed(name), 1);
  drawn.set(name, arrivals);
  return arrivals;
};

t.test("shapes: rates are those of their descriptions within 4 %", (t) => {
  for (const [name, from, to, rate] of RATES) {
    const count = all(name).filter(({ at }) => at >= 60_000 * from && at < 60_000 * to).length;
    const seen = count / (60 * (to - from));
    t.ok(Math.abs(seen - rate) <= 0.04 * rate, `${name} from minute ${from} to ${to}: ${seen} of ${rate}`);
  }
  t.end();
});

t.test("shapes: slots of bursty spread as 2.6 and 32.7 requests/s were seen, 13 on average", (t) => {
  const slots = new Array<number>(1368).fill(0);
  for (const { at } of all("bursty")) slots[Math.floor(at / 10_000)] = (slots[Math.floor(at / 10_000)] ?? 0) + 1;
  const mean = slots.reduce((sum, count) => sum + count, 0) / slots.length / 10;
  t.ok(mean > 11.8 && mean < 14.8, `mean ${mean}`);
  const ratio = (quantile(slots, 0.99) ?? 0) / (quantile(slots, 0.5) ?? 1);
  t.ok(ratio > 9 && ratio < 16, `p99 is ${ratio} times the median`);
  t.end();
});

t.test("shapes: medians of lengths within 2 %, and 99th percentiles within 6 %, are the published ones", (t) => {
  const near = (seen: number, published: number, share: number, what: string): void =>
    void t.ok(Math.abs(seen - published) <= share * published + 0.5, `${what}: ${seen} of ${published}`);
  for (const [name, prompt, answer] of [
    ["diurnal", [1020, 4142], [129, 601]],
    ["bursty", [1469, 7436], [13, 252]],
  ] as const) {
    const of = (get: (arrival: Arrival) => number, share: number): number => quantile(all(name).map(get), share) ?? NaN;
    near(
      of(({ promptTokens }) => promptTokens, 0.5),
      prompt[0],
      0.02,
      `${name}, prompts`,
    );
    near(
      of(({ promptTokens }) => promptTokens, 0.99),
      prompt[1],
      0.06,
      `${name}, long prompts`,
    );
    near(
      of(({ answerTokens }) => answerTokens, 0.5),
      answer[0],
      0.02,
      `${name}, answers`,
    );
    near(
      of(({ answerTokens }) => answerTokens, 0.99),
      answer[1],
      0.06,
      `${name}, long answers`,
    );
  }
  const shift = all("shift");
  const ends = [shift.slice(0, 50_000), shift.slice(-50_000)].map((part) => [
    quantile(
      part.map(({ promptTokens }) => promptTokens),
      0.5,
    ) ?? NaN,
    quantile(
      part.map(({ answerTokens }) => answerTokens),
      0.5,
    ) ?? NaN,
  ]);
  for (const [index, [prompt, answer]] of [[3000, 60] as const, [350, 550] as const].entries()) {
    near(ends[index]?.[0] ?? NaN, prompt, 0.03, "shift, prompts");
    near(ends[index]?.[1] ?? NaN, answer, 0.03, "shift, answers");
  }
  t.end();
});

/** A few requests in a minute or two, some of them long. */
const workload = fc
  .array(
    fc.record({
      at: fc.integer({ min: 0, max: 90_000 }),
      promptTokens: fc.oneof(fc.integer({ min: 1, max: 6000 }), fc.integer({ min: 6000, max: 90_000 })),
      answerTokens: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 800 })),
    }),
    { minLength: 1, maxLength: 120 },
  )
  .map((arrivals) => arrivals.sort((a, b) => a.at - b.at));

/** Sizes that are asked for, every five seconds; then one of each stays. */
const sizes = fc.array(fc.record({ prefill: fc.integer({ min: 1, max: 6 }), decode: fc.integer({ min: 1, max: 6 }) }), {
  minLength: 1,
  maxLength: 24,
});

interface Watched {
  readonly world: World;
  /** Of each pod ever seen: when it was ready, and when something of it first was in use. */
  readonly firstUse: ReadonlyMap<string, { readonly readyAt: number; readonly at: number }>;
  readonly podSteps: number;
}

/** Runs a world to the end of its work, and looks at every pod in every step. */
function watched(
  arrivals: readonly Arrival[],
  wanted: readonly Readonly<Record<PoolRole, number>>[],
  options: { readonly reclaims: boolean; readonly startupMs: number },
): Watched {
  const { reclaims, startupMs } = options;
  const shrinking = { victims: reclaims ? "least-loaded" : "youngest", reclaims } as const;
  const world = new World({ startupMs, shrinking, random: seededRandom(1) });
  for (const role of POOL_ROLES) world.begin(role, 1);
  const firstUse = new Map<string, { readyAt: number; at: number }>();
  let [podSteps, next] = [0, 0];
  for (let now = STEP_MS; world.done.length < arrivals.length; now += STEP_MS) {
    for (let each = arrivals[next]; each !== undefined && each.at < now; each = arrivals[++next]) world.arrive(each);
    podSteps += world.prefill.length + world.decode.length;
    world.advance(now, STEP_MS);
    for (const { id, readyAt, engine } of [...world.prefill, ...world.decode])
      if (!engine.isIdle && !firstUse.has(id)) firstUse.set(id, { readyAt, at: now });
    if (now % 5000 === 0) for (const role of POOL_ROLES) world.scale(role, wanted[now / 5000 - 1]?.[role] ?? 1, now);
    demand(now < 3_600_000, "work does not end");
  }
  return { world, firstUse, podSteps };
}

t.test("pods come and go while requests run: none is lost, none served twice, none too early", (t) => {
  const options = fc.record({ reclaims: fc.boolean(), startupMs: fc.constantFrom(1000, 20_000) });
  fc.assert(
    fc.property(workload, sizes, options, (arrivals, wanted, chosen) => {
      const { world, firstUse, podSteps } = watched(arrivals, wanted, chosen);
      const key = ({ at, promptTokens, answerTokens }: Arrival): string => `${at} ${promptTokens} ${answerTokens}`;
      demand(world.done.map(key).sort().join() === arrivals.map(key).sort().join(), "each request ends once");
      for (const request of world.done) {
        const { at, prefilledAt, firstTokenAt, doneAt, promptTokens, answerTokens } = request;
        demand(
          at <= prefilledAt && prefilledAt <= firstTokenAt && firstTokenAt <= doneAt,
          "in the order of its stages",
        );
        demand(
          prefilledAt - at >= (1000 * promptTokens) / TRUTH.promptTokensPerSecond - 1e-6,
          "faster than prefill is",
        );
        demand(latenciesOf(request).ttftMs >= prefilledAt - at, "a first token before its prompt is read");
        // Ends of steps of 50 ms: an answer is seen up to one step early, for it may begin within its first step.
        demand(doneAt - firstTokenAt >= answerTokens * TRUTH.itlMs.base - STEP_MS - 1e-6, "faster than decode is");
      }
      for (const [id, { readyAt, at }] of firstUse) demand(at >= readyAt, `${id} serves before it is ready`);
      demand(world.podMs === STEP_MS * podSteps, "pods and time are what was seen");
      const seen = world.routerSeen(3_600_000);
      demand(seen.requests === arrivals.length && seen.backlogRequests === 0 && seen.heldRequests === 0, "counts");
      demand(seen.generatedTokens === arrivals.reduce((sum, { answerTokens }) => sum + answerTokens, 0), "tokens");
      for (const histogram of [seen.ttft, seen.tpot])
        demand(histogram.reduce((sum, count) => sum + count, 0) === arrivals.length, "a latency for each answer");
    }),
    { numRuns: 120, seed: 11 },
  );
  t.pass("120 workloads");
  t.end();
});

t.test("a pod is ready after nine to eleven tenths of the start-up time, and serves from then on", (t) => {
  const world = new World({ startupMs: 60_000, shrinking: REPLICA_SET, random: seededRandom(2) });
  for (const role of POOL_ROLES) world.scale(role, 3, 0);
  const ready = [...world.prefill, ...world.decode].map(({ readyAt }) => readyAt);
  t.ok(
    ready.every((at) => at >= 54_000 && at <= 66_000),
    ready.join(),
  );
  world.arrive({ at: 10, promptTokens: 1200, answerTokens: 2 });
  for (let now = STEP_MS; now <= 70_000; now += STEP_MS) {
    world.advance(now, STEP_MS);
    if (now < 54_000) t.equal(world.routerSeen(now).heldRequests, 1);
  }
  const [request] = world.done;
  const earliest = Math.min(...world.prefill.map(({ readyAt }) => readyAt));
  t.ok((request?.prefilledAt ?? 0) >= earliest + 100, "100 ms of prefill after the first pod is ready");
  t.end();
});

t.test("pods that are taken away finish what they have, and can be called back where that is said", (t) => {
  for (const reclaims of [false, true]) {
    const world = new World({ startupMs: 60_000, shrinking: { ...REPLICA_SET, reclaims }, random: seededRandom(1) });
    for (const role of POOL_ROLES) world.begin(role, 2);
    for (let at = 0; at < 2; at++) world.arrive({ at, promptTokens: 60_000, answerTokens: 5 });
    world.advance(50, STEP_MS);
    world.scale("prefill", 1, 100);
    t.equal(world.asked("prefill"), 1);
    t.equal(world.prefill.length, 2, "one drains");
    world.scale("prefill", 2, 150);
    t.equal(world.prefill.length, reclaims ? 2 : 3, reclaims ? "called back" : "a new one starts");
    world.scale("decode", 1, 150);
    world.advance(150, STEP_MS);
    t.equal(world.decode.length, 1, "an idle one is gone at once");
    for (let now = 200; now < 20_000; now += STEP_MS) world.advance(now, STEP_MS);
    t.equal(world.done.length, 2);
    t.equal(world.prefill.length, 2, "what drained is gone");
  }
  t.end();
});

t.test("GPU-hours of static are its pods times time, and its course says so", (t) => {
  const arrivals = arrivalsOf(first("bursts", 10), 1);
  const [make] = policiesNamed("static", LIMITS);
  if (make === undefined) throw new Error("static");
  const { gpuHours, course, changes, flips, requests, sloAttainment } = runScaling({
    ...{ arrivals, policy: make(), startupMs: 60_000, seed: 1 },
  });
  const seconds = (course.at(-1)?.at ?? 0) / 1000;
  t.ok(seconds >= 600 && seconds <= 660, "from the first request until all are answered");
  // 4 and 3 pods for the first minute, then 12 and 7, those that start among them.
  const expected = (7 * 60 + 19 * (seconds - 60)) / 3600;
  t.ok(Math.abs(gpuHours / expected - 1) < 0.01, `${gpuHours} of ${expected}`);
  t.same([changes, flips], [2, 0]);
  t.same(course[1]?.asked, { prefill: 12, decode: 7 });
  t.same(course[1]?.ready, { prefill: 4, decode: 3 });
  t.same(course[4]?.ready, { prefill: 12, decode: 7 });
  t.equal(requests, arrivals.length);
  const counted = course.reduce((sum, { requestsPerSecond }) => sum + 30 * requestsPerSecond, 0);
  t.ok(Math.abs(counted - requests) < 1e-6, "the picture shows each request once");
  t.ok(sloAttainment > 0.999, `${sloAttainment}`);
  t.end();
});

/** Asks for what it is told, at each of its intervals. */
const scripted = (wanted: readonly Readonly<Record<PoolRole, number>>[], seen: View[] = []): ScalingPolicy => ({
  ...{ intervalMs: 5000, scrapeMs: 5000, shrinking: REPLICA_SET },
  decide: (view) => {
    seen.push(view);
    return wanted[view.now / 5000 - 1] ?? { prefill: 1, decode: 1 };
  },
});

t.test("every request is in time, late, or never ended; flips and changes are those of the script", (t) => {
  fc.assert(
    fc.property(workload, sizes, (arrivals, wanted) => {
      const views: View[] = [];
      const run = { arrivals, policy: scripted(wanted, views), startupMs: 20_000, seed: 1 };
      const { sloAttainment, requests, changes, flips } = runScaling(run);
      demand(requests === arrivals.length, "all are counted");
      const inTime = sloAttainment * requests;
      demand(inTime >= 0 && inTime <= requests && Math.abs(inTime - Math.round(inTime)) < 1e-6, "a share of requests");
      demand(flips <= Math.max(0, changes - 1), "flips are changes");
      for (const { now, pods, router, asked } of views) {
        for (const { readyAt, isReady, metrics } of pods) {
          demand(isReady === readyAt <= now, "ready when it is");
          demand(isReady || metrics === undefined, "no metrics of a pod that starts");
        }
        for (const role of POOL_ROLES)
          demand(
            asked[role] === pods.filter((pod) => pod.role === role && !pod.isDraining).length,
            "what is asked for",
          );
        demand(router.backlogRequests <= router.requests, "no more wait than came");
      }
    }),
    { numRuns: 60, seed: 12 },
  );
  t.pass("60 workloads");
  t.end();
});

t.test("what never ends is not in time, nor are late first tokens and slow ones", (t) => {
  const one = { prefill: 1, decode: 1 };
  const quick = [0, 1000, 2000].map((at) => ({ at, promptTokens: 100, answerTokens: 10 }));
  const attained = (more: Arrival, maximum = LIMITS): number =>
    runScaling({
      ...{ arrivals: [...quick, { ...more, at: 3000 }], policy: scripted([one]), startupMs: 60_000, seed: 1 },
      limits: maximum,
    }).sloAttainment;
  t.equal(attained({ at: 0, promptTokens: 100, answerTokens: 10 }), 1);
  t.equal(attained({ at: 0, promptTokens: 100_000_000, answerTokens: 1 }), 0.75, "not within a quarter of an hour");
  t.equal(attained({ at: 0, promptTokens: 23_000, answerTokens: 1 }), 1, "1917 ms of prefill");
  t.equal(attained({ at: 0, promptTokens: 24_000, answerTokens: 1 }), 0.75, "2000 ms, and the hand-over");
  t.equal(
    attained({ at: 0, promptTokens: 100, answerTokens: 200 }, { ...LIMITS, tpotMs: 10 }),
    0,
    "12 ms a token, all of them",
  );
  t.same(runScaling({ arrivals: [], policy: scripted([one]), startupMs: 1000, seed: 1 }).sloAttainment, 1);
  t.end();
});

t.test("no policy ever asks for more than 24 of a role, nor has more that are not draining", (t) => {
  const shape = { ...first("bursts", 8), rate: (seconds: number) => (seconds < 30 ? 10 : seconds < 240 ? 220 : 0) };
  const arrivals = arrivalsOf(shape, 1);
  for (const name of SCALING_POLICIES.filter((each) => !each.endsWith("-best"))) {
    const [make] = policiesNamed(name, LIMITS);
    if (make === undefined) throw new Error(name);
    const { course, requests } = runScaling({ arrivals, policy: make(), startupMs: 30_000, seed: 1 });
    t.equal(requests, arrivals.length);
    for (const { asked, ready } of course)
      for (const role of POOL_ROLES)
        if (!(asked[role] >= 1 && asked[role] <= 24 && ready[role] <= 24)) t.fail(`${name}: ${asked[role]}`);
  }
  t.end();
});

t.test("the same cell twice gives the same row and course; another seed another", (t) => {
  const workload: Workload = { kind: "shape", shape: first("bursty", 6) };
  for (const policy of ["tandem-balanced", "hpa", "kpa", "llm-d-slo", "static"] as const) {
    const cell = { policy, workload, startupSeconds: 30, seed: 4 };
    const once = runScalingCell(cell);
    t.same(runScalingCell(cell), once, policy);
    t.notSame(runScalingCell({ ...cell, seed: 5 }).row, { ...once.row, seed: 5 }, policy);
    t.match(once.row, { policy, trace: "bursty", startupSeconds: 30, seed: 4 });
  }
  t.end();
});

t.test("the best of a grid is the best by 100 * attainment - 0.3 * GPU-hours (section 6.3)", (t) => {
  const workload: Workload = { kind: "shape", shape: first("bursts", 5) };
  const { row } = runScalingCell({ policy: "hpa-best", workload, startupSeconds: 30, seed: 1 });
  const merits = policiesNamed("hpa-best", LIMITS).map((make) => {
    const arrivals = arrivalsOf(workload.shape, 1);
    const figures = runScaling({ arrivals, policy: make(), startupMs: 30_000, seed: 1 });
    return 100 * figures.sloAttainment - 0.3 * figures.gpuHours;
  });
  t.equal(merits.length, 9);
  t.equal(100 * row.sloAttainment - 0.3 * row.gpuHours, Math.max(...merits));
  t.end();
});
