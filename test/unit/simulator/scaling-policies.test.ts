/**
 * The published scaling policies of the simulator against values worked out by hand. Each table names the formula and where it
 * is published; sections are those of the reference on autoscaling.
 */
import fc from "fast-check";
import t from "tap";
import { bucketOf, emptyHistogram } from "../../../src/autoscaler/latency.ts";
import {
  LIMITS,
  type PodView,
  type ScalingPolicy,
  type View,
  type Wanted,
} from "../../../src/simulator/scaling/policy.ts";
import { policiesNamed, SCALING_POLICIES } from "../../../src/simulator/scaling/policies/index.ts";
import { kthena } from "../../../src/simulator/scaling/policies/kthena.ts";
import { hpa } from "../../../src/simulator/scaling/policies/simple.ts";
import type { PoolRole } from "../../../src/simulator/scaling/world.ts";

/** What a role looks like: a value for each ready pod, and pods besides. */
interface Pool {
  readonly each: readonly number[];
  readonly starting?: number;
  readonly draining?: number;
  readonly running?: number;
}

interface Told {
  readonly prefill?: Pool;
  readonly decode?: Pool;
  readonly router?: Partial<View["router"]>;
}

const ON_TARGET = { prefill: { each: [2, 2, 2] }, decode: { each: [0.7, 0.7, 0.7] } };

/** Values are waiting requests of prefill pods, and shares of the KV cache of decode pods. */
function podsOf(role: PoolRole, { each, starting = 0, draining = 0, running = 0 }: Pool, now: number): PodView[] {
  const pod = (index: number, changed: Partial<PodView>): PodView => ({
    ...{ id: `${role}-${index}`, role, createdAt: 0, readyAt: 0, isReady: true, isDraining: false, metrics: undefined },
    ...changed,
  });
  const metrics = (value: number): NonNullable<PodView["metrics"]> => ({
    ...{ at: now, running, waiting: role === "prefill" ? value : 0, kvUsage: role === "decode" ? value : 0 },
    ...{ kvCapacityTokens: 250_000, promptTokens: 0, generatedTokens: 0, maxSequences: 256 },
  });
  return [
    ...each.map((value, index) => pod(index, { metrics: metrics(value) })),
    ...Array.from({ length: starting }, (_, index) => pod(100 + index, { isReady: false, readyAt: now + 60_000 })),
    ...Array.from({ length: draining }, (_, index) => pod(200 + index, { isDraining: true, metrics: metrics(9) })),
  ];
}

function viewAt(seconds: number, { prefill, decode, router }: Told): View {
  const now = 1000 * seconds;
  const pools = { prefill: prefill ?? ON_TARGET.prefill, decode: decode ?? ON_TARGET.decode };
  const asked = ({ each, starting = 0 }: Pool): number => each.length + starting;
  return {
    now,
    pods: [...podsOf("prefill", pools.prefill, now), ...podsOf("decode", pools.decode, now)],
    asked: { prefill: asked(pools.prefill), decode: asked(pools.decode) },
    router: {
      ...{ id: "router", at: now, requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 },
      ...{ backlogTokens: 0, backlogRequests: 0, heldRequests: 0, ttft: emptyHistogram(), tpot: emptyHistogram() },
      ...router,
    },
  };
}

const named = (name: (typeof SCALING_POLICIES)[number]): ScalingPolicy => {
  const [make] = policiesNamed(name, LIMITS);
  if (make === undefined) throw new Error(name);
  return make();
};

const pods = (count: number, value: number): number[] => Array.from({ length: count }, () => value);

/** Asks at each of its intervals until then, the last answer counts; pods are as many as told, whatever it says. */
function askedUntil(policy: ScalingPolicy, seconds: number, told: (seconds: number) => Told): Wanted {
  let wanted: Wanted = { prefill: NaN, decode: NaN };
  for (let at = 0; at <= seconds; at += policy.intervalMs / 1000) wanted = policy.decide(viewAt(at, told(at)));
  return wanted;
}

