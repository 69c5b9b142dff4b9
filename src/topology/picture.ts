/** A text picture of the topology tree, with the pods on its nodes, for terminals. */
import { keyOf, type Pod } from "../kinds/kube.ts";
import { byText, type Domain, type TopologyTree } from "./tree.ts";

/** What hangs below a line of the picture. */
interface Branch {
  readonly text: string;
  readonly below: readonly Branch[];
}

/** What a line says of its nodes beside their names, as of free devices; empty: nothing. */
export type NodesNote = (nodes: readonly string[]) => string;

/**
 * The tree, one line a domain or node. A node's line names its pods; domains and nodes without a pod are counted, not
 * drawn, so that the picture of a large cluster stays readable. `note` is added to every line of nodes. Ends without a
 * line break.
 */
export function topologyPicture(tree: TopologyTree, pods: readonly Pod[], note: NodesNote = () => ""): string {
  const byNode = Map.groupBy(
    pods.filter(({ spec }) => (spec.nodeName ?? "") !== ""),
    ({ spec }) => spec.nodeName ?? "",
  );
  const root = branchOf(tree.root, { tree, byNode, note });
  return [root.text, ...lines(root.below, "")].join("\n");
}

interface Drawing {
  readonly tree: TopologyTree;
  readonly byNode: ReadonlyMap<string, readonly Pod[]>;
  readonly note: NodesNote;
}

const noted = (title: string, text: string, mark = ":"): string => (text === "" ? title : `${title}${mark} ${text}`);

function branchOf(domain: Domain, drawing: Drawing): Branch {
  const { tree, byNode, note } = drawing;
  const used = domain.nodes.filter((node) => byNode.has(node));
  const said = note(domain.nodes);
  if (used.length === 0)
    return {
      text: noted(`${titleOf(domain)}: ${counted(domain.nodes.length, "node")}, no pods`, said, ","),
      below: [],
    };
  const direct = domain.nodes.filter((node) => tree.leafOf(node) === domain);
  return {
    text: noted(titleOf(domain), said),
    below: [
      ...domain.children.map((child) => branchOf(child, drawing)),
      ...direct.filter((node) => byNode.has(node)).map((node) => nodeBranch(node, drawing)),
      ...emptyBranch(
        direct.filter((node) => !byNode.has(node)),
        note,
      ),
    ],
  };
}

const emptyBranch = (nodes: readonly string[], note: NodesNote): Branch[] =>
  nodes.length === 0
    ? []
    : [{ text: noted(`${counted(nodes.length, "more node")} without pods`, note(nodes)), below: [] }];

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;

function titleOf({ name, tier, tierName, parent }: Domain): string {
  if (parent === undefined) return name;
  return `${name} (tier ${tier}${tierName === undefined ? "" : `, ${tierName}`})`;
}

const nodeBranch = (node: string, { byNode, note }: Drawing): Branch => ({
  text: noted(node, note([node])),
  below: (byNode.get(node) ?? [])
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
