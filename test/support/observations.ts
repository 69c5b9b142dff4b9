/** Observations of a group of simulated workloads, for tests of the decision core: each part may be another. */
import type { EngineSeen, InstanceSeen, Observation, RouterSeen, WorkloadSeen } from "../../src/autoscaler/group.ts";
import {
  GROUP_SCALING,
  PREFILL_SCALING,
  SCALING,
  type GroupScaling,
  type ScalingSpec,
} from "../../src/workload/scaling.ts";

export const SPEC: ScalingSpec = { ...SCALING, mode: "auto", minReplicas: 1, maxReplicas: 24 };

export const workload = (
  role: "prefill" | "decode",
  replicas: number,
  scaling: Partial<ScalingSpec> = {},
): WorkloadSeen => ({
  ...{
    id: role,
    role,
    replicas,
    nodesPerInstance: 1,
    replicasPerInstance: 1,
    acceleratorsPerInstance: 1,
    isRolling: false,
  },
  scaling: { ...(role === "prefill" ? PREFILL_SCALING : SCALING), ...SPEC, ...scaling },
});

export const instance = (workloadId: string, index: number, engine: EngineSeen | undefined): InstanceSeen => ({
  ...{ id: `${workloadId}-${index}`, workload: workloadId, state: "ready", createdAt: -1e6, readyAt: -9e5 },
  ...(engine === undefined ? {} : { engine }),
});

export const IDLE_ENGINE = {
  running: 0,
  waiting: 0,
  kvUsage: 0,
  kvCapacityTokens: 250_000,
  maxSequences: 256,
} as const;

export const router = (at: number, counts: Partial<RouterSeen> = {}): RouterSeen => ({
  ...{ id: "router", at, requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 },
  ...{ backlogTokens: 0, backlogRequests: 0, heldRequests: 0, ttft: [], tpot: [] },
  ...counts,
});

export const observation = (
  at: number,
  parts: Partial<Observation> & { readonly group?: Partial<GroupScaling> } = {},
): Observation => {
  const { group = {}, ...rest } = parts;
  return {
    at,
    wallClock: at,
    scaling: { ...GROUP_SCALING, ...group },
    workloads: [],
    instances: [],
    routers: [],
    ...rest,
  };
};

/** A group in a steady state: so many requests a second of 1000 uncached prompt tokens and 100 answered ones. */
export class SteadyGroup {
  readonly #counts = { requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 };
  #engineTokens = { prompt: 0, generated: 0 };
  #at = 0;
  #phase = 0;

  /** What is seen `ms` later, at this rate and with so many replicas, all of them ready. */
  after(
    ms: number,
    rate: number,
    replicas: { readonly prefill: number; readonly decode: number },
    scaling: Partial<ScalingSpec> = {},
  ): Observation {
    this.#at += ms;
    const requests = (rate * ms) / 1000;
    this.#counts.requests += requests;
    this.#counts.answers += requests;
    this.#counts.promptTokens += 1000 * requests;
    this.#counts.generatedTokens += 100 * requests;
    this.#engineTokens = {
      prompt: this.#engineTokens.prompt + (1000 * requests) / Math.max(1, replicas.prefill),
      generated: this.#engineTokens.generated + (100 * requests) / Math.max(1, replicas.decode),
    };
    return observation(this.#at, {
      workloads: [workload("prefill", replicas.prefill, scaling), workload("decode", replicas.decode, scaling)],
      instances: [
        ...this.#instances("prefill", replicas.prefill, rate),
        ...this.#instances("decode", replicas.decode, rate),
      ],
      routers: [router(this.#at, this.#counts)],
    });
  }

  #instances(role: "prefill" | "decode", count: number, rate: number): readonly InstanceSeen[] {
    const { prompt: promptTokens, generated: generatedTokens } = this.#engineTokens;
    // Each request is 3 s in decode, and holds 1050 tokens there.
    const running = role === "decode" ? (3 * rate) / Math.max(1, count) : this.#isBusy(rate / 12 / Math.max(1, count));
    const kvUsage = role === "decode" ? Math.min(1, (running * 1050) / IDLE_ENGINE.kvCapacityTokens) : 0;
    const engine = { ...IDLE_ENGINE, at: this.#at, running, kvUsage, promptTokens, generatedTokens };
    return Array.from({ length: count }, (_, index) => instance(role, index, engine));
  }

  /** As a gauge shows it: at work at so many of the looks. */
  #isBusy(share: number): number {
    this.#phase = (this.#phase + Math.min(1, share)) % 1;
    return this.#phase < share ? 1 : 0;
  }
}
