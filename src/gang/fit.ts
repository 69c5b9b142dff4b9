/**
 * Whether one node may carry one pod, judged as kube-scheduler's own filters judge it: readiness and cordon, taints,
 * node selector and required node affinity, and free resources. What the pods on it have to say is judged in `rules.ts`;
 * volumes are not judged.
 */
import {
  entry,
  type Node,
  type NodeSelectorRequirement,
  type NodeSelectorTerm,
  type Pod,
  type Taint,
  type Toleration,
} from "../kinds/kube.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { allowed, denied, type Verdict } from "../kinds/verdict.ts";
import { lacking, type Amounts, type Room } from "./devices.ts";
import { formatAmount } from "./quantity.ts";

const UNSCHEDULABLE: Taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };

/** Why this node cannot carry the pod whatever is free on it, or undefined. */
export function unfit(pod: Pod, node: Node): Verdict | undefined {
  return unready(pod, node) ?? unselected(pod, node);
}

/** Whether the node can carry the pod now: `NodeFits`, or why not, with the numbers. */
export function nodeVerdict(pod: Pod, node: Node, demand: Amounts, room: Room): Verdict {
  return (
    unfit(pod, node) ??
    shortage(node.metadata.name ?? "", demand, room) ??
    allowed("NodeFits", "has room", { subject: node.metadata.name ?? "" })
  );
}

/** The verdict on a node with too little free, or undefined. */
export function shortage(node: string, demand: Amounts, room: Room): Verdict | undefined {
  const resource = lacking(room, node, demand);
  if (resource === undefined) return undefined;
  const [needs, free] = [demand.get(resource) ?? 0, Math.max(0, room.free(node, resource))];
  const all = room.allocatable(node, resource);
  const there =
    all === 0
      ? "the node has none"
      : `${formatAmount(resource, free)} of ${formatAmount(resource, all)} free${ringText(room, node, { resource, needs, free })}`;
  return denied("NodeLacksDevices", `needs ${formatAmount(resource, needs)} ${resource}, ${there}`, {
    subject: node,
    numbers: { needs, free },
  });
}

type Want = { readonly resource: string; readonly needs: number; readonly free: number };

/** Enough is free, but not in one ring. */
function ringText(room: Room, node: string, { resource, needs, free }: Want): string {
  const rings = free >= needs ? room.rings?.(node, resource) : undefined;
  return rings === undefined ? "" : `, in rings of ${rings.size} with ${rings.free.join(" and ")} free`;
}

function unready(pod: Pod, node: Node): Verdict | undefined {
  const subject = node.metadata.name ?? "";
  const ready = node.status?.conditions?.find(({ type }) => type === "Ready");
  if (ready !== undefined && ready.status !== "True") return denied("NodeUnschedulable", "not ready", { subject });
  const taint = untolerated(pod, node);
  return taint === undefined ? undefined : denied("NodeUnschedulable", describe(taint), { subject });
}

const untolerated = (pod: Pod, node: Node): Taint | undefined => taintsOf(node).find((found) => !tolerated(pod, found));

/** Whether the pod tolerates every taint of the node that keeps pods off. */
export const toleratesNode = (pod: Pod, node: Node): boolean => untolerated(pod, node) === undefined;

/** Whether the pod's node selector and required node affinity select the node. */
export const selectsNode = (pod: Pod, node: Node): boolean => unselected(pod, node) === undefined;

const taintsOf = ({ spec }: Node): readonly Taint[] =>
  spec?.unschedulable === true ? [UNSCHEDULABLE, ...(spec.taints ?? [])] : (spec?.taints ?? []);

function describe(taint: Taint): string {
  if (taint === UNSCHEDULABLE) return "cordoned";
  const value = taint.value === undefined ? "" : `=${taint.value}`;
  return `taint ${taint.key}${value}:${taint.effect} is not tolerated`;
}

const tolerated = (pod: Pod, taint: Taint): boolean =>
  taint.effect === "PreferNoSchedule" ||
  (pod.spec.tolerations ?? []).some((toleration) => tolerates(toleration, taint));

/** Absent fields are empty: no effect tolerates every effect, no key with `Exists` every key, no operator is `Equal`. */
function tolerates(toleration: Toleration, taint: Taint): boolean {
  const exists = toleration.operator === "Exists";
  if ((toleration.effect ?? "") !== "" && toleration.effect !== taint.effect) return false;
  if ((toleration.key ?? "") === "") return exists;
  return toleration.key === taint.key && (exists || (toleration.value ?? "") === (taint.value ?? ""));
}

/** Why the pod's node selector or required node affinity leaves the node out, or undefined. */
export function unselected(pod: Pick<Pod, "spec">, node: Node): Verdict | undefined {
  const subject = node.metadata.name ?? "";
  const missing = Object.entries(pod.spec.nodeSelector ?? {}).find(
    ([key, value]) => entry(node.metadata.labels, key) !== value,
  );
  if (missing !== undefined)
    return denied("NodeNotSelected", `has not the label ${missing.join("=")} of the pod's nodeSelector`, { subject });
  const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms === undefined || terms.some((term) => termMatches(term, node))) return undefined;
  return denied("NodeNotSelected", "does not match the pod's required node affinity", { subject });
}

/** Terms are alternatives; an empty term matches nothing. */
function termMatches({ matchExpressions = [], matchFields = [] }: NodeSelectorTerm, node: Node): boolean {
  if (matchExpressions.length + matchFields.length === 0) return false;
  const name = { "metadata.name": node.metadata.name ?? "" };
  return (
    matchExpressions.every((requirement) => requirementHolds(requirement, node.metadata.labels)) &&
    matchFields.every((requirement) => requirementHolds(requirement, name))
  );
}

function requirementHolds(
  requirement: NodeSelectorRequirement,
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  const { key, operator, values = [] } = requirement;
  if (operator !== "Gt" && operator !== "Lt")
    return selectorMatches({ matchExpressions: [{ key, operator, values }] }, labels);
  const [found, bound] = [Number(entry(labels, key) ?? NaN), Number(values[0] ?? NaN)];
  return operator === "Gt" ? found > bound : found < bound;
}
