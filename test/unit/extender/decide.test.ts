import t from "tap";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { filterNodes, prioritizeNodes, refusalsByNode } from "../../../src/extender/decide.ts";
import { ExtenderMemo, type ClusterView } from "../../../src/extender/view.ts";
import type { Pod, Workload } from "../../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { deployment, fabric, node, pod, snapshotOf } from "../../support/placement.ts";

const memo = (): ExtenderMemo =>
  new ExtenderMemo({
    topology: { source: "hypernodes", preset: "", levels: [] },
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
  });

const names = (snapshot: ClusterSnapshot): string[] => snapshot.nodes.map(({ metadata }) => metadata.name ?? "");

interface Scene {
  readonly pods?: Pod[];
  readonly workloads?: Workload[];
  readonly annotations?: Record<string, string>;
  readonly replicas?: number;
}

/** Four racks of two nodes with 8 devices; model `m` with prefill and decode of 8 devices each. */
function scene({ pods = [], workloads, annotations = {}, replicas = 1 }: Scene): ClusterSnapshot {
  const pair = [
    deployment("p", { gpus: 8, annotations, replicas }),
    deployment("d", { gpus: 8, annotations, replicas, role: "decode" }),
  ];
  return snapshotOf({ ...fabric(4, 2), pods, workloads: workloads ?? pair });
}

const p = (more: object = {}): Pod => pod("p0", { gpus: 8, ...more });
const d = (more: object = {}): Pod => pod("d0", { gpus: 8, role: "decode", ...more });
const busy = (on: string, gpus = 8): Pod => pod(`busy-${on}`, { model: null, gpus, nodeName: on });

const scores = (
  asked: Pod,
  snapshot: ClusterSnapshot,
  view: ClusterView = memo().view(snapshot),
): Record<string, number> =>
  Object.fromEntries(prioritizeNodes(asked, names(snapshot), view).map(({ host, score }) => [host, score]));

const refusals = (asked: Pod, snapshot: ClusterSnapshot): Record<string, string> => {
  const refused = refusalsByNode(filterNodes(asked, names(snapshot), memo().view(snapshot)));
  return Object.fromEntries([...refused].map(([name, { verdict }]) => [name, verdict.reason]));
};

const best = (found: Record<string, number>): string[] => {
  const most = Math.max(...Object.values(found));
  return Object.keys(found).filter((name) => found[name] === most);
};

t.test("filter refuses nodes with too few free devices, with the numbers", (t) => {
  const snapshot = scene({ pods: [busy("r0n0", 1), busy("r1n1", 8)] });
  const filtered = filterNodes(p(), names(snapshot), memo().view(snapshot));
  const [{ fit }, refused] = [filtered, refusalsByNode(filtered)];
  t.same(fit, ["r0n1", "r1n0", "r2n0", "r2n1", "r3n0", "r3n1"], "in the order asked");
  t.match(refused.get("r0n0")?.verdict, {
    outcome: "denied",
    reason: "NodeLacksDevices",
    message: "needs 8 nvidia.com/gpu, 7 of 8 free",
    numbers: { needs: 8, free: 7 },
  });
  t.end();
});

t.test("filter leaves cpu, taints and selectors to the scheduler", (t) => {
  const cluster = fabric(1, 1);
  const snapshot = snapshotOf({
    ...cluster,
    nodes: [node("r0n0", { spec: { unschedulable: true } })],
    workloads: [],
  });
  const asked = pod("p0", { spec: { containers: [{ name: "c", resources: { requests: { cpu: "900" } } }] } });
  t.same(filterNodes(asked, ["r0n0"], memo().view(snapshot)).fit, ["r0n0"]);
  t.end();
});

t.test("an unknown node is refused, for our pods only", (t) => {
  const snapshot = scene({});
  const view = memo().view(snapshot);
  t.match(refusalsByNode(filterNodes(p(), ["new"], view)).get("new")?.verdict, { reason: "NodeUnknown" });
  t.same(filterNodes(pod("x", { model: null, gpus: 99 }), ["new", "r0n0"], view).fit, ["new", "r0n0"]);
  t.match(prioritizeNodes(p(), ["new"], view), [{ host: "new", score: 0, verdict: { reason: "NodeUnknown" } }]);
  t.end();
});

t.test("pods of others are never ranked", (t) => {
  const found = scores(pod("x", { model: null }), scene({}));
  t.ok(Object.values(found).every((score) => score === 0));
  t.end();
});

t.test("the first pod goes where the rest of its cell will find room", (t) => {
  // Every rack but the last has room for one pod only: the first pod alone would fit in all of them.
  const snapshot = scene({ pods: ["r0n0", "r1n0", "r2n0"].map((name) => busy(name)) });
  const first = scores(p(), snapshot);
  t.equal(first["r3n0"] === 10 || first["r3n1"] === 10, true);
  t.ok(best(first).every((name) => name.startsWith("r3")));
  t.end();
});

t.test("two pods asked about before the first is seen bound go to one leaf", (t) => {
  const snapshot = scene({ pods: [p(), d(), busy("r0n0")] });
  const view = memo().view(snapshot);
  const [one] = best(scores(p(), snapshot, view));
  const [two] = best(scores(d(), snapshot, view));
  t.ok(one !== undefined && two !== undefined);
  t.equal(view.tree.leafOf(one ?? "").name, view.tree.leafOf(two ?? "").name);
  t.not(one, two, "each fills a node");
  t.same(scores(d(), snapshot), scores(d(), snapshot), "and every replica says the same");
  t.end();
});