/** The world obeys at once, each new pod ready: what it said for `role`, by the second where that changed. */
function courseOf(
  policy: ScalingPolicy,
  { role, from, seconds }: { readonly role: PoolRole; readonly from: number; readonly seconds: number },
  told: (seconds: number, count: number) => Told,
): Record<number, number> {
  const course: Record<number, number> = {};
  let count = from;
  for (let at = 0; at <= seconds; at += policy.intervalMs / 1000) {
    const next = policy.decide(viewAt(at, told(at, count)))[role];
    if (next !== count) course[at] = next;
    count = next;
  }
  return course;
}

t.test("intervals are those of the controllers (sections 1.2, 2, 3.1, 3.4)", (t) => {
  const intervals = Object.fromEntries(
    (["hpa", "kpa", "kthena", "aibrix", "llm-d-slo", "llm-d-tokens"] as const).map((name) => [
      name,
      named(name).intervalMs,
    ]),
  );
  t.same(intervals, {
    ...{ hpa: 15_000, kpa: 2000, kthena: 15_000, aibrix: 10_000 },
    ...{ "llm-d-slo": 15_000, "llm-d-tokens": 15_000 },
  });
  t.end();
});

t.test("static: twelve and seven, within the limits", (t) => {
  t.same(named("static").decide(viewAt(60, {})), { prefill: 12, decode: 7 });
  const [make] = policiesNamed("static", { ...LIMITS, max: { prefill: 8, decode: 24 } });
  t.same(make?.().decide(viewAt(60, {})), { prefill: 8, decode: 7 });
  t.end();
});

t.test(
  "hpa: ceil(current * metric / target), tolerance 10 %, up 100 % or 4 (section 3.4, replica_calculator.go)",
  (t) => {
    for (const [each, starting, wanted, why] of [
      [pods(4, 3), 0, 6, "ceil(4 * 1.5)"],
      [[2, 2, 2, 2.4], 0, 4, "1.05 is within the tolerance"],
      [[2, 2, 2, 3.2], 0, 5, "ceil(4 * 1.15)"],
      [pods(4, 1.84), 0, 4, "0.92 is within the tolerance"],
      [pods(2, 20), 0, 6, "20 wanted, of which 4 more than 2 at once"],
      [pods(10, 4), 0, 20, "ceil(10 * 2), 100 % at once"],
      [pods(20, 4), 0, 24, "40 wanted, 24 is the limit"],
      [pods(2, 3), 2, 4, "pods without metrics count 0: 1.5 * 2 / 4 turns around"],
      [pods(2, 6), 2, 6, "pods without metrics count 0: ceil(3 * 2 / 4 * 4)"],
      [[], 4, 4, "no metrics at all"],
    ] as const)
      t.equal(named("hpa").decide(viewAt(0, { prefill: { each, starting } })).prefill, wanted, why);
    for (const [each, wanted] of [
      [pods(3, 0.75), 3],
      [pods(3, 0.9), 4],
      [pods(3, 0.99), 5],
    ] as const)
      t.equal(named("hpa").decide(viewAt(0, { decode: { each } })).decode, wanted, `${each[0]} of KV over 0.7`);
    const requests = hpa({ targets: { waiting: 0.8, kv: 0.7 }, limits: LIMITS, prefillMetric: "requests" });
    const busy = { prefill: { each: pods(4, 0), running: 1 } };
    t.equal(requests.decide(viewAt(0, busy)).prefill, 5, "all requests: ceil(4 * 1 / 0.8)");
    t.end();
  },
);

t.test("hpa: 300 s of stabilisation on the way down, the first recommendation is what it finds", (t) => {
  const low = { prefill: { each: pods(8, 1) } };
  t.equal(askedUntil(named("hpa"), 285, () => low).prefill, 8);
  t.equal(askedUntil(named("hpa"), 300, () => low).prefill, 4, "ceil(8 * 0.5)");
  const starting = { prefill: { each: pods(4, 1), starting: 4 } };
  t.equal(askedUntil(named("hpa"), 300, () => starting).prefill, 6, "missing pods count as on target: 4 * 0.5 + 4");
  // Means over a minute fall by quarters: 8 * 0.75, 0.5, 0.25, 0 wanted from 315 s on, 8 last at 300 s.
  const course = courseOf(named("hpa"), { role: "prefill", from: 8, seconds: 660 }, (at, count) => ({
    prefill: { each: pods(count, at <= 300 ? 2 : 0) },
  }));
  t.same(course, { 600: 6, 615: 4, 630: 2, 645: 1 });
  t.end();
});

