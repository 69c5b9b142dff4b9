/**
 * How many replicas each workload of a group should have: from what was observed now and remembered until now, in one
 * pass, with the chain of reasons. It reads no clock, asks nobody, writes nothing; the same observations in the same order
 * always give the same decisions.
 *
 *   observation -> remember -> size each role -> hold, panic -> allocate to variants -> ratio, budget -> pace, mode -> decision
 */
import type { Role } from "../kinds/endpoint.ts";
import { kept, warned, type Verdict } from "../kinds/verdict.ts";
import type { Decision, Observation, WorkloadDecision } from "./group.ts";
import { keepBudget, keepRatio, type Guarded } from "./guards.ts";
import { remember, type GroupMemory } from "./memory.ts";
import { settle } from "./settle.ts";
import { judgeEvidence } from "./evidence.ts";
import { planRole, type RolePlan } from "./plan.ts";
import { partsOf, sizeRole } from "./sizing.ts";
import { idleness } from "./zero.ts";

export { createMemory, type GroupMemory } from "./memory.ts";

const ROLES: readonly Role[] = ["prefill", "decode", "both"];

export function decide(memory: GroupMemory, observation: Observation): Decision {
  remember(memory, observation);
  const evidence = judgeEvidence(memory, observation);
  const roles = ROLES.filter((role) => observation.workloads.some((workload) => workload.role === role));
  const sizedRoles = roles.length > 1 ? roles.filter((role) => role !== "both") : roles;
  const sizings = sizedRoles.map((role) => sizeRole(partsOf(memory, observation, role)));
  const idle = idleness(memory, observation);
  const isDecodeFull = sizings.some(({ role, fullness }) => role === "decode" && fullness >= 1);
  const plans = sizings.map((sizing) =>
    planRole({ parts: partsOf(memory, observation, sizing.role), sizing, idle, isDecodeFull, broken: evidence.broken }),
  );
  const guarded = plans.flatMap(({ workloads }) => workloads);
  const sleep = { isAsleep: idle.zero, isWoken: idle.woken };
  const moved = [...keepRatio(guarded, observation.scaling), ...keepBudget(guarded, observation.scaling)];
  return {
    at: observation.at,
    workloads: withinBudget(
      decisionsOf({ memory, observation, evidence, plans, guarded, moved, ...sleep }),
      observation,
    ),
    roles: plans.map(({ figures }) => figures),
    verdicts: [...evidence.verdicts, ...mixed(roles)],
  };
}

interface Settling {
  readonly memory: GroupMemory;
  readonly observation: Observation;
  readonly evidence: ReturnType<typeof judgeEvidence>;
  readonly plans: readonly RolePlan[];
  readonly guarded: readonly Guarded[];
  readonly moved: readonly Verdict[];
  readonly isAsleep: boolean;
  readonly isWoken: boolean;
}

const decisionsOf = ({ plans, moved, guarded, ...rest }: Settling): readonly WorkloadDecision[] =>
  rest.observation.workloads.flatMap((workload) => {
    const plan = plans.find(({ role }) => role === workload.role);
    const wanted = guarded.find(({ id }) => id === workload.id)?.wanted;
    if (plan === undefined || wanted === undefined) return [];
    return [
      settle({ ...rest, workload, wanted, chain: [...plan.chain, ...moved], isPanicking: plan.figures.isPanicking }),
    ];
  });

/** What cannot shrink now leaves no room for others to grow: the budget holds for what is asked for, not for what is wanted. */
function withinBudget(
  decisions: readonly WorkloadDecision[],
  { scaling, workloads }: Observation,
): readonly WorkloadDecision[] {
  if (scaling.maxAccelerators === undefined) return decisions;
  const devices = new Map(workloads.map(({ id, acceleratorsPerInstance }) => [id, acceleratorsPerInstance]));
  const of = ({ workload }: WorkloadDecision, count: number): number => (devices.get(workload) ?? 0) * count;
  const standing = workloads.reduce((sum, each) => sum + each.acceleratorsPerInstance * each.replicas, 0);
  let room = scaling.maxAccelerators - standing;
  return decisions.map((decision) => {
    const grows = Math.max(0, decision.to - decision.from);
    const each = of(decision, 1);
    const fits = each > 0 ? Math.max(0, Math.min(grows, Math.floor(room / each))) : grows;
    room -= each * fits;
    if (fits === grows) return decision;
    const held = kept(
      "BudgetKept",
      `max-accelerators ${scaling.maxAccelerators}: ${decision.to} -> ${decision.from + fits} while others stand`,
    );
    return { ...decision, to: decision.from + fits, chain: [...decision.chain, held], frozen: held.reason };
  });
}

const mixed = (roles: readonly Role[]): readonly Verdict[] =>
  roles.length > 1 && roles.includes("both")
    ? [
        warned(
          "RolesMixed",
          "workloads of role both beside prefill or decode keep their replicas; give them a tandem.sh/group of their own",
        ),
      ]
    : [];
