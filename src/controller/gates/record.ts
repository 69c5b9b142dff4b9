/**
 * That a cell stands, and where: a ConfigMap for each, which admission reads when further pods are made.
 *
 * Pods of a cell that stands get no gate, so that nothing waits for a controller while the cell serves, and are kept in
 * its domain by an affinity. The record goes when no bound pod of the cell has served and its minimum viable set is not
 * bound: the next gang is held again.
 */
import { isObject, keyOf, type KubeObject, type Node } from "../../kinds/kube.ts";
import { refOf } from "../../kinds/resource.ts";
import { changed } from "../../kinds/verdict.ts";
import { domainExpression, type DomainExpression } from "../../topology/expression.ts";
import type { Domain, TopologyTree } from "../../topology/tree.ts";
import { cellOf, standingName } from "../../workload/cell.ts";
import type { Action } from "../action.ts";
import type { Contract } from "../contracts.ts";
import { isApplied, ownedMeta, sealed } from "../owned.ts";

export const recordKey = ({ spec }: Contract): string => `${spec.namespace}/${standingName(cellOf(spec))}`;

/** Where a cell stands that has no requirement: anywhere. */
export function recordOf(
  owners: readonly [Contract, ...Contract[]],
  domain: Domain | undefined,
  { tree, nodes }: { tree: TopologyTree; nodes: readonly Node[] },
): KubeObject {
  const expression = domain === undefined ? undefined : domainExpression(domain, tree, nodes);
  return sealed({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: ownedMeta(standingName(cellOf(owners[0].spec)), owners),
    data: { domain: domain?.name ?? "", ...(expression === undefined ? {} : { in: JSON.stringify(expression) }) },
  });
}

export function recordActions(
  stored: KubeObject | undefined,
  wanted: KubeObject,
  owners: readonly Contract[],
): readonly Action[] {
  if (isApplied(stored, wanted)) return [];
  const data = wanted["data"];
  const where = isObject(data) && data["domain"] !== "" ? ` in ${String(data["domain"])}` : "";
  const message = `${keyOf(wanted)}: the minimum viable set is bound${where}`;
  return [
    {
      do: "apply",
      key: `standing/${keyOf(wanted)}`,
      verdict: changed("CellStands", message, { subject: keyOf(wanted) }),
      about: owners.map(({ workload }) => workload),
      object: wanted,
    },
  ];
}

export const fallenAction = (record: KubeObject): Action => ({
  do: "remove",
  key: `standing/${keyOf(record)}`,
  verdict: changed(
    "CellFell",
    `${keyOf(record)}: no bound pod of the cell has served, and its minimum viable set is not bound`,
    { subject: keyOf(record) },
  ),
  about: [],
  kind: "ConfigMap",
  ref: refOf(record),
  uid: record.metadata.uid,
});

/** The requirement that keeps a pod in a domain, as a record or a placement gives it. */
export type { DomainExpression };