t.test("kpa: ceil(concurrency / target), clamped to half and a thousand times (section 2, autoscaler.go)", (t) => {
  // Targets 8 and 100; a concurrency of each pod is what runs and waits there.
  const steady = (total: number, count: number) => () => ({ prefill: { each: pods(count, total / count) } });
  t.equal(askedUntil(named("kpa"), 0, steady(96, 10)).prefill, 12, "ceil(96 / 8), more than the 10 of the beginning");
  t.equal(askedUntil(named("kpa"), 70, steady(70, 10)).prefill, 9, "ceil(70 / 8)");
  t.equal(askedUntil(named("kpa"), 70, steady(0, 10)).prefill, 5, "no less than half");
  const decode = { each: pods(3, 0.5), running: 90 };
  t.equal(askedUntil(named("kpa"), 70, () => ({ decode })).decode, 3, "ceil(270 / 100)");
  const held = { prefill: { each: [0] }, router: { heldRequests: 15 } };
  t.equal(askedUntil(named("kpa"), 0, () => held).prefill, 2, "what the router holds counts: ceil(15 / 8)");
  t.end();
});

t.test("kpa: begins in panic with more than one pod, for a stable window of 60 s", (t) => {
  const idle = () => ({ prefill: { each: pods(4, 0) } });
  t.equal(askedUntil(named("kpa"), 60, idle).prefill, 4, "nothing is taken away");
  t.equal(askedUntil(named("kpa"), 62, idle).prefill, 2, "floor(4 / 2)");
  t.equal(askedUntil(named("kpa"), 0, () => ({ prefill: { each: [0] } })).prefill, 1);
  t.end();
});

t.test("kpa: panic from twice the ready pods in 6 s, its most is kept until 60 s after", (t) => {
  const policy = named("kpa");
  // 32 requests at once on 4 pods, then 100 in three reads from 80 s, then none. Panic takes three reads, stable thirty.
  const total = (at: number): number => (at < 80 ? 32 : at < 86 ? 100 : 0);
  const said = new Map<number, number>();
  for (let at = 0; at <= 150; at += 2)
    said.set(at, policy.decide(viewAt(at, { prefill: { each: pods(4, total(at) / 4) } })).prefill);
  const expected: Readonly<Record<number, number>> = {
    78: 4, // ceil(32 / 8)
    80: 5, // stable: ceil((29 * 32 + 100) / 30 / 8); panic: ceil(164 / 3 / 8) = 7 is not twice 4
    82: 10, // panic: ceil(232 / 3 / 8) = 10 is more than twice 4
    84: 13, // ceil(100 / 8)
    86: 13, // ceil(200 / 3 / 8) = 9 is over the threshold for the last time
    146: 13,
    148: 2, // a stable window later: floor(4 / 2)
  };
  for (const [at, count] of Object.entries(expected)) t.equal(said.get(Number(at)), count, `at ${at} s`);
  t.end();
});

