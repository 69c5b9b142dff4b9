import t from "tap";
import { placePods, type PlacementPlan } from "../../../src/gang/place.ts";
import type { Node, Pod } from "../../../src/kinds/kube.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { groupByCell } from "../../../src/workload/cell.ts";
import { workloadSpec } from "../../../src/workload/decode.ts";
import { deployment, fabric, pod, type PodOptions } from "../../support/placement.ts";

interface Scene {
  /** Of both pods of the gang. */
  readonly pod?: Partial<Pod["spec"]>;
  readonly requests?: Readonly<Record<string, string>>;
  readonly gpus?: number;
  readonly others?: readonly Pod[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly node?: (node: Node) => Node;
}

/** Prefill and decode of model `m`, a pod each, on two racks of two nodes: 64 cores, 512Gi, 8 devices a node. */
function plan({
  pod: spec = {},
  requests = {},
  gpus = 4,
  others = [],
  annotations = {},
  node = (n) => n,
}: Scene): PlacementPlan {
  const cluster = fabric(2, 2);
  const nodes = cluster.nodes.map(node);
  const made = ["prefill", "decode"].map((role) => asking(pod(`m-${role}`, { gpus, role, spec }), requests));
  const cells = ["prefill", "decode"].flatMap(
    (role) =>
      workloadSpec(deployment(role, { annotations: { ...annotations }, role, replicas: 1 }), {
        devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
      }).spec ?? [],
  );
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes: cluster.hyperNodes });
  return placePods({ nodes, tree, pods: [...made, ...others], cells: [...groupByCell(cells).values()] });
}

function asking(one: Pod, requests: Readonly<Record<string, string>>): Pod {
  const [container] = one.spec.containers;
  const limits = { ...container?.resources?.limits, ...container?.resources?.requests, ...requests };
  return { ...one, spec: { ...one.spec, containers: [{ name: "e", ...container, resources: { limits } }] } };
}

const NPU = "huawei.com/Ascend910";
const RINGED = { "accelerator-type": "module" };
/** With the annotation of the device plugin that says which it holds. */
const telling = (one: Pod, held: string): Pod => ({
  ...one,
  metadata: { ...one.metadata, annotations: { [NPU]: held } },
});

const NAMES = ["r0n0", "r0n1", "r1n0", "r1n1"];
const busy = (on: string, options: PodOptions, requests: Readonly<Record<string, string>> = {}): Pod =>
  asking(pod(`busy-${on}`, { model: null, nodeName: on, gpus: 0, ...options }), requests);
const everywhere = (options: PodOptions, requests: Readonly<Record<string, string>> = {}): Pod[] =>
  NAMES.map((name) => busy(name, options, requests));
const allocatable =
  (more: Readonly<Record<string, string>>) =>
  (node: Node): Node => ({
    ...node,
    status: { ...node.status, allocatable: { ...node.status?.allocatable, ...more } },
  });
const tainted = (node: Node): Node => ({
  ...node,
  spec: { taints: [{ key: "dedicated", value: "x", effect: "NoSchedule" }] },
});
const REQUIRED = { "tandem.sh/topology": "required", "tandem.sh/topology-tier": "1" };
const APART = { labelSelector: { matchLabels: { "tandem.sh/model": "m" } }, topologyKey: "kubernetes.io/hostname" };
const port = { containers: [{ name: "e", ports: [{ containerPort: 80, hostPort: 80 }] }] };

