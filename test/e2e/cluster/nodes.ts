/** Fake nodes of the test cluster, and the HyperNode tree over them: two tiers, leaves of equal size under one root. */
import { VOLCANO } from "../../../src/kinds/names.ts";

export interface NodeOptions {
  /** Default 16. */
  readonly count?: number;
  /** Default `node`: node-00, node-01, ... */
  readonly prefix?: string;
  /** Extended resource of the devices; default nvidia.com/gpu. */
  readonly resource?: string;
  /** Devices on each node; default 8. */
  readonly devices?: number;
  /** Nodes of one leaf of the tree; default 4. */
  readonly leafSize?: number;
  /** Further labels. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Label of a node that names its leaf. */
export const LEAF_LABEL = "volcano.sh/tor";

const nameOf = (prefix: string, index: number): string => `${prefix}-${String(index).padStart(2, "0")}`;
const leafOf = (options: NodeOptions, index: number): string =>
  `${options.prefix ?? "node"}-leaf-${Math.floor(index / (options.leafSize ?? 4))}`;
const indices = (options: NodeOptions): number[] => Array.from({ length: options.count ?? 16 }, (_, index) => index);

/** Nodes as a kubelet would register them. Nobody listens on their addresses. */
export function fakeNodes(options: NodeOptions = {}): object[] {
  const size = {
    cpu: "192",
    memory: "2Ti",
    pods: "110",
    "ephemeral-storage": "4Ti",
    [options.resource ?? "nvidia.com/gpu"]: String(options.devices ?? 8),
  };
  return indices(options).map((index) => {
    const name = nameOf(options.prefix ?? "node", index);
    const labels = {
      "kubernetes.io/hostname": name,
      "kubernetes.io/os": "linux",
      "kubernetes.io/arch": "amd64",
      [LEAF_LABEL]: leafOf(options, index),
      ...options.labels,
    };
    const addresses = [
      { type: "InternalIP", address: `127.65.${Math.floor(index / 250)}.${(index % 250) + 1}` },
      { type: "Hostname", address: name },
    ];
    return {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, labels },
      status: { allocatable: size, capacity: size, addresses },
    };
  });
}

/** Names of the nodes that `fakeNodes` makes for the same options, by leaf. */
export function leaves(options: NodeOptions = {}): ReadonlyMap<string, readonly string[]> {
  return Map.groupBy(
    indices(options).map((index) => nameOf(options.prefix ?? "node", index)),
    (_, index) => leafOf(options, index),
  );
}

/** HyperNodes: each leaf by label (tier 1), and one root over the leaves (tier 2). */
export function hyperNodeTree(options: NodeOptions = {}): object[] {
  const hyperNode = (name: string, tier: number, members: readonly object[]): object => ({
    apiVersion: VOLCANO.hyperNodeApiVersion,
    kind: "HyperNode",
    metadata: { name },
    spec: { tier, members },
  });
  const names = [...leaves(options).keys()];
  const byLabel = (leaf: string): object[] => [
    { type: "Node", selector: { labelMatch: { matchLabels: { [LEAF_LABEL]: leaf } } } },
  ];
  const roots = names.map((name) => ({ type: "HyperNode", selector: { exactMatch: { name } } }));
  return [
    ...names.map((leaf) => hyperNode(leaf, 1, byLabel(leaf))),
    hyperNode(`${options.prefix ?? "node"}-root`, 2, roots),
  ];
}