t.test("kthena: the ratio of sums, one record for all pods (section 1.2, recommendation.go)", (t) => {
  for (const [sum, ready, starting, wanted, why] of [
    [10.2, 10, 0, 11, "2 % over: no dead band"],
    [0.95, 5, 0, 5, "one pod's work keeps five"],
    [1.05, 5, 0, 5, "one pod's work keeps five"],
    [1.2, 5, 0, 2, "a little more than one pod's work takes three away"],
    [0, 5, 0, 1, "nothing: the least"],
    [6, 2, 2, 6, "unready pods join the one record: ceil(6 / 3 * 3)"],
    [2.5, 2, 2, 4, "2.5 / 3 turns around"],
    [20, 2, 0, 6, "4 more than 2"],
    [40, 10, 0, 20, "100 % more"],
    [40, 20, 0, 24, "the limit"],
  ] as const) {
    const policy = kthena({ waiting: 1, kv: 1 }, LIMITS);
    const decided = policy.decide(viewAt(0, { prefill: { each: pods(ready, sum / ready), starting } }));
    t.equal(decided.prefill, wanted, why);
  }
  t.equal(named("kthena").decide(viewAt(0, { prefill: { each: pods(4, 2.5) } })).prefill, 5, "10 waiting over 2");
  t.equal(named("kthena").decide(viewAt(0, { decode: { each: pods(3, 0.8) } })).decode, 4, "2.4 of KV over 0.7");
  t.end();
});

t.test("kthena: up from the least of a minute, down to the most of five (Helm's defaults, revision.go)", (t) => {
  const sum = (total: number, count: number): Told => ({ prefill: { each: pods(count, total / count) } });
  const up = courseOf(kthena({ waiting: 1, kv: 1 }, LIMITS), { role: "prefill", from: 2, seconds: 75 }, (at, count) =>
    sum(at === 0 ? 2 : 20, count),
  );
  t.same(up, { 15: 6, 75: 12 }, "2 + 4, and 6 * 2 when the 2 are a minute ago");
  const down = courseOf(
    kthena({ waiting: 1, kv: 1 }, LIMITS),
    { role: "prefill", from: 5, seconds: 330 },
    (at, count) => sum(at === 0 ? 5 : 1.2, count),
  );
  t.same(down, { 315: 2 });
  t.end();
});

t.test("kthena: a pod that goes, or a role without metrics, stops both roles", (t) => {
  const loaded = { prefill: { each: pods(4, 9) } };
  t.same(named("kthena").decide(viewAt(0, loaded)), { prefill: 8, decode: 3 });
  const draining = { ...loaded, decode: { each: pods(3, 0.7), draining: 1 } };
  t.same(named("kthena").decide(viewAt(0, draining)), { prefill: 4, decode: 3 });
  t.same(named("kthena").decide(viewAt(0, { ...loaded, decode: { each: [], starting: 3 } })), {
    prefill: 4,
    decode: 3,
  });
  t.end();
});

t.test("aibrix: APA's bands of 10 %, at most twice and half (section 3.1, apa.go)", (t) => {
  for (const [count, value, wanted, why] of [
    [4, 3, 6, "ceil(4 * 1.5)"],
    [4, 2.1, 4, "1.05 is within the band"],
    [4, 1.9, 4, "0.95 is within the band"],
    [4, 2.3, 5, "ceil(4 * 1.15)"],
    [4, 10, 8, "20 wanted, at most twice"],
    [4, 1, 2, "ceil(4 * 0.5), at once: no history that says less"],
    [9, 0.2, 4, "1 wanted, no less than floor(9 / 2)"],
    [9, 1.5, 7, "ceil(9 * 0.75)"],
  ] as const)
    t.equal(named("aibrix").decide(viewAt(0, { prefill: { each: pods(count, value) } })).prefill, wanted, why);
  t.end();
});

t.test("aibrix: means of 180 s, and down to the least of 300 s, the reverse of an HPA", (t) => {
  const value = (at: number): number => (at === 0 ? 2 : 4);
  const two = askedUntil(named("aibrix"), 10, (at) => ({ prefill: { each: pods(4, value(at)) } }));
  t.equal(two.prefill, 6, "mean of 2 and 4 over 2");
  const least = askedUntil(named("aibrix"), 10, (at) => ({ prefill: { each: pods(8, at === 0 ? 0 : 3) } }));
  t.equal(least.prefill, 4, "0.75 says 6, but 4 was said ten seconds ago");
  t.end();
});

