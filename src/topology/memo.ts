/** The tree, kept while no node's labels and no HyperNode change: 5000 nodes under 300 HyperNodes take half a second. */
import type { Config } from "../config/schema.ts";
import type { Node } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { topologySource, topologyTree, type TopologyTree } from "./tree.ts";

type Ground = Pick<ClusterSnapshot, "nodes" | "hyperNodes">;
export type TreeOf = (ground: Ground) => TopologyTree;

/** One owner keeps one; there is no other state. */
export function rememberedTree(config: Config["topology"]): TreeOf {
  let before: Ground | undefined;
  let tree: TopologyTree | undefined;
  return (ground) => {
    const stands = before !== undefined && before.hyperNodes === ground.hyperNodes && sameNodes(before, ground);
    if (!stands || tree === undefined) tree = topologyTree(ground.nodes, topologySource(config, ground.hyperNodes));
    before = ground;
    return tree;
  };
}

const sameNodes = ({ nodes: before }: Ground, { nodes: after }: Ground): boolean =>
  before === after || (before.length === after.length && after.every((node, index) => isSameNode(before[index], node)));

/** Most changes of a node are heartbeats. */
const isSameNode = (before: Node | undefined, after: Node): boolean =>
  before === after || (before !== undefined && labelsOf(before) === labelsOf(after));

const labelsOf = ({ metadata }: Node): string => JSON.stringify([metadata.name, metadata.labels ?? {}]);
