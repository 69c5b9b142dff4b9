/** One role's plan: what is kept although less is needed, and what is not asked for although more is. */
import t from "tap";
import { createMemory, decide, type GroupMemory } from "../../../src/autoscaler/decide.ts";
import { keepBudget, type Guarded } from "../../../src/autoscaler/guards.ts";
import type { Decision, EngineSeen, InstanceSeen, Observation, WorkloadSeen } from "../../../src/autoscaler/group.ts";
import { allocate, type Variant } from "../../../src/autoscaler/variants.ts";
import { GROUP_SCALING } from "../../../src/workload/scaling.ts";
import { IDLE_ENGINE, instance, observation, router, workload } from "../../support/observations.ts";

const ROUND_MS = 5000;
const PREFILL = { capacityTokensPerSecond: 10_000 };
const DECODE = { capacityTokensPerSecond: 1000 };

interface Round {
  readonly prefill: number;
  readonly decode: number;
  /** Requests a second, of 1000 prompt tokens and 100 answered ones each. */
  readonly rate: number;
  readonly engine?: Partial<EngineSeen>;
  readonly bend?: (whole: Observation) => Observation;
  readonly specs?: readonly [Partial<WorkloadSeen["scaling"]>, Partial<WorkloadSeen["scaling"]>];
}

class Group {
  readonly memory: GroupMemory = createMemory();
  #at = 0;
  #requests = 0;

