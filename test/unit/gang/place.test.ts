import t from "tap";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { placePods, type PlacementPlan } from "../../../src/gang/place.ts";
import type { Node, Pod } from "../../../src/kinds/kube.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { groupByCell } from "../../../src/workload/cell.ts";
import { workloadSpec } from "../../../src/workload/decode.ts";
import { deployment, fabric, node, pod } from "../../support/placement.ts";

interface Scene {
  readonly racks?: number;
  readonly size?: number;
  readonly pods: Pod[];
  readonly annotations?: Record<string, string>;
  readonly replicas?: { prefill: number; decode: number };
  /** Replaces nodes of the fabric, by name. */
  readonly nodes?: Node[];
}

/** One model `m` of two Deployments on racks of two nodes with 8 devices each. */
function run({ racks = 4, size = 2, pods, annotations = {}, replicas, nodes = [] }: Scene): PlacementPlan {
  const cluster = fabric(racks, size);
  const replaced = new Map(nodes.map((one) => [one.metadata.name, one]));
  const all = cluster.nodes.map((one) => replaced.get(one.metadata.name) ?? one);
  const count = replicas ?? { prefill: 1, decode: 1 };
  const specs = [
    deployment("p", { annotations, replicas: count.prefill }),
    deployment("d", { annotations, role: "decode", replicas: count.decode }),
  ].flatMap(
    (workload) => workloadSpec(workload, { devices: { defaultProfile: "nvidia", profiles: BUILT_IN } }).spec ?? [],
  );
  const tree = topologyTree(all, { kind: "hypernodes", hyperNodes: cluster.hyperNodes });
  return placePods({ nodes: all, tree, pods, cells: [...groupByCell(specs).values()] });
}

const nodesOf = (plan: PlacementPlan): Record<string, string | null> =>
  Object.fromEntries(plan.pods.map((one) => [one.pod.metadata.name ?? "", one.node]));
const p = (name: string, gpus: number, more: object = {}): Pod => pod(name, { gpus, ...more });
const d = (name: string, gpus: number, more: object = {}): Pod => pod(name, { gpus, role: "decode", ...more });
const busy = (on: string, gpus: number): Pod => pod(`busy-${on}`, { model: null, gpus, nodeName: on });

t.test("a cell goes whole into the smallest domain with room, the tightest among equals", (t) => {
  const plan = run({ pods: [p("p0", 8), d("d0", 4), busy("r2n0", 4)] });
  t.same(nodesOf(plan), { p0: "r2n1", d0: "r2n0" }, "rack-2 is left with nothing, the others would be broken into");
  t.match(plan.pods[0], { domain: "rack-2", tier: 1, verdict: { reason: "Placed", outcome: "allowed" } });
  t.match(plan.gangs, [{ group: "m", cell: "0", placed: true }]);
  t.end();
});

t.test("a cell too large for a leaf is kept within a spine, its minimum viable set within a leaf", (t) => {
  const pods = [p("p0", 8), p("p1", 8), d("d0", 8), d("d1", 4)];
  const plan = run({ pods, replicas: { prefill: 2, decode: 2 } });
  const placed = nodesOf(plan);
  t.ok(
    Object.values(placed).every((name) => /^r[01]/.test(name ?? "")),
    "within spine-0",
  );
  t.equal(placed["p0"]?.slice(0, 2), placed["d0"]?.slice(0, 2), "one prefill beside one decode");
  t.match(plan.pods[0], { domain: "spine-0", tier: 2 });
  t.end();
});

t.test("the gang is placed and the rest waits where not all of it fits", (t) => {
  const others = ["r1n0", "r1n1", "r2n0", "r2n1", "r3n0", "r3n1"].map((name) => busy(name, 8));
  const plan = run({ pods: [p("p0", 8), d("d0", 8), d("d1", 8), ...others], replicas: { prefill: 1, decode: 2 } });
  const placed = nodesOf(plan);
  t.equal(placed["d1"], null);
  t.same([placed["p0"], placed["d0"]].toSorted(), ["r0n0", "r0n1"]);
  t.match(plan.pods[2]?.verdict, {
    reason: "NodeLacksDevices",
    message: /8 nodes short of nvidia.com\/gpu \(.* needs 8 nvidia.com\/gpu, 0 of 8 free\)/,
  });
  t.equal(plan.pods[2]?.refused.length, 8, "every node has its reason");
  t.end();
});

t.test("a gang that does not fit is not placed at all, and the reason names numbers", (t) => {
  const others = ["r0n0", "r1n0", "r2n0", "r3n0"].map((name) => busy(name, 4));
  const plan = run({ pods: [p("p0", 8), d("d0", 8), ...others], annotations: { "tandem.sh/topology": "required" } });
  t.same(nodesOf(plan), { p0: null, d0: null });
  t.match(plan.gangs[0], {
    placed: false,
    verdict: {
      reason: "NoDomainFits",
      message: /m needs 16 nvidia.com\/gpu for 2 pods, the largest of 4 domains, rack-0 \(tier 1, rack\), has 12 free$/,
      numbers: { needs: 16, free: 12 },
    },
  });
  t.end();
});

