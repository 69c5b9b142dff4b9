/** The decision core in its typical situations: what it says, and what holds it back. */
import t from "tap";
import { createMemory, decide, type GroupMemory } from "../../../src/autoscaler/decide.ts";
import type { Decision, InstanceSeen, Observation, WorkloadDecision } from "../../../src/autoscaler/group.ts";
import type { ScalingSpec } from "../../../src/workload/scaling.ts";
import { instance, observation, router, SteadyGroup, workload } from "../../support/observations.ts";

const ROUND_MS = 5000;

interface Grown {
  readonly group: SteadyGroup;
  readonly memory: GroupMemory;
  counts: { prefill: number; decode: number };
}

/** Half an hour at this rate, the replicas as they are decided. */
function settled(rate: number, scaling: Partial<ScalingSpec> = {}): Grown {
  const grown: Grown = { group: new SteadyGroup(), memory: createMemory(), counts: { prefill: 3, decode: 3 } };
  for (let round = 0; round < 360; round++) follow(grown, next(grown, rate, scaling));
  return grown;
}

const next = ({ group, memory, counts }: Grown, rate: number, scaling: Partial<ScalingSpec> = {}): Decision =>
  decide(memory, group.after(ROUND_MS, rate, counts, scaling));

const of = ({ workloads }: Decision, id: string): WorkloadDecision => {
  const found = workloads.find((each) => each.workload === id);
  if (found === undefined) throw new Error(`nothing was decided on ${id}`);
  return found;
};

function follow(grown: Grown, decision: Decision): void {
  grown.counts = { prefill: of(decision, "prefill").to, decode: of(decision, "decode").to };
}

const reasons = ({ chain }: WorkloadDecision): readonly string[] => chain.map(({ reason }) => reason);

/** What becomes of falling load: `then` bends what is seen, or the settings. */
function falling(then: (whole: Observation) => Observation, scaling: Partial<ScalingSpec> = {}): WorkloadDecision {
  const grown = settled(40, scaling);
  let last: Decision | undefined;
  for (let round = 0; round < 120; round++)
    last = decide(grown.memory, then(grown.group.after(ROUND_MS, 2, grown.counts, scaling)));
  if (last === undefined) throw new Error("no round");
  return of(last, "prefill");
}

const with_ =
  (rest: object) =>
  (whole: Observation): Observation => ({
    ...whole,
    workloads: whole.workloads.map((each) => ({ ...each, ...rest })),
  });
const same = (whole: Observation): Observation => whole;

t.test("each role is sized by its own load, and the chain tells from what", (t) => {
  const grown = settled(40);
  const decision = next(grown, 40);
  // 40 requests/s of 1000 uncached tokens over 12,000 a second and instance, three quarters busy.
  t.match(of(decision, "prefill").to, /^[56]$/);
  t.ok(of(decision, "decode").to < 4, "100 tokens an answer are little");
  t.match(of(decision, "prefill").chain[0]?.message, /^40k uncached prompt tokens\/s .*\/ \(0\.75 x 12k\) = 5/);
  t.equal(reasons(of(decision, "prefill")).at(-1), "ScaleKept");
  const [prefill] = decision.roles;
  t.ok(Math.abs((prefill?.demand ?? 0) - 40_000) < 1);
  t.end();
});

t.test("falling load: what holds a number back is named", (t) => {
  t.ok(falling(same).to < falling(same).from, "nothing does");
  const cases: readonly [string, WorkloadDecision][] = [
    ["ScaleRecommended", falling(with_({}), { mode: "recommend" })],
    ["ScaleUpOnly", falling(with_({}), { mode: "scale-up-only" })],
    ["ScalePaused", falling(with_({}), { pausedScaleIn: true })],
    ["ScaleRolling", falling(with_({ isRolling: true }))],
    ["ScaleContested", falling(with_({ contestedBy: "HorizontalPodAutoscaler h" }))],
    ["MetricsPartial", falling((whole) => ({ ...whole, routers: [] }))],
    [
      "MetricsPartial",
      falling((whole) => ({ ...whole, routers: [...whole.routers, router(whole.at - 20_000, { id: "b" })] })),
    ],
  ];
  for (const [reason, decision] of cases) {
    t.equal(decision.frozen, reason);
    t.equal(decision.to, decision.from, reason);
    t.ok(reasons(decision).includes(reason));
  }
  t.ok(falling(with_({}), { mode: "recommend" }).recommended < 5, "and what it would be is told all the same");
  t.end();
});