  round({ prefill, decode, rate, engine = {}, bend = (whole) => whole, specs = [PREFILL, DECODE] }: Round): Decision {
    this.#at += ROUND_MS;
    this.#requests += (rate * ROUND_MS) / 1000;
    const [at, requests] = [this.#at, this.#requests];
    const instances = (role: string, count: number, more: Partial<EngineSeen> = {}): readonly InstanceSeen[] =>
      Array.from({ length: count }, (_, index) => instance(role, index, { ...IDLE_ENGINE, at, ...more }));
    const counts = { requests, promptTokens: 1000 * requests, answers: requests, generatedTokens: 100 * requests };
    const whole = observation(at, {
      group: { objective: "cost" },
      workloads: [workload("prefill", prefill, specs[0]), workload("decode", decode, specs[1])],
      instances: [...instances("prefill", prefill), ...instances("decode", decode, engine)],
      routers: [router(at, counts)],
    });
    return decide(this.memory, bend(whole));
  }

  /** What is recommended of prefill and of decode after so many rounds. */
  after(rounds: number, round: Round): readonly number[] {
    let last: Decision | undefined;
    for (let each = 0; each < rounds; each++) last = this.round(round);
    return last?.workloads.map(({ recommended }) => recommended) ?? [];
  }
}

const HALF_HOUR = 360;

t.test("decode keeps what its batches need, however little comes, and what a batch of the rest would hold", (t) => {
  t.strictSame(new Group().after(HALF_HOUR, { prefill: 1, decode: 8, rate: 1 }), [1, 6]);
  // 200 sequences each of 750 tokens of KV: 250 fit into an instance.
  const engine = { running: 200, kvUsage: (200 * 750) / IDLE_ENGINE.kvCapacityTokens };
  t.strictSame(new Group().after(HALF_HOUR, { prefill: 1, decode: 8, rate: 1, engine }), [1, 7]);
  t.end();
});

t.test("sequences of those that drain, and of those that are silent, are somebody's as well", (t) => {
  const engine = { running: 200, kvUsage: (200 * 750) / IDLE_ENGINE.kvCapacityTokens };
  const recommended = (state: InstanceSeen["state"], ageMs = 0): number | undefined =>
    new Group().after(30, {
      ...{ prefill: 1, decode: 6, rate: 1, engine },
      bend: (whole) => ({
        ...whole,
        workloads: whole.workloads.map((each) => (each.id === "decode" ? { ...each, replicas: 4 } : each)),
        instances: whole.instances.map((each, index) =>
          index < 4 ? each : { ...each, state, engine: { ...IDLE_ENGINE, ...engine, at: whole.at - ageMs } },
        ),
      }),
    })[1];
  t.ok((recommended("ready") ?? 0) >= 5);
  t.equal(recommended("draining"), recommended("ready"));
  t.equal(recommended("ready", 20_000), recommended("ready"));
  t.end();
});

t.test("what is not known of what an instance can do takes nothing away", (t) => {
  const specs = [{}, {}] as const;
  t.strictSame(new Group().after(HALF_HOUR, { prefill: 6, decode: 6, rate: 0.01, specs }), [6, 6]);
  t.end();
});

t.test("each that is broken counts as full on the way down", (t) => {
  const deaf = (whole: Observation): Observation => ({
    ...whole,
    instances: whole.instances.map((each, index) =>
      index === 0 ? { ...each, engine: { ...IDLE_ENGINE, at: whole.at - 60_000 } } : each,
    ),
  });
  const follow = (bend: (whole: Observation) => Observation): number => {
    const group = new Group();
    let prefill = 8;
    for (let round = 0; round < 2 * HALF_HOUR; round++)
      prefill = group.round({ prefill, decode: 1, rate: 37, bend }).workloads[0]?.to ?? 0;
    return prefill;
  };
  t.equal(
    follow((whole) => whole),
    5,
  );
  t.equal(follow(deaf), 6);
  t.end();
});

t.test("decode is full and prefill is not: prefill does not grow", (t) => {
  const full = { running: 256, kvUsage: 1 };
  const asked = { prefill: 4, decode: 1, rate: 15 };
  const backlog = (whole: Observation): Observation => ({
    ...whole,
    routers: whole.routers.map((one) => ({ ...one, backlogTokens: 1e8, backlogRequests: 1e5 })),
  });
  t.equal(new Group().after(60, { ...asked, engine: full, bend: backlog })[0], 4);
  t.ok((new Group().after(60, { ...asked, bend: backlog })[0] ?? 0) > 4);
  t.end();
});

t.test("a role that may be at zero is at one while the group is awake", (t) => {
  const zero = { minReplicas: 0 };
  const specs = [
    { ...PREFILL, ...zero },
    { ...DECODE, ...zero },
  ] as const;
  const busy = { running: 1 };
  t.strictSame(new Group().after(2 * HALF_HOUR, { prefill: 1, decode: 1, rate: 0, engine: busy, specs }), [1, 1]);
  t.strictSame(new Group().after(2 * HALF_HOUR, { prefill: 1, decode: 1, rate: 0, specs }), [0, 0]);
  t.end();
});

t.test("the declared fallback is in replicas of the workload, and may be fewer than there are", (t) => {
  const fallback = { kind: "replicas", replicas: 2 } as const;
  const group = new Group();
  const lost = (whole: Observation): Observation => ({
    ...whole,
    workloads: whole.workloads.map((each) => ({ ...each, replicasPerInstance: 2, nodesPerInstance: 2 })),
    routers: [],
    instances: whole.instances.map((each) => ({ ...each, engine: { ...IDLE_ENGINE, at: -1e9 } })),
  });
  let [prefill, frozen]: [number, string | undefined] = [3, undefined];
  for (let round = 0; round < 120; round++) {
    const specs = [{ ...PREFILL, fallback }, DECODE] as const;
    const [one] = group.round({ prefill, decode: 1, rate: 1, bend: lost, specs }).workloads;
    [prefill, frozen] = [one?.to ?? 0, one?.frozen];
  }
  t.strictSame([prefill, frozen], [1, undefined]);
  t.end();
});

t.test("a budget takes from all by the same share, and from nobody below its minimum", (t) => {
  const guarded = (id: string, wanted: number, least: number): Guarded => ({
    ...{ id, role: id === "p" ? "prefill" : "decode", least, most: 20, step: 1, accelerators: 1, wanted },
  });
  const all = [guarded("p", 10, 6), guarded("d", 10, 0)];
  keepBudget(all, { ...GROUP_SCALING, maxAccelerators: 13 });
  t.strictSame(
    all.map(({ wanted }) => wanted),
    [8, 5],
  );
  keepBudget(all, { ...GROUP_SCALING, maxAccelerators: 2 });
  t.strictSame(
    all.map(({ wanted }) => wanted),
    [6, 0],
  );
  t.end();
});

t.test("what no number is decided of, because roles are mixed, takes its part of the budget", (t) => {
  const both = { ...workload("decode", 6), id: "both", role: "both" } as const;
  const bend = (whole: Observation): Observation => ({
    ...whole,
    scaling: { ...whole.scaling, maxAccelerators: 9 },
    workloads: [...whole.workloads, both],
  });
  const group = new Group();
  const counts = { prefill: 1, decode: 1 };
  for (let round = 0; round < 200; round++)
    for (const { workload: id, to } of group.round({ ...counts, rate: 70, bend }).workloads)
      counts[id as "prefill"] = to;
  t.equal(counts.prefill + counts.decode + both.replicas, 9);
  t.end();
});

t.test("variants: by the price of work and not of an instance; those without a node last", (t) => {
  const variant = (id: string, rest: Partial<Variant>): Variant => ({
    ...{ id, least: 0, most: 9, step: 1, cost: 1, speed: 1, startupMs: 1, isExhausted: false, current: 0, serving: 0 },
    ...rest,
  });
  const of = (...all: readonly Variant[]): object => Object.fromEntries(allocate(all, { work: 4, inPanic: false }));
  const [fast, slow] = [variant("fast", { cost: 3, speed: 4 }), variant("slow", {})];
  t.strictSame(of(fast, slow), { fast: 1, slow: 0 });
  t.strictSame(of({ ...fast, isExhausted: true }, slow), { fast: 0, slow: 4 });
  t.end();
});