t.test("room enough in pieces too small is said to be so", (t) => {
  const others = ["r0n0", "r0n1"].map((name) => busy(name, 1));
  const plan = run({
    racks: 1,
    pods: [p("p0", 8), d("d0", 4), ...others],
    annotations: { "tandem.sh/topology": "required" },
  });
  t.match(plan.gangs[0]?.verdict.message, /needs 12 .* rack-0 has 14 free, but in pieces that do not fit the pods/);
  t.end();
});

t.test("required stays within its tier, preferred leaves it, off does not look", (t) => {
  const others = ["r0n0", "r1n0", "r2n0", "r3n0"].map((name) => busy(name, 8));
  const scene = (topology: Record<string, string>): PlacementPlan =>
    run({ pods: [p("p0", 8), d("d0", 8), ...others], annotations: topology });
  t.same(nodesOf(scene({ "tandem.sh/topology": "required" })), { p0: null, d0: null });
  t.same(nodesOf(scene({ "tandem.sh/topology": "preferred" })), { p0: "r1n1", d0: "r0n1" }, "one spine");
  t.same(nodesOf(scene({ "tandem.sh/topology": "required", "tandem.sh/topology-tier": "spine" })), {
    p0: "r1n1",
    d0: "r0n1",
  });
  t.match(
    scene({ "tandem.sh/topology": "required", "tandem.sh/topology-tier": "pod" }).gangs[0]?.verdict.message,
    /up to tier "pod", but the tiers are 1 \(rack\), 2 \(spine\)/,
  );
  const off = run({
    pods: [p("p0", 8), d("d0", 8), busy("r0n0", 8), busy("r3n0", 4)],
    annotations: { "tandem.sh/topology": "off" },
  });
  t.ok(Object.values(nodesOf(off)).every((name) => name !== null));
  t.end();
});

t.test("new pods go to the pods of their cell that are bound", (t) => {
  const bound = [p("p0", 4, { nodeName: "r2n0" })];
  t.same(nodesOf(run({ pods: [...bound, d("d0", 4)] })), { d0: "r2n0" });
  const full = [...bound, busy("r2n0", 4), busy("r2n1", 8)];
  t.same(nodesOf(run({ pods: [...full, d("d0", 8)] })), { d0: "r3n0" }, "the neighbour below the same spine");
  const required = run({ pods: [...full, d("d0", 8)], annotations: { "tandem.sh/topology": "required" } });
  t.same(nodesOf(required), { d0: null }, "confined to rack-2");
  t.end();
});

t.test("selectors, taints, cordons and readiness are respected", (t) => {
  const nodes = [
    node("r0n0", { spec: { unschedulable: true } }),
    node("r0n1", { ready: false }),
    node("r1n0", { spec: { taints: [{ key: "x", effect: "NoSchedule" }] } }),
    node("r3n1", { labels: { pool: "gpu" } }),
  ];
  const only = { spec: { nodeSelector: { pool: "gpu" } } };
  t.same(nodesOf(run({ pods: [p("p0", 4, only), d("d0", 4)], nodes })), { p0: "r3n1", d0: "r3n1" });
  const nowhere = run({ pods: [p("p0", 4, { spec: { nodeSelector: { pool: "none" } } }), d("d0", 4)], nodes });
  t.same(nodesOf(nowhere), { p0: null, d0: null }, "half a gang is no gang");
  t.end();
});

t.test("a gang whose pods do not all exist yet waits for them", (t) => {
  const plan = run({ pods: [p("p0", 4)], replicas: { prefill: 1, decode: 1 } });
  t.same(nodesOf(plan), { p0: null });
  t.match(plan.pods[0]?.verdict, { reason: "GangIncomplete", message: /waits for 1 more decode pod$/ });
  t.end();
});

t.test("gang off: each pod as it comes", (t) => {
  const plan = run({ pods: [p("p0", 4)], annotations: { "tandem.sh/gang": "off" } });
  t.ok(nodesOf(plan)["p0"]);
  t.same(plan.gangs, []);
  t.end();
});

t.test("pods of nobody take the tightest node, after the cells", (t) => {
  const plan = run({ pods: [pod("x", { model: null, gpus: 2 }), p("p0", 4), d("d0", 4), busy("r3n1", 6)] });
  t.equal(nodesOf(plan)["x"], "r3n1");
  t.same(
    plan.pods.map((one) => one.pod.metadata.name),
    ["x", "p0", "d0"],
    "told in the order given",
  );
  t.end();
});
