/** The node label keys that stand for topology domains, for affinities that any scheduler understands. */
import { isObject, labelOf, type HyperNode, type HyperNodeMember, type LabelSelector } from "../kinds/kube.ts";

/** On HyperNodes made by Volcano's discovery from node labels: their `tierName` is the node label key. */
const DISCOVERY_SOURCE = "volcano.sh/network-topology-source";

/** The members that can be read as such. */
export const readableMembers = ({ spec }: HyperNode): readonly HyperNodeMember[] =>
  (Array.isArray(spec.members) ? spec.members : []).filter(
    (member: unknown): member is HyperNodeMember => isObject(member) && isObject(member["selector"]),
  );

/** Node label keys that one HyperNode is selected by, or was discovered from. */
export function labelKeys(hyperNode: HyperNode): readonly string[] {
  const selected = readableMembers(hyperNode).flatMap(({ selector: { labelMatch } }) => [
    ...Object.keys(labelMatch?.matchLabels ?? {}),
    ...(labelMatch?.matchExpressions ?? []).flatMap(({ key, operator }) => (operator === "In" ? [key] : [])),
  ]);
  return [...new Set([...selected, ...pairsOf(hyperNode).map(([key]) => key)])];
}

/**
 * Keys of the label selectors of HyperNodes, closest tier first. A key stands for a tier only where it tells its
 * HyperNodes apart: one that has the same value in two of them (a GPU type beside the rack) is no topology key.
 */
export function topologyKeys(hyperNodes: readonly HyperNode[]): readonly string[] {
  const tiers = [...new Set(hyperNodes.map(({ spec }) => spec.tier))].sort((a, b) => a - b);
  return [...new Set(tiers.flatMap((tier) => keysOf(hyperNodes.filter(({ spec }) => spec.tier === tier))))];
}

function keysOf(sameTier: readonly HyperNode[]): string[] {
  const owners = new Map<string, Map<string, Set<HyperNode>>>();
  for (const hyperNode of sameTier)
    for (const [key, value] of pairsOf(hyperNode)) {
      const values = owners.get(key) ?? new Map<string, Set<HyperNode>>();
      values.set(value, (values.get(value) ?? new Set()).add(hyperNode));
      owners.set(key, values);
    }
  return [...owners.entries()]
    .filter(([, values]) => [...values.values()].every((claimants) => claimants.size === 1))
    .map(([key]) => key)
    .sort();
}

function pairsOf(hyperNode: HyperNode): [string, string][] {
  const selected = readableMembers(hyperNode).flatMap(({ selector }) => equalities(selector.labelMatch));
  const { tierName } = hyperNode.spec;
  const value = tierName === undefined ? undefined : labelOf(hyperNode, tierName);
  const discovered = labelOf(hyperNode, DISCOVERY_SOURCE) === "label" && tierName !== undefined && value !== undefined;
  return discovered ? [...selected, [tierName, value]] : selected;
}

/** Only equality with one value names a domain by a label. */
function equalities(selector: LabelSelector | undefined): [string, string][] {
  const single = (selector?.matchExpressions ?? []).flatMap(({ key, operator, values = [] }): [string, string][] =>
    operator === "In" && values.length === 1 && values[0] !== undefined ? [[key, values[0]]] : [],
  );
  return [...Object.entries(selector?.matchLabels ?? {}), ...single];
}
