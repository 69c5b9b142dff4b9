/** One role of a group: its need, held and allocated to its workloads, before anything that concerns the group as a whole. */
import { kept, warned, type Verdict } from "../kinds/verdict.ts";
import type { Role } from "../kinds/endpoint.ts";
import { boundsAt, type Bounds } from "./schedule.ts";
import type { Need } from "./demand.ts";
import { kthenaArrangement } from "./kthena-order.ts";
import type { RoleFigures, WorkloadSeen } from "./group.ts";
import type { Guarded } from "./guards.ts";
import { workloadMemory } from "./memory.ts";
import { RoleMemory, type RoleTarget } from "./role.ts";
import { askedOf, servingOf, type RoleParts, type Sizing } from "./sizing.ts";
import { stopOfBoth } from "./settle.ts";
import { ArrangementMemory, EPSILON, towards, type Variant } from "./variants.ts";
import { whole } from "./words.ts";
import { activation, type Idleness } from "./zero.ts";

export interface RolePlan {
  readonly role: Role;
  readonly workloads: readonly Guarded[];
  readonly figures: RoleFigures;
  readonly chain: readonly Verdict[];
}

export interface PlanInput {
  readonly parts: RoleParts;
  readonly sizing: Sizing;
  readonly idle: Idleness;
  readonly isDecodeFull: boolean;
  /** Instances that count as full on the way down. */
  readonly broken: readonly string[];
}

export function planRole({ parts, sizing, idle, isDecodeFull, broken }: PlanInput): RolePlan {
  const isBlocked = sizing.role === "prefill" && isDecodeFull && sizing.busy < IDLE_PREFILL;
  const target = idle.zero ? undefined : targetOf(parts, sizing, { isBlocked, isWoken: idle.woken });
  const full = parts.instances.filter(({ id }) => broken.includes(id)).length;
  const counts = idle.zero ? new Map<string, number>() : counted(parts, sizing, { target, full });
  const workloads = parts.workloads.map((workload) => ({
    ...{
      id: workload.id,
      role: workload.role,
      step: workload.scaling.step,
      accelerators: workload.acceleratorsPerInstance,
    },
    ...boundsOf(parts, workload, idle.zero),
    wanted: Math.max(idle.woken ? activation(workload) : 0, counts.get(workload.id) ?? 0),
  }));
  return {
    ...{ role: sizing.role, workloads },
    figures: { ...sizing.figures, isPanicking: target?.isPanicking ?? false },
    chain: [
      sizing.verdict,
      ...targetVerdicts(parts, sizing, target),
      ...(isBlocked ? [BLOCKED] : []),
      ...idle.verdicts,
    ],
  };
}

/** Decode is full and prefill is not busy by half: what waits, waits for decode (reference 5.3). */
const IDLE_PREFILL = 0.5;
const BLOCKED = kept("BottleneckDecode", "decode is full and prefill is not: prefill does not grow");

/** Reference instances that a group begins with. */
const wokenOf = ({ workloads }: RoleParts, { speed }: Sizing): number =>
  workloads.reduce((sum, workload) => sum + (speed.get(workload.id) ?? 1) * activation(workload), 0);

/** In instances. Not below one while there is traffic: a role that stands at zero serves nobody. */
function boundsOf({ observation }: RoleParts, workload: WorkloadSeen, mayBeZero: boolean): Bounds {
  const { least, most } = boundsAt(workload.scaling, observation.wallClock);
  const floor = Math.ceil(least / workload.replicasPerInstance);
  const isFirst = observation.workloads.find(({ role }) => role === workload.role)?.id === workload.id;
  return {
    least: isFirst && !mayBeZero ? Math.max(1, floor) : floor,
    most: Math.floor(most / workload.replicasPerInstance),
  };
}

interface Circumstances {
  readonly isBlocked: boolean;
  readonly isWoken: boolean;
}

function targetOf(parts: RoleParts, sizing: Sizing, { isBlocked, isWoken }: Circumstances): RoleTarget | undefined {
  const { memory, observation, role } = parts;
  const { at } = observation;
  const [asked, ready] = [askedOf(parts, sizing.speed), servingOf(parts, sizing.speed)];
  const known = memory.roles.get(role);
  const mine = known ?? new RoleMemory();
  // What is woken is needed for as long as what stands when a process begins: nothing of it has shown what it can do.
  if (known === undefined || isWoken) mine.begin(at, isWoken ? Math.max(asked, wokenOf(parts, sizing)) : asked);
  memory.roles.set(role, mine);
  mine.sight({ at, asked, isWhole: memory.traffic.source === "routers" && !sizing.isBootstrap });
  if (sizing.need === undefined) return undefined;
  const need = isBlocked ? atMost(sizing.need, asked) : sizing.need;
  return mine.target({ at, need, noise: sizing.noise, asked, ready, ...carefulOf(parts.workloads) });
}

const atMost = ({ stable, fast }: Need, most: number): Need => ({
  stable: Math.min(stable, most),
  fast: Math.min(fast, most),
});

