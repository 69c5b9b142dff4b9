/**
 * What is to be written now so that a workload comes to the number of instances that was decided: from the decision, its
 * pods as they are, and what is remembered of drains. Level by level: whatever was written before, by this process or by
 * one that died in the middle, is on the pods, and the next plan goes on from there.
 *
 * It never takes an instance that was not drained, never more than were decided, nothing during a rollout, and asks for
 * no new instance before it has taken back those that drain.
 */
import { annotationOf, type KubeObject, type Pod, type Workload } from "../../kinds/kube.ts";
import { POD_DELETION_COST } from "../../kinds/names.ts";
import { warned, type Verdict } from "../../kinds/verdict.ts";
import { drainingOf, isHeldBack, VICTIM_COST } from "../../workload/draining.ts";
import type { InstanceSeen, WorkloadDecision, WorkloadSeen } from "../group.ts";
import { allowanceOf, type Allowance } from "./budget.ts";
import { drainState, type DrainEnd, type DrainMemory, type DrainRules, type DrainState, type Moment } from "./drain.ts";
import { instancesOf, type Instance } from "./instances.ts";
import { losesExactly } from "./order.ts";
import { victimsOf } from "./victims.ts";

/** Everything that the actions on one workload follow from. */
export interface WorkloadView {
  readonly workload: Workload;
  readonly seen: WorkloadSeen;
  readonly decision: WorkloadDecision;
  /** Those that the workload made. */
  readonly pods: readonly Pod[];
  readonly instances: readonly InstanceSeen[];
  /** PodDisruptionBudgets of the cluster. */
  readonly budgets: readonly KubeObject[];
}

/** Milliseconds; of the configuration. */
export type DrainTimes = Pick<DrainRules, "quietMs" | "kvLeaseMs">;

export type Step =
  | { readonly do: "release" | "drain" | "mark"; readonly pod: Pod }
  | {
      readonly do: "scale";
      /** In instances. */
      readonly from: number;
      readonly to: number;
      readonly victims: readonly Pod[];
      /** How the drain of each victim ended. */
      readonly ends: readonly DrainEnd[];
    };

export interface Plan {
  /** In the order in which they are carried out. */
  readonly steps: readonly Step[];
  /** To be remembered until the next plan, by instance. */
  readonly drains: ReadonlyMap<string, DrainMemory>;
  /** Instances that drain, or are about to. */
  readonly draining: number;
  /** Why less is done than was decided. */
  readonly verdicts: readonly Verdict[];
}

export function planActions(
  view: WorkloadView,
  remembered: ReadonlyMap<string, DrainMemory>,
  { times, moment }: { readonly times: DrainTimes; readonly moment: Moment },
): Plan {
  const situation = situationOf(view);
  const { victims, instances } = situation;
  const rules = { ...times, ...view.seen.scaling, role: view.seen.role };
  const states = new Map(
    victims.flatMap((victim) => {
      const known = { since: sinceOf(victim), before: remembered.get(victim.id) };
      return isUnderWay(victim) ? [[victim, drainState(victim, known, rules, moment)] as const] : [];
    }),
  );
  const released = instances.filter((instance) => instance.draining && !victims.includes(instance));
  const steps: Step[] = [
    ...released.flatMap(({ pods }) => pods.filter(isMarked).map((pod) => ({ do: "release", pod }) as const)),
    ...(situation.goal > view.decision.from ? [scaleOut(view.decision.from, situation.goal)] : []),
    ...victims.filter((victim) => serves(victim, states)).flatMap(drainSteps),
    ...(situation.goal < view.decision.from ? shrink(view, situation, states) : []),
  ];
  return {
    steps,
    drains: new Map([...states].map(([{ id }, { memory }]) => [id, memory])),
    draining: victims.filter((victim) => serves(victim, states)).length,
    verdicts: sparedVerdicts(view, situation),
  };
}

interface Situation {
  readonly instances: readonly Instance[];
  /** How many there are to be. */
  readonly goal: number;
  readonly victims: readonly Instance[];
  readonly spared: number;
  readonly allowance: Allowance;
}

const isNumbered = ({ kind }: Workload): boolean => kind === "StatefulSet" || kind === "LeaderWorkerSet";

function situationOf(view: WorkloadView): Situation {
  const { workload, seen, decision, pods } = view;
  const instances = instancesOf({ workload, nodesPerInstance: seen.nodesPerInstance }, pods, view.instances);
  const goal = goalOf(view);
  const shrinking = goal < decision.from;
  const allowance = shrinking ? allowanceOf(pods, seen.nodesPerInstance, view.budgets) : { instances: Infinity };
  const candidates = shrinking ? instances : instances.filter(({ draining }) => draining);
  const mayGo = mayAct(seen) && !seen.isRolling;
  const choice = victimsOf({
    role: seen.role,
    instances: mayGo ? candidates : [],
    count: instances.length - goal,
    allowed: allowance.instances,
    ...(isNumbered(workload) ? { fromIndex: goal } : {}),
  });
  return { instances, goal, allowance, ...choice };
}

