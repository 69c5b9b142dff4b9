/** What a set of nodes costs in distance: KV blocks travel between every prefill and every decode pod of a cell. */
import type { Domain, TopologyTree } from "./tree.ts";

/** Steps from a node to a set of nodes, as mean and as share of the set at each distance. */
export interface Distances {
  /** Mean steps from this node to the set; 0 for an empty set. */
  readonly mean: (node: string) => number;
  /** Mean steps to the set from a node of this leaf that carries none of the set. */
  readonly meanFrom: (leaf: Domain) => number;
  /** Whether the node carries one of the set; all others of a leaf are as far as `meanFrom`. */
  readonly holds: (node: string) => boolean;
  /** How many of the set lie at each distance, by index 0 .. `tree.diameter`. */
  readonly spread: (node: string) => readonly number[];
}

/**
 * Distances to a set of nodes (one entry for each pod, so nodes may repeat). Counting the set below each domain once
 * makes each question cost as many steps as the tree is high, whatever the size of the set.
 */
export function distancesTo(tree: TopologyTree, set: readonly string[]): Distances {
  const onNode = new Map<string, number>();
  const below = new Map<Domain, number>();
  for (const node of set) {
    onNode.set(node, (onNode.get(node) ?? 0) + 1);
    for (let at: Domain | undefined = tree.leafOf(node); at !== undefined; at = at.parent)
      below.set(at, (below.get(at) ?? 0) + 1);
  }
  const climb = (leaf: Domain, here: number): number[] => {
    const counts = new Array<number>(tree.diameter + 1).fill(0);
    let nearer = here;
    counts[0] = nearer;
    for (let at: Domain | undefined = leaf; at !== undefined; at = at.parent) {
      const within = below.get(at) ?? 0;
      counts[at.step] = within - nearer;
      nearer = within;
    }
    return counts;
  };
  const average = (leaf: Domain, here: number): number => {
    let [sum, nearer] = [0, here];
    for (let at: Domain | undefined = leaf; at !== undefined; at = at.parent) {
      const within = below.get(at) ?? 0;
      sum += (within - nearer) * at.step;
      nearer = within;
    }
    return set.length === 0 ? 0 : sum / set.length;
  };
  const spread = (node: string): number[] => climb(tree.leafOf(node), onNode.get(node) ?? 0);
  const holds = (node: string): boolean => onNode.has(node);
  return {
    ...{ spread, holds },
    mean: (node) => average(tree.leafOf(node), onNode.get(node) ?? 0),
    meanFrom: (leaf) => average(leaf, 0),
  };
}

/** Cost of a placement: the mean steps between two of its pods; 0 for one node, `tree.diameter` at most. */
export function placementCost(tree: TopologyTree, nodes: readonly string[]): number {
  if (nodes.length < 2) return 0;
  const { mean } = distancesTo(tree, nodes);
  const sum = nodes.reduce((total, node) => total + mean(node) * nodes.length, 0);
  return sum / (nodes.length * (nodes.length - 1));
}
