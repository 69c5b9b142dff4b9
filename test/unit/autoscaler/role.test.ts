/** One role over time, and one workload at its pace: what rises at once, what waits, and how far each goes. */
import t from "tap";
import { createMemory, decide } from "../../../src/autoscaler/decide.ts";
import { prefillNeed, type Flow } from "../../../src/autoscaler/demand.ts";
import type { InstanceSeen, WorkloadDecision, WorkloadSeen } from "../../../src/autoscaler/group.ts";
import { HEADROOM } from "../../../src/autoscaler/objective.ts";
import { RoleMemory, type RoleInput } from "../../../src/autoscaler/role.ts";
import type { ScalingSpec } from "../../../src/workload/scaling.ts";
import { IDLE_ENGINE, instance, observation, router, workload } from "../../support/observations.ts";

const INPUT: RoleInput = {
  ...{ at: 0, need: { stable: 4, fast: 4 }, noise: 0, asked: 4, ready: 4 },
  ...{ panicThreshold: 1.5, scaleInDelayMs: 300_000 },
};

t.test("the last moments add a quarter, or one; beyond the threshold they are panic", (t) => {
  const work = (fast: number, asked = 4) =>
    new RoleMemory().target({ ...INPUT, asked, ready: asked, need: { stable: 1, fast } });
  t.match(work(4.9), { work: 4.9, isPanicking: false });
  t.match(work(10.9, 8), { work: 10, isPanicking: false });
  t.match(work(5.1), { work: 5.1, isPanicking: true });
  t.match(work(Infinity), { work: 1e6 });
  t.match(work(NaN), { isPanicking: false });
  t.end();
});

t.test("panic holds the most that was needed for a minute, and the delay holds it for longer", (t) => {
  const memory = new RoleMemory();
  const at = (seconds: number, need: number) =>
    memory.target({ ...INPUT, at: 1000 * seconds, need: { stable: need, fast: need } });
  t.match(at(0, 9), { work: 9, isPanicking: true });
  t.match(at(59, 1), { work: 9, isPanicking: true });
  t.match(at(61, 1), { work: 4, isPanicking: false, isHeld: true });
  t.match(at(358, 1), { work: 4, isHeld: true });
  t.match(at(661, 1), { work: 1, isHeld: false });
  t.end();
});

t.test("who begins takes nothing away for the delay", (t) => {
  const memory = new RoleMemory();
  memory.begin(0, 4);
  const at = (seconds: number) => memory.target({ ...INPUT, at: 1000 * seconds, need: { stable: 1, fast: 1 } });
  t.match(at(30), { work: 4, isPanicking: true });
  t.match(at(299), { work: 4, isPanicking: false });
  t.match(at(331), { work: 1 }, "since it was held last");
  t.end();
});

t.test("backlog that those that are asked for work off needs no other one", (t) => {
  const flow: Flow = { mean: 10_000, latest: 10_000, forecast: 0, burst: 0, noise: 0, latestNoise: 0 };
  const fast = (asked: number): number =>
    prefillNeed({
      ...{ flow, asked, backlogTokens: 605_000, rate: 10_000, startupMs: 60_000 },
      ...{ headroom: HEADROOM.cost, correction: 1 },
    }).fast;
  t.equal(fast(2), 10_000 / 8200);
  t.equal(fast(1), (10_000 + 600_000 / 30) / 8200);
  t.end();
});

const ROUND_MS = 5000;

/** A role alone, of instances that do 10,000 tokens a second: by round, so many thousand tokens a second. */
class Alone {
  readonly #memory = createMemory();
  #at = 0;
  #requests = 0;
  replicas: number;

  constructor(replicas: number) {
    this.replicas = replicas;
  }

