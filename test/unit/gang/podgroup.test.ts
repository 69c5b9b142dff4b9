import t from "tap";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { holdsByInstance, instancePodGroup, minimumViableSet, podGroupPlan } from "../../../src/gang/podgroup.ts";
import { waitsForGang } from "../../../src/gang/waiting.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { cellObjectName, cellOf } from "../../../src/workload/cell.ts";
import { workloadSpec } from "../../../src/workload/decode.ts";
import type { WorkloadSpec } from "../../../src/workload/spec.ts";
import { deployment, fabric } from "../../support/placement.ts";

/** Specs as the decoder makes them, with fields of interest replaced. */
const spec = (name: string, role: string, fields: Partial<WorkloadSpec> = {}): WorkloadSpec => {
  const { spec: decoded } = workloadSpec(deployment(name, { role }), {
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
  });
  if (decoded === undefined) throw new Error("the fixture must decode");
  return { ...decoded, ...fields };
};

const summary = (cell: readonly WorkloadSpec[]): [string, string, number, number][] =>
  minimumViableSet(cell).map(({ spec: { name }, role, instances, pods }) => [name, role, instances, pods]);

t.test("the minimum viable set", (t) => {
  const set = (prefill: number, decode: number): Partial<WorkloadSpec> => ({ gang: { kind: "set", prefill, decode } });
  const rows: [title: string, WorkloadSpec[], [string, string, number, number][]][] = [
    [
      "one instance of each role",
      [spec("d", "decode", { replicas: 4 }), spec("p", "prefill", { replicas: 2 })],
      [
        ["p", "prefill", 1, 1],
        ["d", "decode", 1, 1],
      ],
    ],
    [
      "an instance of several pods counts them",
      [spec("p", "prefill", { replicas: 4, nodesPerInstance: 2 }), spec("d", "decode")],
      [
        ["p", "prefill", 1, 2],
        ["d", "decode", 1, 1],
      ],
    ],
    [
      "a role without replicas is not waited for",
      [spec("p", "prefill", { replicas: 0 }), spec("d", "decode")],
      [["d", "decode", 1, 1]],
    ],
    [
      "a set is capped by the replicas there are",
      [spec("p", "prefill", { replicas: 3, ...set(2, 4) }), spec("d", "decode", { replicas: 3, ...set(2, 4) })],
      [
        ["p", "prefill", 2, 2],
        ["d", "decode", 3, 3],
      ],
    ],
    [
      "several workloads of one role share it, the smallest instances first",
      [
        spec("p-big", "prefill", { replicas: 4, nodesPerInstance: 4, ...set(2, 0) }),
        spec("p-small", "prefill", { replicas: 1, ...set(2, 0) }),
      ],
      [
        ["p-small", "prefill", 1, 1],
        ["p-big", "prefill", 1, 4],
      ],
    ],
    ["off", [spec("p", "prefill", { gang: { kind: "off" } })], []],
    ["the stage is left alone", [spec("p", "prefill", { skip: ["gang"] })], []],
    ["not managed", [spec("p", "prefill", { mode: "route" })], []],
  ];
  for (const [title, cell, expected] of rows) t.same(summary(cell), expected, title);
  t.end();
});

t.test("the PodGroup of a cell", (t) => {
  const cell = [spec("p", "prefill", { replicas: 2, queue: "inference" }), spec("d", "decode", { replicas: 2 })];
  const plan = podGroupPlan(cell);
  t.same(plan, {
    namespace: "default",
    name: cellObjectName(cellOf(cell[0]!)),
    spec: {
      minMember: 2,
      minTaskMember: { prefill: 1, decode: 1 },
      queue: "inference",
      networkTopology: { mode: "soft" },
    },
  });
  t.equal(podGroupPlan(cell, { apis: { podGroups: false, hyperNodes: true } }), undefined, "no such API");
  t.equal(podGroupPlan([]), undefined);
  t.equal(podGroupPlan(cell.map((one) => ({ ...one, replicas: 0 }))), undefined, "nothing is to run");
  t.end();
});