/** Answers of each read, all with one latency: counters that run. */
const latencies = (reads: number, ttftMs: number, tpotMs: number): Partial<View["router"]> => {
  const [ttft, tpot] = [emptyHistogram(), emptyHistogram()];
  ttft[bucketOf(ttftMs)] = 10 * reads;
  tpot[bucketOf(tpotMs)] = 10 * reads;
  return { ttft, tpot };
};
/** Bounds of buckets as shares of 2000 ms and of 50 ms. */
const HEALTHY = [1.25 ** 31, 1.25 ** 14] as const; // 0.5049 and 0.4547: between 0.40 and 0.55
const OFTEN = 1000;

t.test(
  "llm-d-slo: n + ceil(n * (s * c / 0.55 - 1)), credit for pods that start (section 4.2, README.slo-aware.md)",
  (t) => {
    // Over the clamp of 2 each, but for the first read, which knows no difference yet: s = 0, 1, 4/3, 2. The least of 30 s.
    const said = (ready: number, seconds: number): number =>
      askedUntil(named("llm-d-slo"), seconds, (at) => ({
        prefill: { each: pods(ready, 0), starting: 8 - ready },
        router: latencies(at, 60_000, HEALTHY[1]),
      })).prefill;
    t.equal(said(8, 15), 8, "not before 30 s");
    t.equal(said(8, 30), 15, "8 + ceil(8 * (1 / 0.55 - 1))");
    t.equal(said(4, 30), 8, "with half of them ready, 0.5 / 0.55 asks for none, and takes none");
    t.equal(said(4, 45), 10, "8 + ceil(8 * (4 / 3 / 2 / 0.55 - 1))");
    t.equal(said(0, 30), 15, "credit is 1 with none ready");
    t.end();
  },
);

t.test("llm-d-slo: the course of a step, at most 100 % or 4 in a minute", (t) => {
  // s climbs 0.665, 0.826, 0.986 as the mean of three reads; wanted 5, 7, then by 0.986 / 0.55.
  const course = courseOf(named("llm-d-slo"), { role: "prefill", from: 4, seconds: 360 }, (at, count) => {
    const before = Math.min(at, 270);
    const router = latencies(before, HEALTHY[0], HEALTHY[1]);
    const ttft = (router.ttft ?? []).map((each, bucket) =>
      bucket === bucketOf(1.25 ** 34) ? each + OFTEN * (at - before) : each,
    );
    return { prefill: { each: pods(count, 0) }, router: { ...router, ttft } };
  });
  t.same(course, {
    300: 5, // the least of 5 and 7
    315: 7, // the least of 7 and 9
    330: 8, // the least of 9 and 13, but 4 + 4 in this minute
    360: 10, // the minute began with 5
  });
  t.end();
});

t.test("llm-d-slo: a band of 0.40 to 0.55, down one in two minutes after three", (t) => {
  const at = (ttft: number, tpot: number) => (seconds: number) => ({
    ...{ prefill: { each: pods(5, 0) }, decode: { each: pods(5, 0) } },
    router: latencies(seconds, ttft, tpot),
  });
  t.same(askedUntil(named("llm-d-slo"), 300, at(...HEALTHY)), { prefill: 5, decode: 5 });
  t.same(
    askedUntil(named("llm-d-slo"), 300, at(1.25 ** 29, 1.25 ** 13)),
    { prefill: 5, decode: 5 },
    "0.323 and 0.364 take floor(5 * 0.19) and floor(5 * 0.09): none",
  );
  const idle = courseOf(named("llm-d-slo"), { role: "decode", from: 5, seconds: 430 }, (_, count) => ({
    decode: { each: pods(count, 0) },
  }));
  t.same(idle, { 180: 4, 300: 3, 420: 2 });
  t.equal(
    askedUntil(named("llm-d-slo"), 60, at(HEALTHY[0], 1.25 ** 16)).decode,
    7,
    "TPOT moves decode: s = 0.711 * 2 / 3 holds, then 5 + ceil(5 * (0.711 / 0.55 - 1)) for 30 s",
  );
  t.end();
});

