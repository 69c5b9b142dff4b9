/** Tandem's own: the decision core that production runs, over the same observation that it would make. */
import { createMemory, decide } from "../../../autoscaler/decide.ts";
import type { InstanceSeen, Observation, WorkloadSeen } from "../../../autoscaler/group.ts";
import { GROUP_SCALING, PREFILL_SCALING, SCALING, type Objective } from "../../../workload/scaling.ts";
import type { Limits, PodView, ScalingPolicy, View } from "../policy.ts";
import { POOL_ROLES, type PoolRole } from "../world.ts";

/** The autoscaler's own interval, and that of its scrapes. */
const INTERVAL_MS = 5000;

export function tandem(objective: Objective, limits: Limits): ScalingPolicy {
  const memory = createMemory();
  return {
    ...{ intervalMs: INTERVAL_MS, scrapeMs: INTERVAL_MS, shrinking: { victims: "least-loaded", reclaims: true } },
    decide: (view) => {
      const { workloads } = decide(memory, observationOf(view, objective, limits));
      const of = (role: PoolRole): number =>
        workloads.find(({ workload }) => workload === role)?.to ?? view.asked[role];
      return { prefill: of("prefill"), decode: of("decode") };
    },
  };
}

const observationOf = (view: View, objective: Objective, limits: Limits): Observation => ({
  at: view.now,
  wallClock: view.now,
  scaling: { ...GROUP_SCALING, ttftSloMs: limits.ttftMs, tpotSloMs: limits.tpotMs, objective },
  workloads: POOL_ROLES.map((role) => workloadOf(view, role, limits)),
  instances: view.pods.map(instanceOf),
  routers: [view.router],
});

const workloadOf = ({ asked }: View, role: PoolRole, { min, max }: Limits): WorkloadSeen => ({
  ...{
    id: role,
    role,
    replicas: asked[role],
    nodesPerInstance: 1,
    replicasPerInstance: 1,
    acceleratorsPerInstance: 1,
    isRolling: false,
  },
  scaling: {
    ...(role === "prefill" ? PREFILL_SCALING : SCALING),
    ...{ mode: "auto", minReplicas: min[role], maxReplicas: max[role] },
  },
});

const instanceOf = ({ id, role, createdAt, readyAt, isReady, isDraining, metrics }: PodView): InstanceSeen => ({
  ...{ id, workload: role, createdAt },
  state: isDraining ? "draining" : isReady ? "ready" : "starting",
  ...(isReady ? { readyAt } : {}),
  ...(metrics === undefined ? {} : { engine: metrics }),
});
