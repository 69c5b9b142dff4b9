/**
 * Checks of what must start together: a gang that the workload can never fill, or that a rolling update can never
 * fill again, and a topology that does not exist.
 */
import { annotationOf, isObject, type KubeObject } from "../../kinds/kube.ts";
import { ANNOTATION, VOLCANO } from "../../kinds/names.ts";
import { denied, warned, type Verdict } from "../../kinds/verdict.ts";
import { isUnderKueue, oneByOne, rollingSteps } from "../../workload/creation.ts";
import { setsReplicas } from "../../workload/scaling.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { counted, type Check, type Facts } from "./check.ts";

/** What the user asks of this workload's role by `tandem.sh/gang`, in instances; 0 where nothing is asked by number. */
function instancesAsked({ gang, role }: WorkloadSpec): number {
  return gang.kind === "set" && role !== "both" ? gang[role] : 0;
}

/** Pods have no gang of their own, and workloads that are only routed to start as they like. */
const isManaged = ({ spec }: Facts): boolean => spec.kind !== "Pod" && spec.mode !== "route";

/** Set on the workload itself: a default of the Namespace speaks of many, and cannot be wrong for one. */
const isOwn = ({ object }: Facts, key: string): boolean => annotationOf(object, key) !== undefined;

/** What stands in the object is only a beginning. */
const isAutoscaled = ({ scaling }: Facts): boolean => scaling !== undefined && setsReplicas(scaling);

/**
 * More instances than all workloads of the role have. Those that are still to be created cannot be seen: where several
 * workloads share a role, the set belongs on the last, or on the Namespace. None at all is a scale to zero.
 */
const gangSize: Check = (facts) => {
  const { spec, others } = facts;
  const asked = instancesAsked(spec);
  if (!isManaged(facts) || asked === 0 || spec.replicas === 0) return [];
  const same = others.filter(({ role, cell }) => role === spec.role && cell === spec.cell);
  const there = [spec, ...same].reduce((sum, one) => sum + Math.floor(one.replicas / one.nodesPerInstance), 0);
  if (there >= asked) return [];
  const message = `${ANNOTATION.gang} wants ${asked} instances of ${spec.role}, the cell has ${there}; give at most ${there}`;
  const make = isOwn(facts, ANNOTATION.gang) && !isAutoscaled(facts) ? denied : warned;
  return [make("GangUnsatisfiable", message, { subject: ANNOTATION.gang })];
};

/** A gang waits for pods that are made only after it has started. */
const gangOrder: Check = (facts) => {
  const { spec, object } = facts;
  const why = oneByOne(object);
  if (why === undefined || !isManaged(facts) || spec.gang.kind === "off" || spec.skip.includes("gang")) return [];
  const pods = Math.max(1, instancesAsked(spec)) * spec.nodesPerInstance;
  if (pods === 1 || !(isOwn(facts, ANNOTATION.gang) || spec.gang.kind === "set")) return [];
  return [
    denied("GangUnsatisfiable", `${ANNOTATION.gang} wants ${pods} pods together, but ${why}`, {
      subject: ANNOTATION.gang,
    }),
  ];
};

const MIN_MEMBER = "scheduling.volcano.sh/group-min-member";

/** Volcano makes its own PodGroup, and reads its annotation, only where none of ours is joined. */
function volcanoMinimum({ spec, object, template }: Facts): number | undefined {
  const name = template.spec.schedulerName ?? "default-scheduler";
  const volcano = name === VOLCANO.schedulerName || (name === "default-scheduler" && spec.scheduler === "volcano");
  const ours = spec.mode === "manage" && spec.gang.kind !== "off" && !spec.skip.includes("gang");
  const value = Number(annotationOf(object, MIN_MEMBER));
  return volcano && !ours && Number.isInteger(value) && value > 1 ? value : undefined;
}

const refuseMinimum = (message: string): readonly Verdict[] => [
  denied("GangUnsatisfiable", message, { subject: MIN_MEMBER }),
];

/**
 * A new ReplicaSet has a PodGroup of its own, and gets at most maxSurge and maxUnavailable pods before one of them is
 * ready: a larger minimum holds all of them back for ever (volcano#4739).
 */