/** Whether replicas are written at all. */
const mayAct = ({ scaling }: WorkloadSeen): boolean =>
  scaling.actuator === "scale" && (scaling.mode === "auto" || scaling.mode === "scale-up-only");

/** During a rollout replicas are split over two templates: which pods a shrink would take nobody can tell. */
function goalOf({ seen, decision: { from, to } }: WorkloadView): number {
  if (!mayAct(seen)) return from;
  const holds = seen.isRolling || seen.scaling.mode === "scale-up-only";
  return holds ? Math.max(from, to) : to;
}

const isMarked = (pod: Pod): boolean => drainingOf(pod) !== undefined;

/** Its pods are out of routing, by the drain or because it is not ready. */
const isUnderWay = ({ pods, ready }: Instance): boolean => !ready || pods.every(isHeldBack);

/** What was not ready and runs nothing need not drain. */
const serves = (victim: Instance, states: ReadonlyMap<Instance, DrainState>): boolean =>
  states.get(victim)?.end !== "unserving";

/** The earliest of its pods. */
const sinceOf = ({ pods }: Instance): number | undefined =>
  pods.reduce<number | undefined>((least, pod) => {
    const since = drainingOf(pod)?.since;
    return since === undefined || (least !== undefined && least <= since) ? least : since;
  }, undefined);

const scaleOut = (from: number, to: number): Step => ({ do: "scale", from, to, victims: [], ends: [] });

const drainSteps = ({ pods }: Instance): readonly Step[] =>
  pods.filter((pod) => !isHeldBack(pod)).map((pod) => ({ do: "drain", pod }));

type States = ReadonlyMap<Instance, DrainState>;

function shrink(view: WorkloadView, situation: Situation, states: States): readonly Step[] {
  const ripe = ripeOf(situation, states);
  return isNumbered(view.workload)
    ? shrinkFromTop(view, situation, { ripe, states })
    : shrinkByCost(view, situation, { ripe, states });
}

/** Of those that serve no more than a budget allows now: it may have shrunk since their drain began. */
function ripeOf({ victims, allowance }: Situation, states: States): readonly Instance[] {
  const ripe = victims.filter((victim) => states.get(victim)?.ripe === true);
  const serving = ripe.filter(({ ready }) => ready).slice(0, allowance.instances);
  return ripe.filter((victim) => !victim.ready || serving.includes(victim));
}

interface Ripe {
  readonly ripe: readonly Instance[];
  readonly states: States;
}

/** Down to the first that must stay yet. What is missing in between was never made, or is gone. */
function shrinkFromTop({ decision: { from } }: WorkloadView, { instances, goal }: Situation, given: Ripe): Step[] {
  const byIndex = new Map(instances.map((instance) => [instance.index, instance]));
  let to = from;
  while (to > goal && mayLose(byIndex.get(to - 1), given.ripe)) to -= 1;
  const going = given.ripe.filter(({ index = -1 }) => index >= to);
  return to === from ? [] : [scaleIn({ from, to }, going, given.states)];
}

const mayLose = (instance: Instance | undefined, ripe: readonly Instance[]): boolean =>
  instance === undefined || ripe.includes(instance);

/**
 * All that are ripe, where Kubernetes would delete exactly those; else those that it deletes first by itself. The cost is
 * written first and seen in the next plan, so that whoever deletes has seen it, too.
 */
function shrinkByCost({ decision: { from } }: WorkloadView, { instances, goal }: Situation, given: Ripe): Step[] {
  const { ripe, states } = given;
  for (const going of [ripe, ripe.filter(({ ready }) => !ready)]) {
    const victims = podsOf(going);
    const others = podsOf(instances.filter((instance) => !going.includes(instance)));
    const to = Math.max(goal, instances.length - going.length);
    if (to >= from) continue;
    if (losesExactly(victims, others)) return [scaleIn({ from, to }, going, states)];
    if (losesExactly(victims.map(asVictim), others))
      return victims.filter((pod) => !isCheapest(pod)).map((pod) => ({ do: "mark", pod }));
  }
  return [];
}

const podsOf = (instances: readonly Instance[]): readonly Pod[] => instances.flatMap(({ pods }) => pods);
const isCheapest = (pod: Pod): boolean => annotationOf(pod, POD_DELETION_COST) === VICTIM_COST;

const asVictim = (pod: Pod): Pod => ({
  ...pod,
  metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, [POD_DELETION_COST]: VICTIM_COST } },
});

const scaleIn = ({ from, to }: { from: number; to: number }, going: readonly Instance[], states: States): Step => ({
  do: "scale",
  from,
  to,
  victims: podsOf(going),
  ends: going.flatMap((instance) => states.get(instance)?.end ?? []),
});

function sparedVerdicts({ seen, decision: { from } }: WorkloadView, { goal, spared, allowance }: Situation): Verdict[] {
  if (spared === 0) return [];
  const { by = "" } = allowance;
  const message = `${spared} of ${from - goal} instances stay: PodDisruptionBudget ${by} allows ${allowance.instances} to go`;
  return [warned("ScaleInBudget", message, { subject: seen.id, numbers: { spared, allowed: allowance.instances } })];
}