/** Of the workloads of a role the most careful one speaks. */
const carefulOf = (workloads: readonly WorkloadSeen[]): { panicThreshold: number; scaleInDelayMs: number } => ({
  panicThreshold: Math.min(...workloads.map(({ scaling }) => scaling.panicThreshold)),
  scaleInDelayMs: Math.max(...workloads.map(({ scaling }) => scaling.scaleInDelayMs)),
});

interface Counting {
  readonly target: RoleTarget | undefined;
  readonly full: number;
}

/** Instances by workload. What evidence does not cover stays as it is. */
function counted(parts: RoleParts, sizing: Sizing, { target, full }: Counting): ReadonlyMap<string, number> {
  if (target === undefined) return new Map(parts.workloads.map(({ id, replicas }) => [id, replicas]));
  const asked = askedOf(parts, sizing.speed);
  const safe = Math.max(target.work, Math.min(asked, sizing.safe), Math.min(asked, target.work + full));
  // Where nothing is known of capacities, what stands is right until something waits.
  const work = sizing.isBootstrap ? Math.max(asked, safe) : safe;
  const variants = parts.workloads.map((workload) => variantOf(parts, sizing, workload));
  const { at } = parts.observation;
  const { variants: order } = parts.observation.scaling;
  if (order === "kthena") return inKthenasOrder(variants, Math.ceil(work - EPSILON));
  const arranged = parts.memory.arrangements.get(parts.role) ?? new ArrangementMemory();
  parts.memory.arrangements.set(parts.role, arranged);
  return arranged.choose(at, variants, { work, inPanic: target.isPanicking });
}

const inKthenasOrder = (variants: readonly Variant[], count: number): ReadonlyMap<string, number> => {
  const alike = variants.map((variant) => ({ ...variant, speed: 1 }));
  return towards(alike, kthenaArrangement(alike, count), count);
};

/** What cannot move, by its mode or by somebody else's hand, neither takes the share of one that can, nor gives its own. */
function movable(parts: RoleParts, workload: WorkloadSeen): Bounds {
  const { least, most } = boundsOf(parts, workload, false);
  const stands = (one: WorkloadSeen): boolean =>
    stopOfBoth(one, workloadMemory(parts.memory, one), parts.observation.at) !== undefined;
  if (parts.workloads.every((one) => one === workload || stands(one))) return { least, most };
  const { pausedScaleOut, pausedScaleIn, mode } = workload.scaling;
  const now = Math.max(least, Math.min(most, workload.replicas));
  const isKept = pausedScaleIn || mode === "scale-up-only" || stands(workload);
  return { least: isKept ? now : least, most: pausedScaleOut || stands(workload) ? now : most };
}

function variantOf(parts: RoleParts, { speed }: Sizing, workload: WorkloadSeen): Variant {
  const { id, scaling, replicas, replicasPerInstance } = workload;
  const mine = workloadMemory(parts.memory, workload);
  const bounds = movable(parts, workload);
  const isExhausted = isOutOfNodes(parts, workload);
  return {
    ...{ id, step: scaling.step, current: replicas, ...bounds, isExhausted },
    most: isExhausted ? Math.max(bounds.least, Math.min(bounds.most, mostOf(parts, workload))) : bounds.most,
    cost: scaling.cost * replicasPerInstance,
    speed: speed.get(id) ?? 1,
    startupMs: mine.capacity.of(workload).startupMs,
    serving: parts.instances.filter(({ workload: of, state }) => of === id && state === "ready").length,
  };
}

const isOutOfNodes = ({ memory, observation }: RoleParts, workload: WorkloadSeen): boolean =>
  (workloadMemory(memory, workload).exhaustedUntil ?? -Infinity) > observation.at;

/** No more than there are; and where others may take its share, those without a node are given up. */
function mostOf(parts: RoleParts, workload: WorkloadSeen): number {
  const waiting = parts.instances.filter(({ workload: id, state }) => id === workload.id && state === "unschedulable");
  const hasOther = parts.workloads.some((other) => other !== workload && !isOutOfNodes(parts, other));
  return workload.replicas - (hasOther ? waiting.length : 0);
}

function targetVerdicts(parts: RoleParts, sizing: Sizing, target: RoleTarget | undefined): readonly Verdict[] {
  if (target === undefined) return [];
  const asked = askedOf(parts, sizing.speed);
  const isUnsafe = sizing.safe > target.work && asked > target.work;
  return [
    ...(target.isPanicking ? [kept("ScalePanic", "panic: what was needed most since it began is held")] : []),
    ...(target.isHeld ? [kept("ScaleInDelayed", "more was needed within the scale-in delay")] : []),
    ...parts.workloads
      .filter((workload) => isOutOfNodes(parts, workload))
      .map(({ id }) => warned("NodesExhausted", `${id}: there is no node for more of it`)),
    ...(isUnsafe ? [kept("ScaleInUnsafe", `fewer than ${whole(sizing.safe)} would be too full`)] : []),
  ];
}
