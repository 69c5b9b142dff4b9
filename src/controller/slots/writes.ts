/** What is written to the pods of an instance: their place, once, while the gate holds; and that they get no new work. */
import { annotationOf, controllerOf, keyOf, type Pod } from "../../kinds/kube.ts";
import { DRAIN_UNREADY, GATE, LABEL, POD_DELETION_COST, STATUS } from "../../kinds/names.ts";
import { refOf } from "../../kinds/resource.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { placeAnnotations } from "../../workload/instance.ts";
import { isEntry } from "../../workload/serving.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { Action } from "../action.ts";
import type { Contract } from "../contracts.ts";
import { leaderName, type Slot } from "./record.ts";

/** Pods of one instance are deleted together when their ReplicaSet is scaled in; 28 bits keep within an int32. */
const deletionCost = (pod: Pod, { instance }: Slot): Record<string, string> =>
  controllerOf(pod)?.kind !== "ReplicaSet" || annotationOf(pod, POD_DELETION_COST) !== undefined
    ? {}
    : { [POD_DELETION_COST]: String(parseInt(instance.slice(0, 7), 16) || 0) };

/**
 * Place and freedom in one patch, under the version that was read: whoever changed the pod meanwhile makes it a conflict,
 * and a pod never starts with half a place.
 */
export function rankAction(
  pod: Pod,
  rank: number,
  slot: Slot,
  known: { contract: Contract; spec: WorkloadSpec },
): Action {
  const { spec, contract } = known;
  const labels = {
    [LABEL.instance]: slot.instance,
    [LABEL.nodeRank]: String(rank),
    ...(isEntry(spec, rank) ? { [LABEL.entry]: "true" } : {}),
  };
  const annotations = {
    [STATUS.leader]: leaderName(contract, slot),
    [STATUS.members]: slot.members.join(","),
    ...placeAnnotations(spec, rank),
    ...(slot.portBase === undefined ? {} : { [STATUS.portBase]: String(slot.portBase) }),
    ...deletionCost(pod, slot),
  };
  const gates = (pod.spec.schedulingGates ?? []).filter(({ name }) => name !== GATE.rank);
  const { uid, resourceVersion } = pod.metadata;
  return {
    ...patchOf(pod, { metadata: { uid, resourceVersion, labels, annotations }, spec: { schedulingGates: gates } }),
    key: `rank/${keyOf(pod)}`,
    verdict: changed("InstanceRanked", `pod ${keyOf(pod)}: rank ${rank} of instance ${slot.instance}`, {
      subject: keyOf(pod),
      numbers: { rank },
    }),
  };
}

/** The gate alone: what starts without a place fails at once and says so, which people see, and waiting they do not. */
export const freeAction = (pod: Pod): Action => ({
  ...patchOf(pod, {
    metadata: { uid: pod.metadata.uid, resourceVersion: pod.metadata.resourceVersion },
    spec: { schedulingGates: (pod.spec.schedulingGates ?? []).filter(({ name }) => name !== GATE.rank) },
  }),
  about: [pod],
  key: `rank/${keyOf(pod)}`,
  verdict: warned("Released", `pod ${keyOf(pod)}: no workload of ours asks for its instance; its gate was lifted`, {
    subject: keyOf(pod),
  }),
});

type Patch = Extract<Action, { do: "patch" }>;

const patchOf = (pod: Pod, body: object): Omit<Patch, "key" | "verdict"> => ({
  do: "patch",
  about: [],
  kind: "Pod",
  ref: refOf(pod),
  type: "merge",
  body,
});

export const isDrained = (pod: Pod): boolean => annotationOf(pod, STATUS.drain) !== undefined;

/** Drained by us until its instance is ready again. */
export const isUnreadyDrain = (pod: Pod): boolean => annotationOf(pod, STATUS.drain) === DRAIN_UNREADY;

/** Discovery looks at the annotation, selectors at the label. */
export function drainAction(pod: Pod, instance: string, why: "instance-broken" | typeof DRAIN_UNREADY): Action {
  const [reason, state] =
    why === DRAIN_UNREADY ? (["InstanceUnready", "not ready"] as const) : (["InstanceBroken", "broken"] as const);
  return {
    ...patchOf(pod, {
      metadata: { uid: pod.metadata.uid, labels: { [LABEL.entry]: null }, annotations: { [STATUS.drain]: why } },
    }),
    key: `drain/${keyOf(pod)}`,
    verdict: warned(reason, `pod ${keyOf(pod)}: instance ${instance} is ${state}, no new work`, {
      subject: keyOf(pod),
    }),
  };
}

/** Remembered where the instance ends: on its own pod. */
export const servedAction = (leader: Pod, instance: string): Action => ({
  ...patchOf(leader, { metadata: { uid: leader.metadata.uid, annotations: { [STATUS.served]: "true" } } }),
  key: `served/${keyOf(leader)}`,
  verdict: changed("InstanceReady", `instance ${instance}: all pods are ready`, { subject: keyOf(leader) }),
});

/** What `drainAction` did is undone. */
export const resumeAction = (
  pod: Pod,
  instance: string,
  { rank, spec }: { rank: number; spec: WorkloadSpec | undefined },
): Action => ({
  ...patchOf(pod, {
    metadata: {
      uid: pod.metadata.uid,
      ...(spec !== undefined && isEntry(spec, rank) ? { labels: { [LABEL.entry]: "true" } } : {}),
      annotations: { [STATUS.drain]: null },
    },
  }),
  key: `drain/${keyOf(pod)}`,
  verdict: changed("InstanceReady", `pod ${keyOf(pod)}: instance ${instance} is ready again`, { subject: keyOf(pod) }),
});

export const replaceAction = (pod: Pod, instance: string): Action => ({
  do: "remove",
  key: `replace/${keyOf(pod)}`,
  verdict: warned("InstanceBroken", `pod ${keyOf(pod)}: replaced with the rest of instance ${instance}`, {
    subject: keyOf(pod),
  }),
  about: [],
  kind: "Pod",
  ref: refOf(pod),
  uid: pod.metadata.uid,
});