t.test("instances over several pods are subgroups, where the CRD has them", (t) => {
  const cell = [
    spec("p", "prefill", { replicas: 4, nodesPerInstance: 2, gang: { kind: "set", prefill: 2, decode: 1 } }),
    spec("d", "decode"),
  ];
  const policy = {
    name: "prefill",
    labelSelector: { matchLabels: { "tandem.sh/role": "prefill" } },
    matchLabelKeys: ["tandem.sh/instance"],
    subGroupSize: 2,
    minSubGroups: 2,
    networkTopology: { mode: "soft" },
  };
  t.same(podGroupPlan(cell)?.spec.subGroupPolicy, [policy]);
  const most = new Map([["prefill" as const, 2]]);
  const limited = podGroupPlan(cell, { most })?.spec;
  t.match(limited, { minMember: 3, minTaskMember: { prefill: 2, decode: 1 }, subGroupPolicy: [{ minSubGroups: 1 }] });
  const installed = (...fields: string[]) => ({
    apis: { podGroups: true, hyperNodes: true, podGroupFields: new Set(fields) },
  });
  const of = (...fields: string[]): unknown => podGroupPlan(cell, installed(...fields))?.spec;
  t.same(of("minMember"), { minMember: 5, minTaskMember: { prefill: 4, decode: 1 } }, "Volcano before 1.12");
  t.notOk(Object.hasOwn(of("networkTopology") as object, "subGroupPolicy"), "Volcano before 1.14");
  const named = [spec("p", "prefill", { topology: "required", topologyTier: "spine" })];
  t.same(
    podGroupPlan(named, installed("networkTopology"))?.spec.networkTopology,
    { mode: "soft" },
    "a tier name that neither can resolve",
  );
  const mixed = [
    ...cell,
    spec("q", "prefill", { replicas: 4, nodesPerInstance: 4, gang: { kind: "set", prefill: 3, decode: 1 } }),
  ];
  t.equal(podGroupPlan(mixed)?.spec.subGroupPolicy, undefined, "a label selector cannot tell the sizes apart");
  t.end();
});

t.test("one PodGroup for each instance", (t) => {
  const one = spec("p", "prefill", {
    nodesPerInstance: 2,
    queue: "q",
    device: { ...BUILT_IN[0]!, podGroup: "instance" },
  });
  t.ok(holdsByInstance(one));
  const plan = instancePodGroup(one, "0123456789ab");
  t.equal(plan.name, `${cellObjectName(cellOf(one))}-01234567`);
  t.same(plan.spec, { minMember: 2, minTaskMember: { prefill: 2 }, queue: "q", networkTopology: { mode: "soft" } });
  t.ok(waitsForGang(one, "volcano"), "gates alone hold the cell");
  t.notOk(waitsForGang(spec("p", "prefill"), "volcano"));
  t.end();
});

t.test("network topology of the PodGroup", (t) => {
  const { nodes, hyperNodes } = fabric(4, 2);
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes });
  const topology = (fields: Partial<WorkloadSpec>, known = true): unknown =>
    podGroupPlan([spec("p", "prefill", fields)], { tree: known ? tree : undefined })?.spec.networkTopology;
  t.same(topology({ topology: "required" }), { mode: "hard", highestTierAllowed: 1 }, "the closest tier there is");
  t.same(topology({ topology: "required", topologyTier: 2 }), { mode: "hard", highestTierAllowed: 2 });
  t.same(topology({ topology: "required", topologyTier: "spine" }), { mode: "hard", highestTierAllowed: 2 });
  t.same(
    topology({ topology: "required", topologyTier: "spine" }, false),
    { mode: "hard", highestTierName: "spine" },
    "Volcano translates what we cannot",
  );
  t.same(topology({ topology: "preferred", topologyTier: 2 }), { mode: "soft" });
  t.same(topology({ topology: "off" }), undefined);
  t.same(topology({ topology: "required", skip: ["topology"] }), undefined);
  t.end();
});
