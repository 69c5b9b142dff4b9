/**
 * Which waiting pods make up an instance: pods of one ReplicaSet, or neighbouring ordinals of one StatefulSet, all of one
 * template. Only whole instances; what is left over waits.
 */
import { controllerOf, labelOf, type Pod } from "../../kinds/kube.ts";
import { ordinalOf } from "../../workload/instance.ts";

/** Pods that one owner made from one template. */
export interface Batch {
  readonly key: string;
  readonly pods: readonly Pod[];
  readonly nodes: number;
  /** The first ordinal of a StatefulSet. */
  readonly start: number;
}

export interface Formation {
  /** Each in the order of ranks. */
  readonly instances: readonly (readonly Pod[])[];
  readonly leftover: readonly Pod[];
}

/** Both name the template: a ReplicaSet's pods carry the first, a StatefulSet's the second. */
const HASHES = ["pod-template-hash", "controller-revision-hash"];

/** Unique for an owner and a template of it; undefined for a pod that nothing would replace. */
export function batchKey(pod: Pod): string | undefined {
  const owner = controllerOf(pod);
  if (owner === undefined) return undefined;
  const hash = HASHES.map((key) => labelOf(pod, key) ?? "").join("/");
  return `${pod.metadata.namespace ?? ""}/${owner.uid}/${hash}`;
}

const isOrdinal = (pod: Pod): boolean => controllerOf(pod)?.kind === "StatefulSet";

/** Oldest first, so that a pod which comes later does not take a place that is being given; the uid decides the rest. */
const age = ({ metadata }: Pod): string => `${metadata.creationTimestamp ?? ""}/${metadata.uid ?? ""}`;
const byAge = (a: Pod, b: Pod): number => (age(a) < age(b) ? -1 : 1);

export function form({ pods, nodes, start }: Batch): Formation {
  const [numbered, others] = [pods.filter(isOrdinal), pods.filter((pod) => !isOrdinal(pod)).toSorted(byAge)];
  const whole = Math.floor(others.length / nodes);
  const chunks = Array.from({ length: whole }, (_, index) => others.slice(index * nodes, (index + 1) * nodes));
  const neighbours = byOrdinal(numbered, nodes, start);
  const instances = [...chunks, ...neighbours];
  const taken = new Set(instances.flat());
  return { instances, leftover: pods.filter((pod) => !taken.has(pod)) };
}

/** Counted from the first ordinal, `k*N` to `k*N+N-1` are instance k; the rank is the rest. */
function byOrdinal(pods: readonly Pod[], nodes: number, start: number): readonly (readonly Pod[])[] {
  const place = (pod: Pod): number => (ordinalOf(pod.metadata.name) ?? -1) - start;
  const slots = Map.groupBy(pods, (pod) => Math.floor(place(pod) / nodes));
  return [...slots]
    .filter(([slot, members]) => slot >= 0 && members.length === nodes)
    .map(([, members]) => members.toSorted((a, b) => place(a) - place(b)));
}
