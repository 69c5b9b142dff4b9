/**
 * Pods -> instances: which engines a workload has, over which pods each runs, and how each stands.
 *
 * From the pods' own statuses, and the time for what lasts too long; nothing is remembered but what is read off an object
 * that stays the same. What the kubelet or the scheduler says decides; readiness alone says that an engine serves.
 */
import { annotationOf, isObject, type Pod, type PodCondition, type Workload } from "../../kinds/kube.ts";
import { hasEnded } from "../../gang/devices.ts";
import { DRAIN_UNREADY, STATUS } from "../../kinds/names.ts";
import { engineStatus } from "../../workload/endpoint.ts";
import { livePlace } from "../../workload/instance.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { InstanceSeen, InstanceState } from "../group.ts";
import { monotonicOf, type Moment } from "./reading.ts";

/** Node autoscalers look every 10 s, and need one or two looks to find room that is there. */
const UNSCHEDULABLE_MS = 60_000;
/** What an engine says in its first minute after a restart is of its warm-up. */
const RESTARTED_MS = 60_000;

/** Reasons for which a container waits that do not pass by waiting. */
const BROKEN: ReadonlySet<string> = new Set([
  ...["CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError"],
  ...["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"],
]);

/** What one pod says, in milliseconds since the Unix epoch. */
export interface PodFacts {
  readonly createdAt: number;
  readonly readyAt?: number;
  readonly isBound: boolean;
  /** Since when the scheduler says that it fits nowhere. */
  readonly unfitSince?: number;
  readonly isBroken: boolean;
  readonly restartedAt?: number;
  readonly isDraining: boolean;
  readonly isLeaving: boolean;
}

const known = new WeakMap<Pod, PodFacts>();

/** @param isMarked marked to be scaled in */
function factsOf(pod: Pod, isMarked: (pod: Pod) => boolean): PodFacts {
  const before = known.get(pod);
  if (before !== undefined) return before;
  const facts = readFacts(pod, isMarked);
  known.set(pod, facts);
  return facts;
}

function readFacts(pod: Pod, isMarked: (pod: Pod) => boolean): PodFacts {
  const { metadata, spec } = pod;
  const createdAt = timeOf(metadata.creationTimestamp) ?? 0;
  const [ready, scheduled] = [conditionOf(pod, "Ready"), conditionOf(pod, "PodScheduled")];
  return {
    createdAt,
    ...given("readyAt", ready?.status === "True" ? (since(ready) ?? createdAt) : undefined),
    isBound: (spec.nodeName ?? "") !== "",
    ...given("unfitSince", isUnfit(scheduled) ? since(scheduled) : undefined),
    isBroken: hasEnded(pod) || isBroken(pod),
    ...given("restartedAt", restartedAt(pod)),
    isDraining: isMarked(pod) || isToldToDrain(pod),
    isLeaving: metadata.deletionTimestamp !== undefined,
  };
}

const since = (condition: PodCondition | undefined): number | undefined => timeOf(condition?.["lastTransitionTime"]);

const isUnfit = (scheduled: PodCondition | undefined): boolean =>
  scheduled?.status === "False" && scheduled["reason"] === "Unschedulable";

const conditionOf = (pod: Pod, wanted: string): PodCondition | undefined =>
  pod.status?.conditions?.find(({ type }) => type === wanted);

function timeOf(value: unknown): number | undefined {
  const time = typeof value === "string" ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? undefined : time;
}

const given = <K extends string>(key: K, value: number | undefined): { readonly [P in K]?: number } =>
  value === undefined ? {} : ({ [key]: value } as { readonly [P in K]: number });

/** An instance of which a member is not ready gets no work until it is: that is no drain. */
const isToldToDrain = (pod: Pod): boolean =>
  !["false", DRAIN_UNREADY].includes(annotationOf(pod, STATUS.drain) ?? "false");

/** Of the engine's container; a sidecar may fail as it likes. */
function isBroken(pod: Pod): boolean {
  const reason = part(engineStatus(pod)?.["state"], "waiting")?.["reason"];
  return typeof reason === "string" && BROKEN.has(reason);
}

function restartedAt(pod: Pod): number | undefined {
  const status = engineStatus(pod);
  if ((status?.restartCount ?? 0) === 0) return undefined;
  const ended = part(status?.["lastState"], "terminated")?.["finishedAt"];
  const began = part(status?.["state"], "running")?.["startedAt"];
  return timeOf(began) ?? timeOf(ended);
}

