/** Which pods belong to which cell, and which of them are still to come. */
import { LABEL } from "../kinds/names.ts";
import type { Role } from "../kinds/endpoint.ts";
import { keyOf, labelOf, type KubeObject, type Pod, type PodTemplate } from "../kinds/kube.ts";
import { cellKey, type CellId } from "../workload/cell.ts";
import type { TopologyMode, WorkloadSpec } from "../workload/spec.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { highestTier, type MinimumShare } from "./podgroup.ts";
import { hasEnded, isBound } from "./devices.ts";

/** The cell that the labels of a Pod or workload name; undefined for an object that is not ours. */
export function podCell(object: KubeObject): CellId | undefined {
  const model = labelOf(object, LABEL.model);
  if (model === undefined) return undefined;
  return {
    namespace: object.metadata.namespace ?? "default",
    model,
    group: labelOf(object, LABEL.group) ?? model,
    cell: labelOf(object, LABEL.cell) ?? "0",
  };
}

/** For people: the group, and the cell where it is not the only one. */
export const cellName = (id: { readonly group: string; readonly cell: string } | undefined): string =>
  id === undefined || id.cell === "0" ? (id?.group ?? "") : `${id.group}/${id.cell}`;

export const podRole = (pod: Pod): Role => {
  const role = labelOf(pod, LABEL.role);
  return role === "prefill" || role === "decode" ? role : "both";
};

/** A pod that counts as a member: not ended and not on its way out, whose place its successor must be free to take. */
export const isMember = (pod: Pod): boolean => !hasEnded(pod) && pod.metadata.deletionTimestamp === undefined;

/** The members among some pods, by cell key. */
export function podsByCell(pods: readonly Pod[]): ReadonlyMap<string, readonly Pod[]> {
  const cells = new Map<string, Pod[]>();
  for (const pod of pods) {
    const cell = podCell(pod);
    if (cell === undefined || !isMember(pod)) continue;
    const key = cellKey(cell);
    const members = cells.get(key);
    if (members === undefined) cells.set(key, [pod]);
    else members.push(pod);
  }
  return cells;
}

/** A role of which the minimum viable set has too few pods. */
export interface Shortage {
  readonly role: Role;
  readonly found: number;
  readonly wanted: number;
}

/** The first role of which the minimum viable set has too few among these pods. */
export function shortOf(minimum: readonly MinimumShare[], pods: readonly Pod[]): Shortage | undefined {
  for (const role of new Set(minimum.map((share) => share.role))) {
    const wanted = minimum.reduce((sum, share) => sum + (share.role === role ? share.pods : 0), 0);
    const found = pods.filter((pod) => podRole(pod) === role).length;
    if (found < wanted) return { role, found, wanted };
  }
  return undefined;
}

/** Nodes of the bound pods, one entry a pod, by name: the order in which pods are listed must mean nothing. */
export const nodesOf = (pods: readonly Pod[]): string[] =>
  pods
    .filter(isBound)
    .flatMap(({ spec }) => (spec.nodeName === undefined ? [] : [spec.nodeName]))
    .sort();

/** How a cell wants to be placed. */
export interface TopologyPolicy {
  readonly mode: TopologyMode;
  /** Highest tier the cell may span; undefined: any, or an unknown tier name. */
  readonly tier: number | undefined;
  /** The tier as the user wrote it, for messages. */
  readonly asked: number | string | undefined;
}

/** What the managed workloads of a cell ask for; a cell of which no workload is known gets the default, `preferred`. */
export function topologyPolicy(cell: readonly WorkloadSpec[], tree: TopologyTree): TopologyPolicy {
  if (cell.length === 0) return { mode: "preferred", tier: undefined, asked: undefined };
  const spec = cell
    .filter(({ mode, skip }) => mode === "manage" && !skip.includes("topology"))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))[0];
  if (spec === undefined) return { mode: "off", tier: undefined, asked: undefined };
  return { mode: spec.topology, tier: highestTier(spec, tree), asked: spec.topologyTier };
}

/** A workload with the pods it makes. */
export interface CellMember {
  readonly spec: WorkloadSpec;
  readonly template: PodTemplate;
}

/**
 * The pods that the workloads of a cell have still to make, as their replicas say and by the existing pods of the role.
 * An existing pod of the role is the better pattern: what admission adds at pod creation is on it. At most `most` of a
 * workload: its replicas are a number that anybody may write, up to two thousand million.
 */
export function missingPods(cell: readonly CellMember[], members: readonly Pod[], most: number): Pod[] {
  const surplus = new Map<Role, number>();
  const ofRole = Map.groupBy(members, podRole);
  for (const [role, pods] of ofRole) surplus.set(role, pods.length);
  return cell
    .toSorted((a, b) => (a.spec.name < b.spec.name ? -1 : 1))
    .flatMap(({ spec, template }) => {
      const exist = Math.min(surplus.get(spec.role) ?? 0, spec.replicas);
      surplus.set(spec.role, (surplus.get(spec.role) ?? 0) - exist);
      const pattern = ofRole.get(spec.role)?.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))[0];
      return Array.from({ length: Math.min(most, spec.replicas - exist) }, (_, index) =>
        expected(spec, pattern ?? template, index),
      );
    });
}

/** An existing pod's instance is not that of the pods to come. */
const withoutInstance = (labels: Readonly<Record<string, string>> = {}): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).filter(([key]) => key !== LABEL.instance));

/** With the labels of its pattern, by which affinities of its own and of other pods find it. */
function expected(spec: WorkloadSpec, pattern: PodTemplate, index: number): Pod {
  const free = { ...pattern.spec };
  delete free.nodeName;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: `${spec.name}-expected-${index}`,
      namespace: spec.namespace,
      labels: {
        ...withoutInstance(pattern.metadata?.labels),
        [LABEL.model]: spec.model,
        [LABEL.role]: spec.role,
        [LABEL.group]: spec.group,
        [LABEL.cell]: spec.cell,
      },
    },
    spec: free,
  };
}
