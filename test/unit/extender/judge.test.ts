/** One call about many nodes says of each what a call about it alone says: verdicts are shared only where they are equal. */
import t from "tap";
import { filterNodes, refusalsByNode } from "../../../src/extender/decide.ts";
import { ExtenderMemo } from "../../../src/extender/view.ts";
import type { Node, Pod } from "../../../src/kinds/kube.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { deployment, letGo, node, pod, snapshotOf } from "../../support/placement.ts";

const NPU = "huawei.com/Ascend910";
const NIC = "rdma/hca";
const GPU = "nvidia.com/gpu";

interface Given {
  readonly [GPU]?: number;
  readonly [NPU]?: number;
  readonly [NIC]?: number;
}

function nodeWith(name: string, devices: Given): Node {
  // Nodes with rings alone have the label: one of them, and no verdict is shared at all.
  const bare = node(name, devices[NPU] !== undefined ? { labels: { "accelerator-type": "module" } } : {});
  const amounts = Object.fromEntries(Object.entries(devices).map(([key, amount]) => [key, String(amount)]));
  return { ...bare, status: { ...bare.status, allocatable: { cpu: "64", memory: "512Gi", pods: "110", ...amounts } } };
}

const asking = (name: string, limits: Given, options: Parameters<typeof pod>[1] = {}): Pod => {
  const amounts = Object.fromEntries(Object.entries(limits).map(([key, amount]) => [key, String(amount)]));
  return pod(name, { ...options, spec: { containers: [{ name: "c", resources: { limits: amounts } }] } });
};

interface Case {
  readonly name: string;
  readonly nodes: readonly Node[];
  readonly pods?: readonly Pod[];
  readonly asked: Pod;
  readonly fit: readonly string[];
}

const held = (name: string, devices: Given, on: string): Pod => letGo(asking(name, devices, { model: "other" }), on);

const CASES: readonly Case[] = [
  {
    name: "nodes of unequal size, and of one size with unequal use",
    nodes: [4, 4, 8, 8, 8, 0].map((gpus, index) => nodeWith(`n${index}`, { [GPU]: gpus })),
    pods: [
      asking("a", { [GPU]: 2 }, { model: null, nodeName: "n1" }),
      asking("b", { [GPU]: 3 }, { model: null, nodeName: "n2" }),
      asking("c", { [GPU]: 6 }, { model: null, nodeName: "n3" }),
    ],
    asked: asking("asked", { [GPU]: 8 }),
    fit: ["n4"],
  },
  {
    name: "two resources, of which one or the other lacks",
    nodes: [
      nodeWith("n0", { [GPU]: 8, [NIC]: 0 }),
      nodeWith("n1", { [GPU]: 8, [NIC]: 1 }),
      nodeWith("n2", { [GPU]: 4, [NIC]: 1 }),
      nodeWith("n3", { [GPU]: 4, [NIC]: 0 }),
    ],
    asked: asking("asked", { [GPU]: 8, [NIC]: 1 }),
    fit: ["n1"],
  },
  {
    name: "rings: as many are free, in one ring or in two",
    nodes: ["n0", "n1"].map((name) => nodeWith(name, { [NPU]: 8 })),
    pods: [
      ...[2, 2].map((count, index) => {
        const made = asking(`half-${index}`, { [NPU]: count }, { model: null, nodeName: "n0" });
        const told = index === 0 ? "Ascend910-0,Ascend910-1" : "Ascend910-4,Ascend910-5";
        return { ...made, metadata: { ...made.metadata, annotations: { [NPU]: told } } };
      }),
      asking("whole", { [NPU]: 4 }, { model: null, nodeName: "n1" }),
    ],
    asked: asking("asked", { [NPU]: 4 }),
    fit: ["n1"],
  },
  {
    name: "room that is kept for others, on some of the nodes that are alike",
    nodes: ["n0", "n1", "n2", "n3"].map((name) => nodeWith(name, { [GPU]: 8 })),
    pods: [
      held("x", { [GPU]: 4 }, "n1"),
      held("y", { [GPU]: 8 }, "n2"),
      asking("z", { [GPU]: 4 }, { model: null, nodeName: "n3" }),
    ],
    asked: asking("asked", { [GPU]: 8 }),
    fit: ["n0"],
  },
];

const told = (asked: Pod, names: readonly string[], view: ReturnType<ExtenderMemo["view"]>): unknown => {
  const filtered = filterNodes(asked, names, view);
  const { fit } = filtered;
  const texts = [...refusalsByNode(filtered)].map(
    ([
      name,
      {
        verdict: { reason, message },
        hopeless,
      },
    ]) => {
      return [name, `${reason}: ${message}`, hopeless];
    },
  );
  return [...fit.map((name) => [name]), ...texts].map((each) => JSON.stringify(each)).sort();
};

for (const model of ["m", null])
  for (const { name, nodes, pods = [], asked, fit } of CASES)
    t.test(`${name}; asked for ${model === null ? "somebody else" : "us"}`, (t) => {
      const labels = model === null ? {} : asked.metadata.labels;
      const one: Pod = { ...asked, metadata: { ...asked.metadata, labels: { ...labels } } };
      const memo = new ExtenderMemo({
        topology: { source: "none", preset: "", levels: [] },
        devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
      });
      const workloads = [deployment("m", { annotations: { "tandem.sh/topology": "preferred" } })];
      const view = memo.view(snapshotOf({ nodes, pods, workloads }));
      const names = nodes.map(({ metadata }) => metadata.name ?? "");
      const alone = names.flatMap((each) => told(one, [each], view) as string[]).sort();
      t.strictSame(told(one, names, view), alone);
      t.strictSame(told(one, names.toReversed(), view), alone);
      if (model !== null) t.same(filterNodes(one, names, view).fit, fit);
      t.end();
    });
