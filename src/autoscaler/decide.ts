/**
 * How many replicas each workload of a group should have: from what was observed now and remembered until now, in one
 * pass, with the chain of reasons. It reads no clock, asks nobody, writes nothing; the same observations in the same order
 * always give the same decisions.
 *
 *   observation -> remember -> size each role -> hold, panic -> allocate to variants -> ratio, budget -> pace, mode -> decision
 */
import type { Role } from "../kinds/endpoint.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
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
    planRole({ parts: partsOf(memory, observation, sizing.role), sizing, idle, isDecodeFull }),
  );
  const guarded = plans.flatMap(({ workloads }) => workloads);
  const moved = [...keepRatio(guarded, observation.scaling), ...keepBudget(guarded, observation.scaling)];
  return {
    at: observation.at,
    workloads: decisionsOf({ memory, observation, evidence, plans, guarded, moved }),
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

const mixed = (roles: readonly Role[]): readonly Verdict[] =>
  roles.length > 1 && roles.includes("both")
    ? [
        warned(
          "RolesMixed",
          "workloads of role both beside prefill or decode keep their replicas; give them a tandem.sh/group of their own",
        ),
      ]
    : [];