const rollingUpdate: Check = (facts) => {
  const minimum = volcanoMinimum(facts);
  const { replicas } = facts.spec;
  if (minimum === undefined || replicas === 0) return [];
  if (minimum > replicas) return refuseMinimum(`${MIN_MEMBER} is ${minimum}, but there are ${replicas} replicas`);
  const why = oneByOne(facts.object);
  if (why !== undefined) return refuseMinimum(`${MIN_MEMBER} is ${minimum}, but ${why}`);
  const room = rollingRoom(facts.object, replicas);
  if (room === undefined || room >= minimum) return [];
  return refuseMinimum(
    `${MIN_MEMBER} is ${minimum}, but a rolling update makes ${counted(room, "new pod")} before one is ready`,
  );
};

const inner = (value: unknown, key: string): unknown => (isObject(value) ? value[key] : undefined);

/** Pods that a rolling update of a Deployment makes before the first of them must be ready; undefined for no such update. */
function rollingRoom(object: KubeObject, replicas: number): number | undefined {
  const steps = rollingSteps(object, replicas);
  return steps === undefined ? undefined : Math.min(replicas, steps.surge + steps.unavailable);
}

/**
 * A required tier that no HyperNode has cannot be kept, and a pod without the affinity would be placed anywhere. Of a
 * preferred one, or where HyperNodes are not known at all, the stage warns.
 */
const tier: Check = (facts) => {
  const { spec, snapshot } = facts;
  const { hyperNodes } = snapshot;
  const wanted = spec.topologyTier;
  if (!isManaged(facts) || spec.topology !== "required" || wanted === undefined || hyperNodes.length === 0) return [];
  if (!isOwn(facts, ANNOTATION.topologyTier)) return [];
  const tiers = hyperNodes.map(({ spec: { tier: number, tierName } }) => ({ number, tierName }));
  const lowest = Math.min(...tiers.map(({ number }) => number));
  const known = tiers.some(({ tierName }) => tierName === String(wanted));
  if (known || (typeof wanted === "number" && wanted >= lowest)) return [];
  const names = [...new Set(tiers.map(({ number, tierName }) => tierName ?? String(number)))].sort().join(", ");
  return [
    denied("TopologyUnknown", `${ANNOTATION.topologyTier}: no HyperNode has tier ${wanted}; there are ${names}`, {
      subject: ANNOTATION.topologyTier,
    }),
  ];
};

/** Kueue holds pods back one by one by their quota; a gang then waits for what may never come. */
const kueue: Check = (facts) => {
  if (facts.spec.gang.kind === "off" || !isManaged(facts) || !isUnderKueue(facts.object)) return [];
  return [
    warned("GangUnderKueue", `${ANNOTATION.gang} is set, but Kueue admits the pods of this workload one by one`, {
      subject: ANNOTATION.gang,
    }),
  ];
};

const DEFAULT_DEADLINE_SECONDS = 600;

/** Seconds that the startup probe of the engine allows; 0 without one. */
function startupSeconds({ template, spec }: Facts): number {
  const container = template.spec.containers.find(({ name }) => name === spec.container);
  const probe = container?.["startupProbe"];
  if (!isObject(probe)) return 0;
  const field = (key: string, fallback: number): number => {
    const value = probe[key];
    return typeof value === "number" && value >= 0 ? value : fallback;
  };
  return field("initialDelaySeconds", 0) + field("failureThreshold", 3) * field("periodSeconds", 10);
}

/**
 * A rollout counts as failed when no pod becomes ready for so long. Waiting for the other members of an instance or a
 * gang counts, so there Kubernetes' own default is the least; so does loading a model, as the startup probe tells.
 */
const deadline: Check = (facts) => {
  const { spec, object } = facts;
  if (object.kind !== "Deployment" || spec.mode !== "manage" || spec.replicas === 0) return [];
  const given = inner(object["spec"], "progressDeadlineSeconds");
  const seconds = typeof given === "number" ? given : DEFAULT_DEADLINE_SECONDS;
  const held = spec.nodesPerInstance > 1 || spec.gang.kind === "set" ? DEFAULT_DEADLINE_SECONDS : 0;
  const needed = Math.max(held, startupSeconds(facts));
  if (seconds >= needed) return [];
  const text = `progressDeadlineSeconds is ${seconds}, but a pod may take ${needed} s until it is ready`;
  return [warned("DeadlineShort", text, { subject: "progressDeadlineSeconds", numbers: { seconds, needed } })];
};

export const GANG_CHECKS: readonly Check[] = [gangSize, gangOrder, rollingUpdate, tier, kueue, deadline];
