import t from "tap";
import { placePods } from "../../../src/gang/place.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { groupByCell } from "../../../src/workload/cell.ts";
import { workloadSpec } from "../../../src/workload/decode.ts";
import { deployment, fabric, pod } from "../../support/placement.ts";

const held = (node: string, gpus: number): Pod => pod(`held-${node}`, { model: null, gpus, nodeName: node });

/** Nodes of the pods, by their names, on racks of two nodes with 8 devices each. */
function placed(racks: number, pods: readonly Pod[], size = 2): Record<string, string | null> {
  const { nodes, hyperNodes } = fabric(racks, size);
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes });
  const specs = ["0", "1"].flatMap((cell) =>
    (["prefill", "decode"] as const).flatMap(
      (role) =>
        workloadSpec(deployment(`${role}-${cell}`, { role, labels: { "tandem.sh/cell": cell } }), {
          devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
        }).spec ?? [],
    ),
  );
  const plan = placePods({ nodes, tree, pods, cells: [...groupByCell(specs).values()] });
  return Object.fromEntries(plan.pods.map(({ pod: one, node }) => [one.metadata.name ?? "", node]));
}
const rack = (node: string | null | undefined): string => (node ?? "none").slice(0, 2);

t.test("a small job takes what is left over, and breaks no free leaf", (t) => {
  const around = [held("r1n0", 6), held("r1n1", 8)];
  t.same(placed(3, [...around, pod("d", { role: "decode", gpus: 1 }), pod("p", { gpus: 1 })]), {
    d: "r1n0",
    p: "r1n0",
  });
  const lone = pod("lone", { model: null, gpus: 2 });
  t.same(placed(3, [...around, lone]), { lone: "r1n0" }, "a pod of nobody too");
  t.end();
});

t.test("a node is the smallest domain: a pair shares the tightest that takes both", (t) => {
  const around = [held("r0n0", 4), held("r0n1", 4), held("r1n0", 2)];
  t.same(placed(2, [...around, pod("d", { role: "decode", gpus: 3 }), pod("p", { gpus: 3 })]), {
    d: "r1n0",
    p: "r1n0",
  });
  t.end();
});

t.test("where several leaves are needed, each gets both roles", (t) => {
  const pods = (["prefill", "decode"] as const).flatMap((role) =>
    Array.from({ length: 6 }, (_, index) => pod(`${role}-${index}`, { role, gpus: 4 })),
  );
  const nodes = placed(4, pods);
  for (const role of ["prefill", "decode"]) {
    const racks = [0, 1, 2, 3, 4, 5].map((index) => rack(nodes[`${role}-${index}`]));
    t.equal(new Set(racks).size, 3, `${role} in all three racks: ${racks.join(" ")}`);
  }
  t.end();
});

t.test("pods of one instance stay in one leaf", (t) => {
  const member = (instance: string, index: number): Pod =>
    pod(`${instance}-${index}`, { gpus: 8, labels: { "tandem.sh/instance": instance } });
  // Names in an order in which neighbours in the list are of different instances.
  const pods = ["a", "b", "c", "d", "e"].flatMap((instance) => [member(instance, 0), member(instance, 1)]);
  const nodes = placed(
    8,
    pods.toSorted((a, b) => ((a.metadata.name ?? "") > (b.metadata.name ?? "") ? -1 : 1)),
  );
  for (const instance of ["a", "b", "c", "d", "e"])
    t.equal(rack(nodes[`${instance}-0`]), rack(nodes[`${instance}-1`]), instance);
  t.end();
});

t.test("cells of one service go to different failure domains where these are as good", (t) => {
  const cell = (name: string, labels: Record<string, string>): Pod[] => [
    pod(`d${name}`, { role: "decode", gpus: 8, labels }),
    pod(`p${name}`, { gpus: 8, labels }),
  ];
  const nodes = placed(4, [...cell("0", {}), ...cell("1", { "tandem.sh/cell": "1" })]);
  t.same([rack(nodes["d0"]), rack(nodes["p0"])], ["r0", "r0"]);
  t.equal(rack(nodes["d1"]), rack(nodes["p1"]));
  t.ok(["r2", "r3"].includes(rack(nodes["d1"])), `below the other spine, not ${rack(nodes["d1"])}`);
  t.end();
});

t.test("a refusal says how much is wanted and where most is free", (t) => {
  const { nodes, hyperNodes } = fabric(2, 2);
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes });
  const annotations = { "tandem.sh/topology": "required" };
  const specs = (["prefill", "decode"] as const).flatMap(
    (role) =>
      workloadSpec(deployment(role, { role, gpus: 8, annotations }), {
        devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
      }).spec ?? [],
  );
  const pods = [held("r0n0", 4), held("r1n0", 6), pod("p", { gpus: 8 }), pod("d", { role: "decode", gpus: 8 })];
  const plan = placePods({ nodes, tree, pods, cells: [specs] });
  t.equal(
    plan.gangs[0]?.verdict.message,
    "the minimum viable set of m needs 16 nvidia.com/gpu for 2 pods, the largest of 2 domains, rack-0 (tier 1, rack), has 12 free",
  );
  t.end();
});
