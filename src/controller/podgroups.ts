/**
 * The PodGroup of each cell: what Volcano is asked to hold together.
 *
 * Spec and owners are ours by server-side apply. The status never is: the CRD has no status subresource, so a write of
 * the whole object would wipe what Volcano's scheduler keeps there.
 */
import { podGroupPlan, gangMembers } from "../gang/podgroup.ts";
import { annotationOf, keyOf, type KubeObject } from "../kinds/kube.ts";
import { VOLCANO } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { changed, skipped } from "../kinds/verdict.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { cellKey, cellOf } from "../workload/cell.ts";
import type { Action } from "./action.ts";
import type { Acts, Contract, Contracts } from "./contracts.ts";
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
  const wanted = contracts.cells.flatMap((cell) =>
    contracts.guard("PodGroups", cell[0]?.workload, () => wantedPodGroup(cell, context)),
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

interface Wanted {
  readonly object: KubeObject;
  readonly owners: readonly Contract[];
}

function wantedPodGroup(cell: readonly Contract[], { snapshot, tree }: PodGroupContext): Wanted[] {
  const specs = cell.map(({ spec }) => spec);
  const plan = podGroupPlan(specs, snapshot.apis, tree);
  const members = new Set(gangMembers(specs));
  const [first, ...rest] = cell.filter(({ spec }) => members.has(spec));
  if (plan === undefined || first === undefined) return [];
  const object: KubeObject = {
    apiVersion: VOLCANO.podGroupApiVersion,
    kind: "PodGroup",
    metadata: ownedMeta(plan.name, [first, ...rest]),
    spec: plan.spec,
  };
  return [{ object: sealed(object), owners: [first, ...rest] }];
}

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