t.test("a number set by hand stands for ten minutes", (t) => {
  const grown = settled(40);
  grown.counts = { ...grown.counts, prefill: 9 };
  t.equal(of(next(grown, 40), "prefill").to, 9);
  let freed = 0;
  for (let round = 1; freed === 0 && round < 400; round++) if (of(next(grown, 40), "prefill").to < 9) freed = round;
  t.ok(freed * ROUND_MS >= 600_000, `after ${freed * ROUND_MS} ms`);
  t.end();
});

t.test("nothing is heard: it stands, and after five minutes the fallback holds", (t) => {
  const fallback = { kind: "replicas", replicas: 7 } as const;
  for (const [scaling, expected] of [
    [{}, undefined],
    [{ fallback }, 7],
  ] as const) {
    const grown = settled(40, scaling);
    const deaf = (): WorkloadDecision => {
      const whole = grown.group.after(ROUND_MS, 40, grown.counts, scaling);
      const instances = whole.instances.map(({ id, workload: of_, state, createdAt }) => ({
        id,
        workload: of_,
        state,
        createdAt,
      }));
      return of(decide(grown.memory, { ...whole, routers: [], instances }), "prefill");
    };
    let last = deaf();
    for (let round = 0; round < 55; round++) last = deaf();
    t.equal(last.to, grown.counts.prefill, "four and a half minutes");
    for (let round = 0; round < 15; round++) last = deaf();
    t.equal(last.to, expected ?? grown.counts.prefill, "six minutes");
  }
  t.end();
});

t.test("a group that may sleep goes to zero together, and wakes for the first request that is held", (t) => {
  const zero = { minReplicas: 0, activationReplicas: 1 };
  const grown = settled(2, zero);
  for (let round = 0; round < 200; round++) follow(grown, next(grown, 0, zero));
  t.strictSame(grown.counts, { prefill: 0, decode: 0 });
  const woken = decide(
    grown.memory,
    observation(1e7, {
      workloads: [workload("prefill", 0, zero), workload("decode", 0, zero)],
      routers: [router(1e7, { heldRequests: 1, backlogRequests: 1, backlogTokens: 1000 })],
    }),
  );
  t.strictSame(
    woken.workloads.map(({ to }) => to),
    [1, 1],
  );
  t.ok(reasons(of(woken, "prefill")).includes("ScaleWoken"));
  t.end();
});

t.test("a group comes back with as many as it should at once, and keeps them until they had their time", (t) => {
  const zero = { minReplicas: 0, activationReplicas: 3 };
  const grown = settled(2, zero);
  for (let round = 0; round < 200; round++) follow(grown, next(grown, 0, zero));
  t.strictSame(grown.counts, { prefill: 0, decode: 0 });
  // A router that has just begun: its first word teaches nothing, and yet somebody waits there.
  for (let round = 1; round <= 30; round++) {
    const at = 1e7 + round * ROUND_MS;
    const { prefill, decode } = grown.counts;
    const starting = (role: "prefill" | "decode"): InstanceSeen[] =>
      Array.from({ length: grown.counts[role] }, (_, index) => ({
        ...{ id: `${role}-${index}`, workload: role, state: "starting", createdAt: at },
      }));
    const workloads = [workload("prefill", prefill, zero), workload("decode", decode, zero)];
    const said = { id: "new", requests: 1, promptTokens: 1000, heldRequests: 1, backlogRequests: 1 };
    const instances = [...starting("prefill"), ...starting("decode")];
    follow(grown, decide(grown.memory, observation(at, { workloads, instances, routers: [router(at, said)] })));
    t.strictSame(grown.counts, { prefill: 3, decode: 3 }, `round ${round}`);
  }
  t.end();
});

t.test("of a role that mixes with both nothing is said, and the group is told why", (t) => {
  const both = { ...workload("decode", 2), id: "both", role: "both" } as const;
  const { workloads, verdicts } = decide(
    createMemory(),
    observation(0, {
      workloads: [workload("prefill", 2), both],
      instances: [instance("prefill", 0, undefined)],
      routers: [router(0)],
    }),
  );
  t.strictSame(
    workloads.map((each) => each.workload),
    ["prefill"],
  );
  t.ok(verdicts.some(({ reason }) => reason === "RolesMixed"));
  t.end();
});
