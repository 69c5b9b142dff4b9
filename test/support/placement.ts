/** Small clusters for tests of topology, gang and extender. */
import type { HyperNode, Node, Pod, Workload } from "../../src/kinds/kube.ts";
import { placementOf } from "../../src/gang/waiting.ts";
import { STATUS } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";

export interface NodeOptions {
  readonly gpus?: number;
  readonly labels?: Record<string, string>;
  readonly spec?: NonNullable<Node["spec"]>;
  readonly ready?: boolean;
}

export const node = (name: string, { gpus = 8, labels = {}, spec = {}, ready = true }: NodeOptions = {}): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name, labels: { "kubernetes.io/hostname": name, ...labels } },
  spec,
  status: {
    allocatable: { cpu: "64", memory: "512Gi", pods: "110", "nvidia.com/gpu": String(gpus) },
    conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
  },
});

export const hyperNode = (
  name: string,
  tier: number,
  members: HyperNode["spec"]["members"],
  tierName?: string,
): HyperNode => ({
  apiVersion: "topology.volcano.sh/v1alpha1",
  kind: "HyperNode",
  metadata: { name },
  spec: { tier, members, ...(tierName === undefined ? {} : { tierName }) },
});

export const exact = (type: "Node" | "HyperNode", ...names: string[]): HyperNode["spec"]["members"] =>
  names.map((name) => ({ type, selector: { exactMatch: { name } } }));

export interface PodOptions {
  readonly gpus?: number;
  readonly role?: string;
  readonly model?: string | null;
  readonly nodeName?: string;
  readonly labels?: Record<string, string>;
  readonly spec?: Partial<Pod["spec"]>;
}

/** A pod of model `m`, or of nobody where `model` is null. */
export const pod = (name: string, options: PodOptions = {}): Pod => {
  const { gpus = 4, role = "prefill", model = "m", nodeName, labels = {}, spec = {} } = options;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "default",
      uid: `uid-${name}`,
      labels: { ...(model === null ? {} : { "tandem.sh/model": model, "tandem.sh/role": role }), ...labels },
    },
    spec: { containers: [container(gpus)], ...spec, ...(nodeName === undefined ? {} : { nodeName }) },
  };
};

/** The pod after its gate was lifted for a node; `at` in milliseconds since the Unix epoch. */
export const letGo = (given: Pod, on: string, at = 0): Pod => ({
  ...given,
  metadata: {
    ...given.metadata,
    annotations: { ...given.metadata.annotations, [STATUS.placement]: placementOf({ node: on, at }) },
  },
});

const container = (gpus: number): Pod["spec"]["containers"][number] => ({
  name: "engine",
  image: "vllm/vllm-openai:v0.11.0",
  command: ["vllm", "serve", "Qwen/Qwen3-32B"],
  args: [`--tensor-parallel-size=${Math.max(1, gpus)}`],
  resources: { limits: { "nvidia.com/gpu": String(gpus) }, requests: { cpu: "4", memory: "16Gi" } },
});

export interface WorkloadOptions {
  readonly replicas?: number;
  readonly gpus?: number;
  readonly role?: string;
  readonly model?: string;
  readonly annotations?: Record<string, string>;
  readonly labels?: Record<string, string>;
}

export const deployment = (name: string, options: WorkloadOptions = {}): Workload => {
  const { replicas = 1, gpus = 4, role = "prefill", model = "m", annotations = {}, labels = {} } = options;
  const all = { "tandem.sh/model": model, "tandem.sh/role": role, ...labels };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "default", uid: `uid-${name}`, labels: all, annotations },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name, ...all } }, spec: { containers: [container(gpus)] } },
    },
  };
};

/** `racks` leaves of `size` nodes, two racks to a spine. Nodes are `r0n0`, leaves `rack-0` (tier 1), spines `spine-0`. */
export function fabric(racks: number, size: number, gpus = 8): { nodes: Node[]; hyperNodes: HyperNode[] } {
  const nodes: Node[] = [];
  const hyperNodes: HyperNode[] = [];
  for (let rack = 0; rack < racks; rack++) {
    const names = Array.from({ length: size }, (_, index) => `r${rack}n${index}`);
    nodes.push(...names.map((name) => node(name, { gpus })));
    hyperNodes.push(hyperNode(`rack-${rack}`, 1, exact("Node", ...names), "rack"));
  }
  for (let spine = 0; spine * 2 < racks; spine++) {
    const below = [2 * spine, 2 * spine + 1].filter((rack) => rack < racks).map((rack) => `rack-${rack}`);
    hyperNodes.push(hyperNode(`spine-${spine}`, 2, exact("HyperNode", ...below), "spine"));
  }
  return { nodes, hyperNodes };
}

export const snapshotOf = (parts: Partial<ClusterSnapshot>): ClusterSnapshot => ({ ...EMPTY_SNAPSHOT, ...parts });
