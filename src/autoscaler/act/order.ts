/**
 * Which pods Kubernetes deletes when a workload gets fewer replicas: the order of the ReplicaSet controller
 * (pkg/controller/controller_utils.go, ActivePodsWithRanks), as far as it can be steered. Pure; it writes nothing.
 */
import { annotationOf, type Pod } from "../../kinds/kube.ts";
import { POD_DELETION_COST } from "../../kinds/names.ts";
import { isReady } from "../../workload/endpoint.ts";

/** Compared from the left; the lower goes first. What comes after the cost (neighbours, age) cannot be relied upon. */
type Rank = readonly [assigned: number, phase: number, ready: number, cost: number];

const PHASES: readonly (string | undefined)[] = ["Pending", "Unknown", "Running"];

const rankOf = (pod: Pod): Rank => [
  (pod.spec.nodeName ?? "") === "" ? 0 : 1,
  // A pod that has just been made has no status yet.
  Math.max(0, PHASES.indexOf(pod.status?.phase)),
  isReady(pod) ? 1 : 0,
  costOf(pod),
];

/** Absent, or not a number: 0. */
function costOf(pod: Pod): number {
  const cost = Number(annotationOf(pod, POD_DELETION_COST) ?? "0");
  return Number.isInteger(cost) ? cost : 0;
}

function compare(a: Rank, b: Rank): number {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at === -1 ? 0 : (a[at] ?? 0) - (b[at] ?? 0);
}

/** Negative where `a` is deleted before `b` for a reason that lies in the pods; 0 where only chance decides. */
export const deletedBefore = (a: Pod, b: Pod): number => compare(rankOf(a), rankOf(b));

/** True where a ReplicaSet that loses as many replicas as there are `victims` deletes exactly those. */
export function losesExactly(victims: readonly Pod[], others: readonly Pod[]): boolean {
  const last = victims.map(rankOf).reduce(later, FIRST);
  return others.every((pod) => compare(last, rankOf(pod)) < 0);
}

const FIRST: Rank = [-1, -1, -1, -Infinity];
const later = (a: Rank, b: Rank): Rank => (compare(a, b) < 0 ? b : a);
