/**
 * The PodGroup of each cell: what Volcano is asked to hold together.
 *
 * Spec and owners are ours by server-side apply. The status never is: the CRD has no status subresource, so a write of
 * the whole object would wipe what Volcano's scheduler keeps there.
 */
import { isBound } from "../gang/devices.ts";
import { podRole, podsByCell } from "../gang/members.ts";
import {
  gangMembers,
  holdsByInstance,
  instancePodGroup,
  minimumViableSet,
  podGroupPlan,
  type PodGroupPlan,
} from "../gang/podgroup.ts";
import type { Role } from "../kinds/endpoint.ts";
import { annotationOf, isObject, keyOf, labelOf, type KubeObject, type Pod } from "../kinds/kube.ts";
import { LABEL, VOLCANO } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { changed, skipped } from "../kinds/verdict.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { cellKey, cellOf } from "../workload/cell.ts";
import type { Action } from "./action.ts";
import { schedulerOf, type Acts, type Contract, type Contracts } from "./contracts.ts";
import { isApplied, ownedMeta, sealed } from "./owned.ts";

export interface PodGroupContext {
  readonly snapshot: ClusterSnapshot;
  readonly contracts: Contracts;
  readonly acts: Acts;
  /** Gives tier names their numbers; undefined where no workload needs it. */
  readonly tree: TopologyTree | undefined;
}

export function podGroupActions(context: PodGroupContext): readonly Action[] {
  const { snapshot, contracts } = context;
  if (!snapshot.apis.podGroups) return contracts.cells.flatMap(absentAction);
  const cells = contracts.cells.map((cell) => cell.filter(isVolcanos)).filter((cell) => cell.length > 0);
  const peopled = { ...context, members: podsByCell(cells.length === 0 ? [] : snapshot.pods) };
  const wanted = cells.flatMap((cell) =>
    contracts.guard("PodGroups", cell[0]?.workload, () => wantedPodGroups(cell, peopled)),
  );
  const stored = new Map(snapshot.podGroups.map((podGroup) => [keyOf(podGroup), podGroup]));
  const writes = wanted.filter(({ object }) => !isApplied(stored.get(keyOf(object)), object)).map(applyAction);
  const kept = new Set(wanted.map(({ object }) => keyOf(object)));
  return [...writes, ...snapshot.podGroups.filter((found) => isStale(found, kept, context)).map(removeAction)];
}

/** Said once, and only to those who asked for Volcano by name. */
function absentAction(cell: readonly Contract[]): Action[] {
  const askers = cell.filter(({ spec }) => spec.scheduler === "volcano" && gangMembers([spec]).length > 0);
  const [first] = askers;
  if (first === undefined) return [];
  const message = "Volcano's PodGroup API is not installed; the cell is not held together by it";
  const verdict = skipped("PodGroupAbsent", message, { subject: cellKey(cellOf(first.spec)) });
  return [
    {
      do: "tell",
      key: `podgroup/${cellKey(cellOf(first.spec))}`,
      verdict,
      about: askers.map(({ workload }) => workload),
    },
  ];
}

interface Peopled extends PodGroupContext {
  /** By cell. */
  readonly members: ReadonlyMap<string, readonly Pod[]>;
}

interface Wanted {
  readonly object: KubeObject;
  readonly owners: readonly Contract[];
}

/** Other schedulers do not read PodGroups of Volcano's. */
const isVolcanos = (contract: Contract): boolean => schedulerOf(contract) === VOLCANO.schedulerName;

function wantedPodGroups(cell: readonly Contract[], context: Peopled): Wanted[] {
  const members = new Set(gangMembers(cell.map(({ spec }) => spec)));
  const held = cell.filter(({ spec }) => members.has(spec));
  const [byInstance, byCell] = [held.filter(isByInstance), held.filter((contract) => !isByInstance(contract))];
  return [...byInstance.flatMap((contract) => instanceGroups(contract, context)), ...cellGroup(byCell, context)];
}

const isByInstance = ({ spec }: Contract): boolean => holdsByInstance(spec);

function cellGroup(held: readonly Contract[], { snapshot, tree, members }: Peopled): Wanted[] {
  const [first, ...rest] = held;
  if (first === undefined) return [];
  const specs = held.map(({ spec }) => spec);
  const plan = podGroupPlan(specs, { apis: snapshot.apis, tree, most: mostOf(held, snapshot.podGroups, members) });
  return plan === undefined ? [] : [wantedOf(plan, [first, ...rest])];
}

