/** Workloads over simulated pods: what holds of every run. */
import fc from "fast-check";
import t from "tap";
import type { Arrival } from "../../../src/simulator/scaling/arrivals.ts";
import { runScalingCell, type Workload } from "../../../src/simulator/scaling/cells.ts";
import { LIMITS, REPLICA_SET, type ScalingPolicy, type View } from "../../../src/simulator/scaling/policy.ts";
import { policiesNamed, SCALING_POLICIES } from "../../../src/simulator/scaling/policies/index.ts";
import { TRUTH } from "../../../src/simulator/scaling/pool.ts";
import { runScaling } from "../../../src/simulator/scaling/run.ts";
import { arrivalsOf, SHAPES, type Shape } from "../../../src/simulator/scaling/shapes.ts";
import { latenciesOf, POOL_ROLES, World, type PoolRole } from "../../../src/simulator/scaling/world.ts";
import { seededRandom } from "../../../src/simulator/random.ts";

const STEP_MS = 50;

const demand = (isTrue: boolean, what: string): void => {
  if (!isTrue) throw new Error(what);
};

const shapeNamed = (name: string): Shape => {
  const shape = SHAPES.find((each) => each.name === name);
  if (shape === undefined) throw new Error(name);
  return shape;
};

/** The first minutes alone. */
const first = (name: string, minutes: number): Shape => ({ ...shapeNamed(name), hours: minutes / 60 });

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

type FirstUse = Map<string, { readonly readyAt: number; readonly at: number }>;

function noteUse(world: World, firstUse: FirstUse, at: number): void {
  for (const { id, readyAt, engine } of [...world.prefill, ...world.decode])
    if (!engine.isIdle && !firstUse.has(id)) firstUse.set(id, { readyAt, at });
}

function askFor(world: World, wanted: Readonly<Record<PoolRole, number>> | undefined, now: number): void {
  for (const role of POOL_ROLES) world.scale(role, wanted?.[role] ?? 1, now);
}

interface Watched {
  readonly world: World;
  /** Of each pod ever seen: when it was ready, and when something of it first was in use. */
  readonly firstUse: FirstUse;
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
  const firstUse: FirstUse = new Map();
  let [podSteps, next] = [0, 0];
  for (let now = STEP_MS; world.done.length < arrivals.length; now += STEP_MS) {
    for (let each = arrivals[next]; each !== undefined && each.at < now; each = arrivals[++next]) world.arrive(each);
    podSteps += world.prefill.length + world.decode.length;
    world.advance(now, STEP_MS);
    noteUse(world, firstUse, now);
    if (now % 5000 === 0) askFor(world, wanted[now / 5000 - 1], now);
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
    const most = course.flatMap(({ asked, ready }) => POOL_ROLES.map((role) => Math.max(asked[role], ready[role])));
    const least = course.flatMap(({ asked }) => POOL_ROLES.map((role) => asked[role]));
    t.ok(Math.max(...most) <= 24 && Math.min(...least) >= 1, `${name}: ${Math.min(...least)} to ${Math.max(...most)}`);
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