t.test("later pods are drawn to the bound ones, nearer is better", (t) => {
  const snapshot = scene({ pods: [p({ nodeName: "r2n0" }), d()] });
  const found = scores(d(), snapshot);
  t.equal(found["r2n1"], 10, "the planned node");
  t.ok(found["r3n0"]! > found["r0n0"]!, "the same spine is better than another");
  t.end();
});

t.test("a pod beyond the plan is ranked by distance", (t) => {
  const bound = [p({ nodeName: "r2n0" }), d({ nodeName: "r2n1" })];
  const surge = pod("p1", { gpus: 4 });
  const found = scores(surge, scene({ pods: bound }));
  t.ok(found["r2n0"]! > found["r3n0"]! && found["r3n0"]! > found["r1n0"]!);
  t.ok(Object.values(found).every((score) => score >= 0 && score <= 10));
  t.end();
});

t.test("required confines to the domain of the bound pods", (t) => {
  const annotations = { "tandem.sh/topology": "required" };
  const snapshot = scene({ pods: [p({ nodeName: "r2n0" }), d()], annotations });
  const found = refusals(d(), snapshot);
  t.notOk("r2n1" in found);
  t.equal(found["r3n0"], "NodeOutsideDomain");
  t.equal(found["r2n0"], "NodeLacksDevices");
  const wide = { ...annotations, "tandem.sh/topology-tier": "spine" };
  const spine = refusals(d(), scene({ pods: [p({ nodeName: "r2n0" }), d()], annotations: wide }));
  t.notOk("r3n0" in spine);
  t.equal(spine["r1n0"], "NodeOutsideDomain");
  t.end();
});

t.test("required confines the first pod to the planned domain", (t) => {
  const pods = ["r0n0", "r1n0", "r2n0"].map((name) => busy(name));
  const found = refusals(p(), scene({ pods, annotations: { "tandem.sh/topology": "required" } }));
  t.same(Object.keys(found).toSorted(), ["r0n0", "r0n1", "r1n0", "r1n1", "r2n0", "r2n1"]);
  t.equal(found["r0n1"], "NodeOutsideDomain");
  t.end();
});

t.test("required and nowhere room for the gang: no node, with the numbers", (t) => {
  const pods = ["r0n0", "r1n0", "r2n0", "r3n0"].map((name) => busy(name));
  const snapshot = scene({ pods, annotations: { "tandem.sh/topology": "required" } });
  const filtered = filterNodes(p(), names(snapshot), memo().view(snapshot));
  const [{ fit }, refused] = [filtered, refusalsByNode(filtered)];
  t.same(fit, []);
  t.match(refused.get("r0n1")?.verdict, { reason: "NoDomainFits", message: /needs 16 nvidia.com\/gpu for 2 pods/ });
  t.end();
});

t.test("preferred and off never confine", (t) => {
  for (const topology of ["preferred", "off"]) {
    const snapshot = scene({ pods: [p({ nodeName: "r2n0" })], annotations: { "tandem.sh/topology": topology } });
    t.same(Object.keys(refusals(d(), snapshot)), ["r2n0"], topology);
  }
  const off = scores(d(), scene({ annotations: { "tandem.sh/topology": "off" } }));
  t.ok(Object.values(off).every((score) => score === 0));
  t.end();
});

t.test("a cell does not take the leaf that a begun cell still needs", (t) => {
  const workloads = ["a", "b"].flatMap((model) => [
    deployment(`${model}-p`, { model, gpus: 8 }),
    deployment(`${model}-d`, { model, gpus: 8, role: "decode" }),
  ]);
  const begun = pod("b-p0", { model: "b", gpus: 8, nodeName: "r0n0" });
  const pods = [begun, busy("r1n0"), busy("r2n0")];
  const found = scores(pod("a-p0", { model: "a", gpus: 8 }), scene({ workloads, pods }));
  t.ok(
    best(found).every((name) => name.startsWith("r3")),
    "rack-3 is whole, rack-0 is promised",
  );
  t.end();
});

t.test("a pod whose workload is not known yet speaks for itself", (t) => {
  const carried = p({ nodeName: undefined });
  carried.metadata.annotations = { "tandem.sh/topology": "required", "tandem.sh/mode": "manage" };
  const sibling = d({ nodeName: "r2n0" });
  const found = refusals(carried, scene({ workloads: [], pods: [sibling] }));
  t.equal(found["r0n0"], "NodeOutsideDomain");
  t.end();
});

t.test("the memo gives for changed snapshots what a new one gives", (t) => {
  const kept = memo();
  const base = scene({ replicas: 2 });
  const steps: ClusterSnapshot[] = [
    base,
    { ...base, pods: [p({ nodeName: "r1n0" })] },
    { ...base, pods: [p({ nodeName: "r1n0" }), busy("r1n1")] },
    {
      ...base,
      pods: [busy("r1n1")],
      nodes: base.nodes.toSpliced(0, 1, node("r0n0", { spec: { unschedulable: true } })),
    },
    { ...base, pods: [busy("r1n1")], hyperNodes: base.hyperNodes.slice(0, 3) },
    { ...base, nodes: base.nodes.slice(2) },
  ];
  for (const [index, snapshot] of steps.entries()) {
    t.same(scores(d(), snapshot, kept.view(snapshot)), scores(d(), snapshot), `step ${index}`);
    t.equal(kept.view(snapshot), kept.view(snapshot), "the same view for the same snapshot");
  }
  t.end();
});

t.test("a workload that asks for a thousand million pods costs no more than one that asks for a hundred", (t) => {
  const snapshot = scene({ replicas: 1_000_000_000, annotations: { "tandem.sh/topology": "required" } });
  const view = memo().view(snapshot);
  t.ok(filterNodes(p(), names(snapshot), view).fit.length > 0);
  t.ok(prioritizeNodes(p(), names(snapshot), view).some(({ score }) => score > 0));
  t.end();
});
