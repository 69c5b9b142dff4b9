/** A text picture of the topology tree, with the pods on its nodes, for terminals. */
import { keyOf, type Pod } from "../kinds/kube.ts";
import { byText, type Domain, type TopologyTree } from "./tree.ts";

/** What hangs below a line of the picture. */
interface Branch {
  readonly text: string;
  readonly below: readonly Branch[];
}

/**
 * The tree, one line a domain or node. A node's line names its pods; domains and nodes without a pod are counted, not
 * drawn, so that the picture of a large cluster stays readable. Ends without a line break.
 */
export function topologyPicture(tree: TopologyTree, pods: readonly Pod[]): string {
  const byNode = Map.groupBy(
    pods.filter(({ spec }) => (spec.nodeName ?? "") !== ""),
    ({ spec }) => spec.nodeName ?? "",
  );
  const root = branchOf(tree.root, { tree, byNode });
  return [root.text, ...lines(root.below, "")].join("\n");
}

interface Drawing {
  readonly tree: TopologyTree;
  readonly byNode: ReadonlyMap<string, readonly Pod[]>;
}

function branchOf(domain: Domain, drawing: Drawing): Branch {
  const { tree, byNode } = drawing;
  const used = domain.nodes.filter((node) => byNode.has(node));
  if (used.length === 0)
    return { text: `${titleOf(domain)}: ${counted(domain.nodes.length, "node")}, no pods`, below: [] };
  const direct = domain.nodes.filter((node) => tree.leafOf(node) === domain);
  const empty = direct.filter((node) => !byNode.has(node)).length;
  return {
    text: titleOf(domain),
    below: [
      ...domain.children.map((child) => branchOf(child, drawing)),
      ...direct.filter((node) => byNode.has(node)).map((node) => nodeBranch(node, byNode.get(node) ?? [])),
      ...(empty === 0 ? [] : [{ text: `${counted(empty, "more node")} without pods`, below: [] }]),
    ],
  };
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;

function titleOf({ name, tier, tierName, parent }: Domain): string {
  if (parent === undefined) return name;
  return `${name} (tier ${tier}${tierName === undefined ? "" : `, ${tierName}`})`;
}

const nodeBranch = (node: string, pods: readonly Pod[]): Branch => ({
  text: node,
  below: pods
    .map(keyOf)
    .sort(byText)
    .map((text) => ({ text, below: [] })),
});

function lines(branches: readonly Branch[], indent: string): string[] {
  return branches.flatMap(({ text, below }, index) => {
    const last = index === branches.length - 1;
    return [`${indent}${last ? "└─" : "├─"} ${text}`, ...lines(below, `${indent}${last ? "  " : "│ "} `)];
  });
}
