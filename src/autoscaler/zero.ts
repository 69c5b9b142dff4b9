/**
 * Whether a group sleeps: all of its workloads may be at zero, and no request came for long; and whether it is woken: one
 * waits for it. Both roles go and come together, since one without the other serves nobody.
 */
import { changed, kept, type Verdict } from "../kinds/verdict.ts";
import { boundsAt } from "./schedule.ts";
import type { Observation, WorkloadSeen } from "./group.ts";
import type { GroupMemory } from "./memory.ts";
import { backlogOf, FRESH_MS, positive } from "./traffic.ts";

export interface Idleness {
  readonly zero: boolean;
  readonly woken: boolean;
  readonly verdicts: readonly Verdict[];
}

/** Instances with which a workload comes back. */
export const activation = ({ scaling, replicasPerInstance }: WorkloadSeen): number =>
  Math.ceil(scaling.activationReplicas / replicasPerInstance);

const AWAKE: Idleness = { zero: false, woken: false, verdicts: [] };

export function idleness(memory: GroupMemory, observation: Observation): Idleness {
  const { at, workloads, scaling, wallClock } = observation;
  const mayBeZero = workloads.every((workload) => boundsAt(workload.scaling, wallClock).least === 0);
  const stands = workloads.some(({ replicas }) => replicas > 0);
  const held = backlogOf(observation).held;
  if (held > 0 && isShort(observation))
    return { zero: false, woken: true, verdicts: [changed("ScaleWoken", `${held} requests wait for the group`)] };
  if (!mayBeZero) return AWAKE;
  if (!stands)
    return { zero: true, woken: false, verdicts: [kept("ScaledToZero", "the group sleeps: no request waits")] };
  const since = memory.traffic.requestAt ?? memory.begunAt ?? at;
  const isIdle = memory.traffic.source === "routers" && at - since >= scaling.idleAfterMs && !isWorking(observation);
  const message = `no request for ${Math.round((at - since) / 1000)} s`;
  return isIdle ? { zero: true, woken: false, verdicts: [changed("ScaledToZero", message)] } : AWAKE;
}

/** A role without an instance that is or will be there: what is held waits for it. */
const isShort = ({ workloads }: Observation): boolean =>
  workloads.some(({ role }) => workloads.every((workload) => workload.role !== role || workload.replicas === 0));

/** Something runs, or may: an engine that does not tell is not idle. */
const isWorking = ({ instances, at }: Observation): boolean =>
  instances.some(
    ({ state, engine }) =>
      (state === "ready" || state === "draining") &&
      (engine === undefined || at - engine.at > FRESH_MS || positive(engine.running) + positive(engine.waiting) > 0),
  );