  round(load: number, scaling: Partial<ScalingSpec> = {}, seen: Partial<WorkloadSeen> = {}): WorkloadDecision {
    this.#at += ROUND_MS;
    this.#requests += load * (ROUND_MS / 1000);
    const [at, requests] = [this.#at, this.#requests];
    const spec = { capacityTokensPerSecond: 10_000, ...scaling };
    const { workloads } = decide(
      this.#memory,
      observation(at, {
        group: { objective: "cost" },
        workloads: [{ ...workload("prefill", this.replicas, spec), ...seen }],
        instances: Array.from({ length: this.replicas }, (_, index): InstanceSeen =>
          instance("prefill", index, { ...IDLE_ENGINE, at, running: 1 }),
        ),
        routers: [
          router(at, { requests, promptTokens: 1000 * requests, answers: requests, generatedTokens: requests }),
        ],
      }),
    );
    const [decision] = workloads;
    if (decision === undefined) throw new Error("nothing was decided");
    return decision;
  }

  /** So many rounds, followed; each number once. */
  course(rounds: number, load: number, scaling: Partial<ScalingSpec> = {}): readonly number[] {
    const seen: number[] = [];
    for (let round = 0; round < rounds; round++) {
      this.replicas = this.round(load, scaling).to;
      if (seen.at(-1) !== this.replicas) seen.push(this.replicas);
    }
    return seen;
  }
}

t.test("up by as much again in a minute, down by a quarter in a minute, and not before the delay is over", (t) => {
  const alone = new Alone(1);
  t.strictSame(alone.course(60, 7), [1]);
  t.strictSame(alone.course(12, 70), [2]);
  t.strictSame(alone.course(60, 70), [2, 4, 8, 9]);
  t.strictSame(alone.course(59, 7), [9], "five minutes since it was needed");
  const down = alone.course(200, 7);
  t.ok(
    down.every((count, index) => count >= 0.75 * (down[index - 1] ?? count) - 1),
    down.join(),
  );
  t.equal(down.at(-1), 1);
  t.end();
});

t.test("steps: up to the next whole one, down by whole ones only", (t) => {
  const alone = new Alone(8);
  t.equal(alone.course(400, 37, { step: 2 }).at(-1), 6);
  t.equal(new Alone(2).course(400, 37, { step: 2 }).at(-1), 6);
  t.end();
});

t.test("paused on the way up; in panic nothing goes, whatever the bounds say", (t) => {
  const paused = new Alone(2);
  paused.course(60, 15);
  const decision = Array.from({ length: 12 }, () => paused.round(60, { pausedScaleOut: true })).at(-1);
  t.match(decision, { to: 2, frozen: "ScalePaused" });
  const panicking = new Alone(5);
  panicking.course(100, 40);
  const held = Array.from({ length: 12 }, () => panicking.round(150, { maxReplicas: 4 })).at(-1);
  t.match(held, { to: 5, recommended: 4, frozen: "ScalePanic" });
  t.end();
});

t.test("what another process of the autoscaler wrote is no hand", (t) => {
  for (const [lastScaled, frozen] of [
    [6, undefined],
    [3, "ScaleOverridden"],
  ] as const) {
    const alone = new Alone(3);
    alone.course(100, 20);
    alone.replicas = 6;
    const last = Array.from({ length: 100 }, () => alone.round(5, {}, { lastScaled })).at(-1);
    t.equal(last?.frozen, frozen);
  }
  t.end();
});

t.test("an instance without a node: no more are asked for in five minutes", (t) => {
  const memory = createMemory();
  let [requests, at] = [0, 0];
  const round = (state: InstanceSeen["state"]): number | undefined => {
    at += ROUND_MS;
    requests += 5 * 30;
    const engine = { ...IDLE_ENGINE, at, running: 1 };
    const instances = [instance("prefill", 0, engine), { ...instance("prefill", 1, undefined), state }];
    return decide(
      memory,
      observation(at, {
        workloads: [workload("prefill", 2, { capacityTokensPerSecond: 10_000 })],
        instances,
        routers: [router(at, { requests, promptTokens: 1000 * requests })],
      }),
    ).workloads[0]?.to;
  };
  t.equal(round("unschedulable"), 2);
  for (let seconds = 5; seconds < 300; seconds += 5) t.equal(round("starting"), 2, `${seconds} s`);
  for (let seconds = 300; seconds < 400; seconds += 5) round("starting");
  t.ok((round("starting") ?? 0) > 2);
  t.end();
});
