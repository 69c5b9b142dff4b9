/**
 * The last word on one workload: the number that its group wants, brought to the pace, the mode and the safety of the
 * workload itself. What holds a number back is named by the code of its reason.
 */
import { changed, kept, warned, type Verdict } from "../kinds/verdict.ts";
import { boundsAt } from "./schedule.ts";
import type { Evidence } from "./evidence.ts";
import type { Observation, WorkloadDecision, WorkloadSeen } from "./group.ts";
import { activation } from "./zero.ts";
import { workloadMemory, type GroupMemory, type WorkloadMemory } from "./memory.ts";

export interface SettleInput {
  readonly memory: GroupMemory;
  readonly observation: Observation;
  readonly evidence: Evidence;
  readonly workload: WorkloadSeen;
  readonly wanted: number;
  readonly chain: readonly Verdict[];
  readonly isPanicking: boolean;
  /** The whole group goes to zero: nobody is served by a part of it. */
  readonly isAsleep: boolean;
  /** Requests wait for it to come back, with so many at once. */
  readonly isWoken: boolean;
}

export function settle(input: SettleInput): WorkloadDecision {
  const { workload, observation, chain } = input;
  const mine = workloadMemory(input.memory, workload);
  noticeHand(mine, workload, observation.at);
  const paced = pace(input, mine, fallbackOr(input));
  const stop = paced.count === workload.replicas ? undefined : stopOf(input, mine, paced.count);
  const to = stop === undefined ? paced.count : workload.replicas;
  mine.asked = to;
  mine.replicas = workload.replicas;
  return {
    ...{ workload: workload.id, from: workload.replicas, to, recommended: paced.count },
    chain: [...chain, ...paced.verdicts, ...(stop === undefined ? [] : [stop]), outcome(workload, to)],
    ...(stop === undefined ? {} : { frozen: stop.reason }),
  };
}

const outcome = ({ replicas }: WorkloadSeen, to: number): Verdict =>
  to === replicas
    ? kept("ScaleKept", `${replicas} as it is`)
    : changed("ScaleReplicas", `${replicas} -> ${to}`, { numbers: { from: replicas, to } });

/** After five minutes without metrics a declared number holds, if there is one. */
function fallbackOr({ evidence, workload, wanted }: SettleInput): {
  readonly count: number;
  readonly verdicts: readonly Verdict[];
} {
  const { fallback } = workload.scaling;
  if (!evidence.isLost) return { count: wanted, verdicts: [] };
  if (!evidence.isFallback || fallback.kind === "hold") return { count: workload.replicas, verdicts: [] };
  const count = Math.ceil(fallback.replicas / workload.replicasPerInstance);
  return {
    count,
    verdicts: [warned("ScaleFallback", `metrics are lost: the declared fallback is ${fallback.replicas}`)],
  };
}

type Counted = ReturnType<typeof fallbackOr>;

/** Steps first, then the pace, then the bounds, which nothing breaks. */
function pace(input: SettleInput, mine: WorkloadMemory, { count, verdicts }: Counted): Counted {
  const { workload, observation } = input;
  const { scaling, replicas, replicasPerInstance } = workload;
  const { at, wallClock } = observation;
  const bounds = boundsAt(scaling, wallClock);
  const [least, most] = [Math.ceil(bounds.least / replicasPerInstance), Math.floor(bounds.most / replicasPerInstance)];
  const stepped = inSteps(count, replicas, scaling.step);
  const begun = input.isWoken ? activation(workload) : 0;
  const up = Math.max(replicas, begun, mine.pace.most(at, scaling.maxScaleOut, scaling.step));
  const down = Math.min(replicas, mine.pace.least(at, scaling.maxScaleIn, scaling.step));
  const paced = input.isAsleep && count === 0 ? 0 : Math.max(down, Math.min(up, stepped));
  // A group that is awake has its floor of one from the plan.
  const bounded = Math.max(least, Math.min(most, paced));
  return {
    count: bounded,
    verdicts: [
      ...verdicts,
      ...(paced === stepped
        ? []
        : [
            kept(
              "ScalePaced",
              `${stepped} -> ${paced} by the pace of ${paced > replicas ? "max-scale-out" : "max-scale-in"}`,
            ),
          ]),
      ...(bounded === paced ? [] : [kept("BoundsKept", `${paced} -> ${bounded} within ${least} to ${most}`)]),
    ],
  };
}

/** Up to whole steps, and down only by whole steps. */
const inSteps = (count: number, replicas: number, step: number): number =>
  count >= replicas
    ? replicas + Math.ceil((count - replicas) / step) * step
    : replicas - Math.floor((replicas - count) / step) * step;

/** Somebody else set the number: neither what was asked for, nor what it was. */
function noticeHand(mine: WorkloadMemory, { replicas, lastScaled, scaling }: WorkloadSeen, at: number): void {
  if (scaling.actuator !== "scale" || mine.replicas === undefined || mine.replicas === replicas) return;
  if (replicas === mine.asked || replicas === lastScaled) return;
  mine.overriddenUntil = at + OVERRIDE_MS;
}

const OVERRIDE_MS = 600_000;

/** What holds it in both directions. */
export function stopOfBoth(workload: WorkloadSeen, mine: WorkloadMemory, at: number): Verdict | undefined {
  const { scaling, contestedBy } = workload;
  if (contestedBy !== undefined) return warned("ScaleContested", `${contestedBy} writes the replicas as well`);
  if (scaling.mode === "recommend" || scaling.mode === "off") return kept("ScaleRecommended", `mode ${scaling.mode}`);
  if ((mine.overriddenUntil ?? -Infinity) > at)
    return kept(
      "ScaleOverridden",
      `${workload.replicas} were set by hand less than ${OVERRIDE_MS / 60_000} minutes ago`,
    );
  return undefined;
}

function stopOf(input: SettleInput, mine: WorkloadMemory, to: number): Verdict | undefined {
  const { workload, observation } = input;
  const stop = stopOfBoth(workload, mine, observation.at);
  return stop ?? (to > workload.replicas ? stopOut(workload) : stopIn(input));
}

const stopOut = ({ scaling }: WorkloadSeen): Verdict | undefined =>
  scaling.pausedScaleOut ? kept("ScalePaused", "paused-scale-out") : undefined;

function stopIn({ workload, evidence, isPanicking, memory }: SettleInput): Verdict | undefined {
  const { scaling, isRolling } = workload;
  if (scaling.pausedScaleIn) return kept("ScalePaused", "paused-scale-in");
  if (scaling.mode === "scale-up-only") return kept("ScaleUpOnly", "mode scale-up-only");
  if (isRolling) return kept("ScaleRolling", "a rollout is under way");
  if (evidence.isFallback && scaling.fallback.kind === "replicas") return undefined;
  if (!evidence.mayShrink)
    return kept(
      evidence.isLost ? "MetricsLost" : "MetricsPartial",
      `not all of the group is seen${memory.traffic.source === "engines" ? ": no router" : ""}`,
    );
  return isPanicking ? kept("ScalePanic", "nothing is scaled in while in panic") : undefined;
}