function part(value: unknown, key: string): Record<string, unknown> | undefined {
  const found = isObject(value) ? value[key] : undefined;
  return isObject(found) ? found : undefined;
}

/** The pods that one engine runs over, in the order of their ranks. */
export type Members = readonly [Pod, ...Pod[]];

/** The pods that a workload made, put together to instances; those without a place yet in the order in which they came. */
export function membersOf(workload: Workload, spec: WorkloadSpec, pods: readonly Pod[]): readonly Members[] {
  if (spec.nodesPerInstance === 1) return pods.map((pod): Members => [pod]);
  const placed = pods.map((pod) => ({ pod, place: livePlace(workload, spec, pod) }));
  const groups = Map.groupBy(placed, ({ pod, place }) => (place === undefined ? "" : keyOf(place.instance, pod)));
  const loose = (groups.get("") ?? []).map(({ pod }) => pod).toSorted(byAge);
  groups.delete("");
  const whole = [...groups.values()].map((members) =>
    members.toSorted((a, b) => (a.place?.rank ?? 0) - (b.place?.rank ?? 0)).map(({ pod }) => pod),
  );
  return [...whole, ...chunks(loose, spec.nodesPerInstance)].filter(isSome);
}

/** While a group of a LeaderWorkerSet is replaced, old and new pods of one name stand side by side. */
const keyOf = (instance: string, { metadata }: Pod): string =>
  `${instance}${metadata.deletionTimestamp === undefined ? "" : " leaving"}`;

const isSome = (pods: readonly Pod[]): pods is Members => pods.length > 0;

const age = ({ metadata }: Pod): string => `${metadata.creationTimestamp ?? ""}/${metadata.name ?? ""}`;
const byAge = (a: Pod, b: Pod): number => (age(a) < age(b) ? -1 : 1);

const chunks = (pods: readonly Pod[], size: number): readonly (readonly Pod[])[] =>
  Array.from({ length: Math.ceil(pods.length / size) }, (_, index) => pods.slice(index * size, (index + 1) * size));

export interface InstanceContext {
  /** `namespace/Kind/name` */
  readonly workload: string;
  readonly nodesPerInstance: number;
  readonly now: Moment;
  /** Marked to be scaled in. */
  readonly isMarked: (pod: Pod) => boolean;
}

/** One instance, without what its engine says. */
export function instanceSeen(members: Members, context: InstanceContext): Omit<InstanceSeen, "engine"> {
  const { workload, nodesPerInstance, now, isMarked } = context;
  const [first] = members;
  const facts = members.map((pod) => factsOf(pod, isMarked));
  const created = Math.min(...facts.map(({ createdAt }) => createdAt));
  const readies = facts.flatMap(({ readyAt }) => readyAt ?? []);
  const isWhole = members.length >= nodesPerInstance && readies.length === members.length;
  const createdAt = monotonicOf(created, now);
  return {
    id: first.metadata.uid ?? first.metadata.name ?? "",
    workload,
    state: stateOf(facts, isWhole, now),
    createdAt,
    ...(isWhole ? { readyAt: Math.max(createdAt, monotonicOf(Math.max(...readies), now)) } : {}),
  };
}

/** What holds of any of its pods holds of the instance, the worst first. */
function stateOf(facts: readonly PodFacts[], isWhole: boolean, now: Moment): InstanceState {
  const lasts = (since: number | undefined, ms: number): boolean => since !== undefined && now.wall - since >= ms;
  const isRestarted = ({ restartedAt: at }: PodFacts): boolean => at !== undefined && !lasts(at, RESTARTED_MS);
  if (facts.some(({ isLeaving }) => isLeaving)) return "leaving";
  if (facts.some((fact) => fact.isBroken || isRestarted(fact))) return "failing";
  // One that serves nobody is marked only for Kubernetes to take it first: no metrics of it are waited for.
  if (isWhole && facts.some(({ isDraining }) => isDraining)) return "draining";
  if (facts.some(({ unfitSince }) => lasts(unfitSince, UNSCHEDULABLE_MS))) return "unschedulable";
  if (facts.some(({ isBound }) => !isBound)) return "pending";
  return isWhole ? "ready" : "starting";
}