t.test(
  "llm-d-tokens: backlog / 15928 / 1.2 and KV / 0.8, an HPA's tolerance (section 4.2, keda-epp-token-aware)",
  (t) => {
    const POD = 15_928 * 1.2;
    for (const [count, backlogPods, wanted, why] of [
      [4, 5.2, 5, "ceil(5.2), one at once"],
      [4, 4.3, 4, "7.5 % more is within the tolerance"],
      [4, 4.5, 5, "12.5 % more is not"],
      [12, 13, 12, "8 % more is within the tolerance"],
      [24, 40, 24, "the limit"],
    ] as const)
      t.equal(
        named("llm-d-tokens").decide(
          viewAt(0, { prefill: { each: pods(count, 0) }, router: { backlogTokens: POD * backlogPods } }),
        ).prefill,
        wanted,
        why,
      );
    t.equal(named("llm-d-tokens").decide(viewAt(0, { decode: { each: pods(3, 0.95) } })).decode, 4, "2.85 / 0.8");
    t.equal(named("llm-d-tokens").decide(viewAt(0, { decode: { each: pods(3, 0.85) } })).decode, 3, "3.19: 6 % more");
    t.end();
  },
);

t.test("llm-d-tokens: up one in three minutes, down one in five after five", (t) => {
  const up = courseOf(named("llm-d-tokens"), { role: "prefill", from: 4, seconds: 400 }, (_, count) => ({
    prefill: { each: pods(count, 0) },
    router: { backlogTokens: 10 * 15_928 * 1.2 },
  }));
  t.same(up, { 0: 5, 180: 6, 360: 7 });
  const down = courseOf(named("llm-d-tokens"), { role: "decode", from: 5, seconds: 620 }, (_, count) => ({
    decode: { each: pods(count, 0) },
  }));
  t.same(down, { 300: 4, 600: 3 });
  t.end();
});

t.test("grids: the best of nine pairs, and each policy once", (t) => {
  for (const name of SCALING_POLICIES)
    t.equal(policiesNamed(name, LIMITS).length, name.endsWith("-best") ? 9 : 1, name);
  t.equal(new Set(SCALING_POLICIES).size, SCALING_POLICIES.length);
  t.end();
});

/** As many pods as may be asked for. */
const clipped = ({ prefill, decode, ...rest }: Told): Told => ({
  ...rest,
  ...(prefill === undefined
    ? {}
    : { prefill: { ...prefill, each: prefill.each.slice(0, 24 - (prefill.starting ?? 0)) } }),
  ...(decode === undefined ? {} : { decode: { ...decode, each: decode.each.slice(0, 24 - (decode.starting ?? 0)) } }),
});

t.test("whatever it is shown, a policy asks for whole pods within its limits", (t) => {
  const pool = fc.record({
    each: fc.array(fc.double({ min: 0, max: 300, noNaN: true }), { maxLength: 24 }),
    starting: fc.integer({ min: 1, max: 5 }),
    draining: fc.integer({ min: 0, max: 2 }),
  });
  const told = fc.record({
    ...{ prefill: pool, decode: pool },
    router: fc.record({
      backlogTokens: fc.nat(1e9),
      heldRequests: fc.nat(10_000),
      ttft: fc.array(fc.nat(1000), { minLength: 52, maxLength: 52 }),
      tpot: fc.array(fc.nat(1000), { minLength: 52, maxLength: 52 }),
    }),
  });
  const views = fc.array(told, { minLength: 1, maxLength: 6 });
  for (const name of SCALING_POLICIES.filter((each) => !each.endsWith("-best")))
    fc.assert(
      fc.property(views, (each) => {
        const policy = named(name);
        for (const [index, one] of each.entries()) {
          const wanted = policy.decide(viewAt((index * policy.intervalMs) / 1000, clipped(one)));
          for (const count of [wanted.prefill, wanted.decode])
            if (!(Number.isInteger(count) && count >= 1 && count <= 24)) throw new Error(`${name}: ${count}`);
        }
      }),
      { numRuns: 60, seed: 7 },
    );
  t.pass("60 courses of each policy");
  t.end();
});