const TABLE: readonly (readonly [string, Scene, string])[] = [
  [
    "devices",
    { gpus: 8, others: everywhere({ gpus: 6 }) },
    "needs 16 nvidia.com/gpu for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 8 free",
  ],
  [
    "devices within a required domain",
    { gpus: 8, others: NAMES.slice(1).map((name) => busy(name, { gpus: 4 })), annotations: REQUIRED },
    "needs 16 nvidia.com/gpu for 2 pods, the largest of 2 domains, rack-0 (tier 1, rack), has 12 free",
  ],
  [
    "devices in pieces",
    { gpus: 6, others: everywhere({ gpus: 4 }) },
    "needs 12 nvidia.com/gpu for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 16 free, but in pieces that do not fit the pods; no node takes default/m-decode: 4 nodes short of nvidia.com/gpu (the freest, r0n0: needs 6 nvidia.com/gpu, 4 of 8 free)",
  ],
  [
    "memory of all nodes together",
    { requests: { memory: "2Ti" } },
    "needs 4Ti memory for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 2Ti free",
  ],
  [
    "memory of each node",
    { requests: { memory: "600Gi" } },
    "needs 1200Gi memory for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 2Ti free, but in pieces that do not fit the pods; no node takes default/m-decode: 4 nodes short of memory (the freest, r0n0: needs 600Gi memory, 512Gi of 512Gi free)",
  ],
  [
    "cpu",
    { others: everywhere({}, { cpu: "60" }), requests: { cpu: "8" } },
    "needs 16 cpu for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 16 free, but in pieces that do not fit the pods; no node takes default/m-decode: 4 nodes short of cpu (the freest, r0n0: needs 8 cpu, 4 of 64 free)",
  ],
  [
    "ephemeral storage",
    { node: allocatable({ "ephemeral-storage": "100Gi" }), requests: { "ephemeral-storage": "120Gi" } },
    "needs 240Gi ephemeral-storage for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 400Gi free, but in pieces that do not fit the pods; no node takes default/m-decode: 4 nodes short of ephemeral-storage (the freest, r0n0: needs 120Gi ephemeral-storage, 100Gi of 100Gi free)",
  ],
  [
    "a resource that no node has",
    { requests: { "rdma/hca": "1" } },
    "needs 2 rdma/hca for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 0 free",
  ],
  [
    "pods of a node",
    { node: allocatable({ pods: "0" }) },
    "needs 2 places for pods for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 0 free",
  ],
  [
    "taints",
    { node: tainted },
    "finds no place: in the largest of 4 domains, cluster (tier 3), no node takes default/m-decode: 4 nodes: taint dedicated=x:NoSchedule is not tolerated",
  ],
  [
    "some taints",
    { gpus: 8, node: (node) => (node.metadata.name === "r0n0" ? node : tainted(node)) },
    "needs 16 nvidia.com/gpu for 2 pods, the largest of 4 domains, rack-0 (tier 1, rack), has 8 free on 1 of its 2 nodes (1 node: taint dedicated=x:NoSchedule is not tolerated)",
  ],
  [
    "selector",
    { pod: { nodeSelector: { zone: "z" } } },
    "finds no place: in the largest of 4 domains, cluster (tier 3), no node takes default/m-decode: 4 nodes: has not the label zone=z of the pod's nodeSelector",
  ],
  [
    "host ports",
    { gpus: 1, others: everywhere({ gpus: 0, spec: port }), pod: port },
    "finds no place: in the largest of 4 domains, spine-0 (tier 2, spine), no node takes default/m-decode: 4 nodes: a host port that is taken keeps it off the node",
  ],
  [
    "anti-affinity between nodes",
    {
      gpus: 1,
      others: ["r0n0", "r1n0"].map((on) => busy(on, { gpus: 8 })),
      pod: { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [APART] } } },
      annotations: REQUIRED,
    },
    "finds no place: in the largest of 2 domains, rack-0 (tier 1, rack), no node takes default/m-prefill, once 1 of 2 pods are placed: 1 node: its pod anti-affinity keeps it off the node, 1 node short of nvidia.com/gpu (r0n0: needs 1 nvidia.com/gpu, 0 of 8 free)",
  ],
  [
    "spread",
    {
      gpus: 1,
      others: NAMES.slice(0, 2).map((on) => busy(on, { gpus: 8 })),
      pod: {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: "kubernetes.io/hostname",
            whenUnsatisfiable: "DoNotSchedule",
            labelSelector: { matchLabels: { "tandem.sh/model": "m" } },
          },
        ],
      },
      node: (node) => (node.metadata.name === "r1n1" ? { ...node, spec: { unschedulable: true } } : node),
    },
    "finds no place: in the largest of 4 domains, rack-1 (tier 1, rack), no node takes default/m-prefill, once 1 of 2 pods are placed: 1 node: cordoned, 1 node: its topology spread keeps it off the node",
  ],
  [
    "rings",
    {
      gpus: 0,
      requests: { [NPU]: "4" },
      node: (node) => allocatable({ [NPU]: "8" })({ ...node, metadata: { ...node.metadata, labels: RINGED } }),
      // Three of each ring.
      others: NAMES.map((on) => telling(busy(on, {}, { [NPU]: "2" }), "Ascend910-0,Ascend910-4")),
    },
    "needs 8 huawei.com/Ascend910 for 2 pods, the largest of 4 domains, spine-0 (tier 2, spine), has 24 free, but in pieces that do not fit the pods; no node takes default/m-decode: 4 nodes short of huawei.com/Ascend910 (the freest, r0n0: needs 4 huawei.com/Ascend910, 6 of 8 free, in rings of 4 with 3 and 3 free)",
  ],
  [
    "enough of each, but on different nodes",
    {
      gpus: 8,
      requests: { memory: "400Gi" },
      others: [
        ...NAMES.slice(0, 2).map((on) => busy(on, { gpus: 8 })),
        ...NAMES.slice(2).map((on) => busy(on, {}, { memory: "200Gi" })),
      ],
    },
    "needs 800Gi memory for 2 pods, the largest of 4 domains, rack-1 (tier 1, rack), has 624Gi free",
  ],
];

for (const [name, scene, wanted] of TABLE)
  t.test(name, (t) => {
    const { gangs } = plan(scene);
    t.match(gangs, [{ placed: false, verdict: { reason: "NoDomainFits" } }]);
    t.equal(gangs[0]?.verdict.message, `the minimum viable set of m ${wanted}`);
    t.end();
  });
