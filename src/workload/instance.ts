/**
 * An engine instance over several pods: who gives its pods their places, and what a place comes to.
 *
 * LeaderWorkerSet numbers its pods itself. Pods of Deployments and StatefulSets wait behind a scheduling gate until the
 * controller has given them theirs. Only names and numbers are decided here; nothing is written.
 */
import { annotationOf, isObject, labelOf, type KubeObject, type Pod, type Workload } from "../kinds/kube.ts";
import { GATE, LWS, STATUS, LABEL } from "../kinds/names.ts";
import type { WorkloadSpec } from "./spec.ts";

/** Most pods of one instance; as `tandem.sh/nodes-per-instance` accepts. */
const MOST_NODES = 256;

const sizeOf = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MOST_NODES ? value : undefined;

/** Pods of a group of a LeaderWorkerSet, on itself or on one of its pods; undefined for other objects. */
export function groupSize(object: KubeObject): number | undefined {
  if (object.kind !== "LeaderWorkerSet") return sizeOf(Number(annotationOf(object, LWS.size) ?? "none"));
  const spec = object["spec"];
  const template = isObject(spec) ? spec["leaderWorkerTemplate"] : undefined;
  // 1 is the default of the CRD.
  return sizeOf(isObject(template) ? (template["size"] ?? 1) : undefined);
}

/** The place of a pod in its instance, as its own number and name tell. */
export interface Place {
  readonly instance: string;
  readonly rank: number;
}

/** The number at the end of a name that a StatefulSet gave: `NAME-3`. */
export function ordinalOf(name: string | undefined): number | undefined {
  const digits = /-(\d{1,9})$/.exec(name ?? "")?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The number of a StatefulSet's first pod: `spec.ordinals.start`, 0 where nobody says. */
export function firstOrdinal({ spec }: Workload): number {
  const start = isObject(spec["ordinals"]) ? spec["ordinals"]["start"] : undefined;
  return typeof start === "number" && Number.isInteger(start) && start > 0 ? start : 0;
}

/** The place of a pod of a LeaderWorkerSet: its leader carries index 0 from the template, workers have it in their names. */
export function groupPlace(pod: Pod): Place | undefined {
  const set = labelOf(pod, LWS.name);
  if (set === undefined) return undefined;
  const isLeader = labelOf(pod, LWS.workerIndex) === "0";
  const rank = isLeader ? 0 : ordinalOf(pod.metadata.name);
  const group = labelOf(pod, LWS.groupIndex) ?? (isLeader ? ordinalOf(pod.metadata.name) : undefined);
  return rank === undefined || group === undefined ? undefined : { instance: `${set}-${group}`, rank };
}

/** True where one engine runs over several pods, as the declaration or its own ranks tell. */
export const spansPods = ({ nodesPerInstance, dataParallelMode, parallelism }: WorkloadSpec): boolean =>
  nodesPerInstance > 1 || (dataParallelMode === "internal" && parallelism.dp > parallelism.dpLocal);

/**
 * The place of a live pod that nobody held back: as it is labelled, as its owner numbers it, or as the only one of its
 * instance. Undefined where any of them may be rank 0: pods of a Deployment have no numbers.
 */
export function livePlace(workload: Workload, spec: WorkloadSpec, pod: Pod): Place | undefined {
  const place = ownersPlace(workload, spec, pod);
  const labelled = labelOf(pod, LABEL.nodeRank);
  const instance = labelOf(pod, LABEL.instance) ?? place?.instance ?? pod.metadata.uid ?? "";
  return labelled === undefined ? place : { instance, rank: nodeRankOf(pod) };
}

function ownersPlace(workload: Workload, spec: WorkloadSpec, pod: Pod): Place | undefined {
  if (workload.kind === "LeaderWorkerSet") return groupPlace(pod);
  if (!spansPods(spec)) return { instance: pod.metadata.uid ?? "", rank: 0 };
  const ordinal = workload.kind === "StatefulSet" ? ordinalOf(pod.metadata.name) : undefined;
  if (ordinal === undefined || spec.nodesPerInstance === 1) return undefined;
  const index = ordinal - firstOrdinal(workload);
  const at = Math.floor(index / spec.nodesPerInstance);
  return { instance: `${workload.metadata.name ?? ""}-${at}`, rank: index - at * spec.nodesPerInstance };
}

/** Whether the controller must give the pods of this contract their places. */
export const needsSlots = (spec: Pick<WorkloadSpec, "nodesPerInstance" | "mode" | "skip">): boolean =>
  spec.mode === "manage" && spec.nodesPerInstance > 1 && !spec.skip.includes("engine");

/** True while the pod waits for its place. */
export const isGated = (pod: Pod): boolean => pod.spec.schedulingGates?.some(({ name }) => name === GATE.rank) ?? false;

/** Node rank of a pod; 0 where it is the only one. */
export const nodeRankOf = (pod: { metadata?: Pod["metadata"] }): number => {
  const rank = Number(labelOf(pod, LABEL.nodeRank) ?? "0");
  return Number.isInteger(rank) && rank >= 0 ? rank : 0;
};

/** True where the ranks of vLLM's data parallelism are spread over the pods; otherwise tensors or layers are. */
export const spreadsRanks = ({ parallelism }: Pick<WorkloadSpec, "parallelism">): boolean => parallelism.dp > 1;

/** True where all pods but the first run `--headless`: vLLM with one API server for the whole instance. */
export const runsHeadless = (spec: WorkloadSpec): boolean =>
  spec.engine !== "sglang" && spec.dataParallelMode === "internal";

/**
 * The one argument that differs by node. Kubernetes expands variables in arguments but knows no conditions, and an empty
 * word stops vLLM's parser: so rank 0 gets one that repeats what it has anyway.
 */
function nodeArgument(spec: WorkloadSpec, rank: number): string {
  if (rank > 0 && runsHeadless(spec)) return "--headless";
  if (spec.engine === "sglang") return `--node-rank=${rank}`;
  return spreadsRanks(spec) ? `--data-parallel-size=${spec.parallelism.dp}` : `--node-rank=${rank}`;
}

/**
 * A flag that the pod's own address follows. vLLM's leader binds ZeroMQ sockets to the address it is given, and ZeroMQ
 * binds to no name (kserve#5155); the others connect by name, and get `--host`, which the arguments then set once more.
 */
const addressArgument = (spec: WorkloadSpec, rank: number): string =>
  rank > 0 ? "--host=" : spreadsRanks(spec) ? "--data-parallel-address=" : "--master-addr=";

/** Annotations that tell a pod of its place: the environment refers to them. */
export const placeAnnotations = (spec: WorkloadSpec, rank: number): Readonly<Record<string, string>> => ({
  [STATUS.rankStart]: String(rank * spec.parallelism.dpLocal),
  [STATUS.nodeArgument]: nodeArgument(spec, rank),
  ...(spec.engine === "sglang" ? {} : { [STATUS.addressArgument]: addressArgument(spec, rank) }),
});