const wantedOf = ({ name, spec }: PodGroupPlan, owners: readonly [Contract, ...Contract[]]): Wanted => ({
  object: sealed({
    apiVersion: VOLCANO.podGroupApiVersion,
    kind: "PodGroup",
    metadata: ownedMeta(name, owners),
    spec,
  }),
  owners,
});

/**
 * A minimum falls with the replicas, and rises when what it asks for is bound: while a cell runs, pods that are still to
 * come must not keep its replacements waiting. Before any is bound, the whole set counts from the start.
 */
function mostOf(
  held: readonly Contract[],
  podGroups: readonly KubeObject[],
  members: Peopled["members"],
): ReadonlyMap<Role, number> {
  const most = new Map<Role, number>();
  const specs = held.map(({ spec }) => spec);
  const name = podGroupPlan(specs)?.name;
  const key = `${specs[0]?.namespace ?? ""}/${name ?? ""}`;
  const stored = podGroups.find((podGroup) => keyOf(podGroup) === key);
  if (stored === undefined) return most;
  const bound = membersOf(specs[0], members).filter(isBound);
  if (bound.length === 0) return most;
  for (const role of new Set(minimumViableSet(specs).map((share) => share.role))) {
    const there = bound.filter((pod) => podRole(pod) === role).length;
    most.set(role, Math.max(there, storedMinimum(stored, role)));
  }
  return most;
}

function storedMinimum({ spec }: KubeObject, role: Role): number {
  const minimum = isObject(spec) && isObject(spec["minTaskMember"]) ? Number(spec["minTaskMember"][role]) : 0;
  return Number.isInteger(minimum) ? minimum : 0;
}

const membersOf = (spec: Contract["spec"] | undefined, members: Peopled["members"]): readonly Pod[] =>
  spec === undefined ? [] : (members.get(cellKey(cellOf(spec))) ?? []);

/** One for each engine instance that has its pods. */
function instanceGroups(contract: Contract, { snapshot, tree, members }: Peopled): Wanted[] {
  const { spec } = contract;
  const pods = membersOf(spec, members).filter((pod) => podRole(pod) === spec.role);
  const ids = new Set(pods.flatMap((pod) => instanceOf(pod, spec) ?? []));
  return [...ids].map((id) => wantedOf(instancePodGroup(spec, id, { apis: snapshot.apis, tree }), [contract]));
}

/** What tells the instance of a pod apart; undefined while it has no place in one. */
export const instanceOf = (pod: Pod, { nodesPerInstance }: Contract["spec"]): string | undefined =>
  nodesPerInstance === 1 ? pod.metadata.uid : labelOf(pod, LABEL.instance);

function applyAction({ object, owners }: Wanted): Action {
  const minimum = (object["spec"] as { minMember: number }).minMember;
  const verdict = changed("PodGroupApplied", `PodGroup ${keyOf(object)}: at least ${minimum} pods together`, {
    subject: keyOf(object),
    numbers: { minMember: minimum },
  });
  return {
    do: "apply",
    key: `podgroup/${keyOf(object)}`,
    verdict,
    about: owners.map(({ workload }) => workload),
    object,
  };
}

/** Pods that name a PodGroup which is not there wait for ever: it goes after the last of them. */
function isStale(
  podGroup: KubeObject,
  kept: ReadonlySet<string>,
  { snapshot, contracts, acts }: PodGroupContext,
): boolean {
  const { namespace = "", name, deletionTimestamp } = podGroup.metadata;
  if (kept.has(keyOf(podGroup)) || deletionTimestamp !== undefined) return false;
  if (!acts(namespace) || contracts.unclear.has(namespace)) return false;
  return !snapshot.pods.some(
    (pod) => pod.metadata.namespace === namespace && annotationOf(pod, VOLCANO.groupName) === name,
  );
}

const removeAction = (podGroup: KubeObject): Action => ({
  do: "remove",
  key: `podgroup/${keyOf(podGroup)}`,
  verdict: changed("PodGroupRemoved", `PodGroup ${keyOf(podGroup)}: nothing needs it`, { subject: keyOf(podGroup) }),
  about: [],
  kind: "PodGroup",
  ref: refOf(podGroup),
  uid: podGroup.metadata.uid,
});
