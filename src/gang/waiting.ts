/**
 * What a pod's gates, annotations and conditions say of its way to a node: held, let go for a node, or bound.
 *
 * A pod that was let go carries where it was meant to go and since when. That annotation is the reservation: every replica
 * of every role reads the same one, and a restart loses nothing.
 */
import { annotationOf, isObject, type Pod } from "../kinds/kube.ts";
import { GATE, STATUS, VOLCANO } from "../kinds/names.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { isBound } from "./devices.ts";
import { gangMembers, holdsByInstance } from "./podgroup.ts";

/** Where a pod was meant to go when its gate was lifted. */
export interface LiftedTo {
  /** Undefined where no place was found, and the pod was let go for a node autoscaler to see. */
  readonly node: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

/**
 * Whether pods of this contract wait for one another behind a gate, under this scheduler. Volcano holds a gang by its
 * PodGroup, unless that is one for each instance: then every pod waits until its own PodGroup has a name. A lone pod has
 * nobody to wait for.
 */
export const waitsForGang = (spec: WorkloadSpec, scheduler: string): boolean =>
  gangMembers([spec]).length > 0 && (scheduler === VOLCANO.schedulerName ? holdsByInstance(spec) : !isAlone(spec));

const isAlone = ({ role, nodesPerInstance, gang }: WorkloadSpec): boolean =>
  role === "both" && nodesPerInstance === 1 && gang.kind === "auto";

/** True while our gate of gangs holds the pod. */
export const isHeld = (pod: Pod): boolean => gateNames(pod).includes(GATE.gang);

/** Gates beside it: Kueue's, or that of ranks. Ours is lifted last. */
export const otherGates = (pod: Pod): readonly string[] => gateNames(pod).filter((name) => name !== GATE.gang);

const gateNames = (pod: Pod): readonly string[] => (pod.spec.schedulingGates ?? []).map(({ name }) => name);

/** A pod without a place that no gate holds, because its cell stood when it was made. */
export const isLoose = (pod: Pod): boolean =>
  annotationOf(pod, STATUS.follows) !== undefined && !isBound(pod) && !isHeld(pod) && liftedTo(pod) === undefined;

/** Where an unbound pod was let go for; undefined for a bound pod, one that is held, or one that never was. */
export function liftedTo(pod: Pod): LiftedTo | undefined {
  if (isBound(pod) || isHeld(pod)) return undefined;
  const record = parsed(annotationOf(pod, STATUS.placement));
  const at = Date.parse(String(record?.["at"]));
  if (record === undefined || Number.isNaN(at)) return undefined;
  return { node: typeof record["node"] === "string" ? record["node"] : undefined, at };
}

/** The annotation of a pod that is let go. */
export const placementOf = ({ node, at }: LiftedTo): string =>
  JSON.stringify({ node: node ?? null, at: new Date(at).toISOString() });

/** Since when the pod waits for room although nothing else of its gang is missing. */
export function waitingSince(pod: Pod): number | undefined {
  const at = Date.parse(annotationOf(pod, STATUS.waiting) ?? "");
  return Number.isNaN(at) ? undefined : at;
}

/** The scheduler has tried the pod and found no node. */
export const isUnschedulable = ({ status }: Pod): boolean =>
  status?.conditions?.some(
    ({ type, status, reason }) => type === "PodScheduled" && status === "False" && reason === "Unschedulable",
  ) ?? false;

/**
 * Milliseconds for which the pod may have served, at most; undefined for one that never was ready. A kubelet says that a
 * pod is not ready in its first status, at the pod's start: a later time is that of its ceasing to be ready.
 */
export function servedMs({ status }: Pod, now: number): number | undefined {
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  const since = Date.parse(String(ready?.["lastTransitionTime"]));
  if (ready?.status === "True") return Number.isNaN(since) ? Infinity : now - since;
  const ran = since - Date.parse(String(status?.["startTime"]));
  return ran > FIRST_STATUS_MS ? ran : undefined;
}

/** Both times are written at once, in whole seconds. */
const FIRST_STATUS_MS = 10_000;

/** The pod is ready, or once was. */
export const hasServed = (pod: Pod): boolean => servedMs(pod, 0) !== undefined;

function parsed(text: string | undefined): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
