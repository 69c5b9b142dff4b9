import t from "tap";
import { capacity, DeviceLedger, lacking, podDemand, Trial } from "../../../src/gang/devices.ts";
import { nodeVerdict } from "../../../src/gang/fit.ts";
import { placePods } from "../../../src/gang/place.ts";
import type { Node, Pod } from "../../../src/kinds/kube.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { node, pod } from "../../support/placement.ts";

const NPU = "huawei.com/Ascend910";

const npuNode = (name: string, type = "module", devices = 8): Node => {
  const made = node(name, { gpus: 0, labels: { "accelerator-type": type } });
  return { ...made, status: { ...made.status, allocatable: { ...made.status?.allocatable, [NPU]: String(devices) } } };
};
const npuPod = (name: string, devices: number, told?: string, nodeName?: string): Pod => {
  const containers = [{ name: "c", resources: { limits: { [NPU]: String(devices) } } }];
  const made = pod(name, { model: null, spec: { containers }, ...(nodeName === undefined ? {} : { nodeName }) });
  return told === undefined ? made : { ...made, metadata: { ...made.metadata, annotations: { [NPU]: told } } };
};

function ledger(nodes: readonly Node[], pods: readonly Pod[]): DeviceLedger {
  const made = new DeviceLedger();
  made.update(nodes, pods);
  return made;
}

const names = (...devices: number[]): string => devices.map((device) => `Ascend910-${device}`).join(",");

const CASES: readonly { name: string; pods: Pod[]; free: number[]; slots: Record<number, number> }[] = [
  { name: "an empty node", pods: [], free: [4, 4], slots: { 1: 8, 2: 4, 4: 2, 8: 1 } },
  {
    name: "four free, two in each ring",
    pods: [npuPod("a", 2, names(0, 1), "n"), npuPod("b", 2, names(5, 6), "n")],
    free: [2, 2],
    slots: { 1: 4, 2: 2, 4: 0, 8: 0 },
  },
  {
    name: "four free in one ring",
    pods: [npuPod("a", 4, names(4, 5, 6, 7), "n")],
    free: [4, 0],
    slots: { 1: 4, 2: 2, 4: 1, 8: 0 },
  },
  {
    name: "pods that do not tell are taken to be packed tightly, beside those that do",
    pods: [npuPod("a", 2, undefined, "n"), npuPod("b", 1, names(7), "n"), npuPod("c", 1, undefined, "n")],
    free: [4, 0],
    slots: { 4: 1, 8: 0 },
  },
  { name: "a name that cannot be read tells nothing", pods: [npuPod("a", 4, "x", "n")], free: [0, 4], slots: { 4: 1 } },
];

for (const { name, pods, free, slots } of CASES)
  t.test(name, (t) => {
    const room = ledger([npuNode("n")], pods);
    t.same(room.rings("n", NPU), { size: 4, free });
    for (const [devices, count] of Object.entries(slots)) {
      const demand = podDemand(npuPod("x", Number(devices)).spec);
      t.equal(capacity(room, "n", demand), count, `pods of ${devices}`);
      t.equal(lacking(room, "n", demand), count === 0 ? NPU : undefined);
    }
    t.end();
  });

t.test("a device out of order is taken to lie where it hurts most", (t) => {
  t.same(ledger([npuNode("n", "module", 7)], []).rings("n", NPU)?.free, [3, 4]);
  t.same(ledger([npuNode("n", "module", 6)], []).rings("n", NPU)?.free, [3, 3]);
  t.end();
});

t.test("no rings without a product that has them", (t) => {
  const room = ledger([npuNode("n", "module-910b-8")], []);
  t.equal(room.rings("n", NPU), undefined);
  t.notOk(room.ringed);
  t.end();
});

t.test("a trial takes ring by ring, and gives back", (t) => {
  const trial = new Trial(ledger([npuNode("n")], []));
  const [three, two] = [3, 2].map((devices) => podDemand(npuPod("x", devices).spec));
  trial.take("n", three ?? new Map());
  trial.take("n", three ?? new Map());
  t.same(trial.rings("n", NPU)?.free, [1, 1]);
  t.equal(lacking(trial, "n", two ?? new Map()), NPU, "two are free, one in each ring");
  trial.give("n", three ?? new Map());
  t.same(trial.rings("n", NPU)?.free, [1, 4]);
  t.end();
});

t.test("the verdict tells the rings; the planner takes a node with a whole one", (t) => {
  const pods = [
    npuPod("a", 2, names(0, 1), "n0"),
    npuPod("b", 2, names(4, 5), "n0"),
    npuPod("c", 1, names(0), "n1"),
    npuPod("d", 1, names(1), "n1"),
    npuPod("e", 4),
  ];
  const nodes = [npuNode("n0"), npuNode("n1")];
  const asked = pods[4] as Pod;
  t.match(nodeVerdict(asked, nodes[0] as Node, podDemand(asked.spec), ledger(nodes, pods)), {
    reason: "NodeLacksDevices",
    message: "needs 4 huawei.com/Ascend910, 4 of 8 free, in rings of 4 with 2 and 2 free",
  });
  const plan = placePods({ nodes, tree: topologyTree(nodes, { kind: "none" }), pods, cells: [] });
  t.equal(plan.pods[0]?.node, "n1", "though the tighter node has four free as well");
  t.end();
});
