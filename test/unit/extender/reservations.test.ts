/** What is kept for pods on their way: in filter, in plans and scores, and when victims are chosen. */
import t from "tap";
import { filterNodes, prioritizeNodes, refusalsByNode } from "../../../src/extender/decide.ts";
import { preemptOn, type Candidate } from "../../../src/extender/preempt.ts";
import { ExtenderMemo, type ClusterView } from "../../../src/extender/view.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { deployment, fabric, letGo, pod, snapshotOf } from "../../support/placement.ts";

let now = 0;
const memo = (): ExtenderMemo =>
  new ExtenderMemo({
    topology: { source: "hypernodes", preset: "", levels: [] },
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
    bindMs: 60_000,
    now: () => now,
  });
t.beforeEach(() => {
  now = 0;
});

/** Two racks of two nodes with 8 devices. */
const cluster = fabric(2, 2);
const NODES = cluster.nodes.map(({ metadata }) => metadata.name ?? "");
const sceneOf = (pods: readonly Pod[], annotations: Record<string, string> = {}): ClusterSnapshot =>
  snapshotOf({
    ...cluster,
    pods,
    workloads: [deployment("p", { gpus: 8, annotations }), deployment("d", { gpus: 8, role: "decode", annotations })],
  });
const viewOf = (...pods: readonly Pod[]): ClusterView => memo().view(sceneOf(pods));

const p = pod("p0", { gpus: 8 });
const d = pod("d0", { gpus: 8, role: "decode" });
const foreign = (gpus: number, name = "foreign", nodeName?: string): Pod =>
  pod(name, { model: null, gpus, ...(nodeName === undefined ? {} : { nodeName }) });

const reasons = (asked: Pod, view: ClusterView): Record<string, string> =>
  Object.fromEntries(
    [...refusalsByNode(filterNodes(asked, NODES, view))].map(([name, { verdict }]) => [name, verdict.reason]),
  );

t.test("filter keeps a node for the pod that was let go for it", (t) => {
  const view = viewOf(letGo(p, "r0n0"), letGo(d, "r0n1"));
  t.same(reasons(p, view), { r0n1: "NodeReserved" }, "its own is not held against it");
  t.same(reasons(pod("x", { gpus: 8, model: "other" }), view), { r0n0: "NodeReserved", r0n1: "NodeReserved" });
  t.same(reasons(foreign(1), view), { r0n0: "NodeReserved", r0n1: "NodeReserved" }, "pods of others are judged");
  t.same(reasons(foreign(0), view), {}, "but never those without devices");
  t.match(refusalsByNode(filterNodes(foreign(1), ["r0n0"], view)).get("r0n0")?.verdict, {
    message: "needs 1 nvidia.com/gpu, 0 free beside 8 kept for default/p0",
    numbers: { needs: 1, free: 0, reserved: 8 },
  });
  t.end();
});

t.test("a foreign pod is judged only where something is kept: elsewhere the scheduler's count decides", (t) => {
  const view = viewOf(foreign(8, "busy", "r1n0"), letGo(p, "r0n0"));
  t.same(reasons(foreign(4), view), { r0n0: "NodeReserved" });
  t.same(filterNodes(foreign(4), ["unknown"], view).fit, ["unknown"]);
  t.end();
});

t.test("room beside what is kept is given", (t) => {
  const view = viewOf(letGo(pod("half", { gpus: 4 }), "r0n0"));
  t.same(reasons(foreign(4), view), {});
  t.same(reasons(foreign(5), view), { r0n0: "NodeReserved" });
  t.end();
});

t.test("many holders: some are named, the rest counted", (t) => {
  const pods = [1, 2, 3, 4, 5].map((index) => letGo(pod(`p${index}`, { gpus: 1 }), "r0n0"));
  t.match(
    refusalsByNode(filterNodes(foreign(4), ["r0n0"], viewOf(...pods))).get("r0n0")?.verdict.message,
    "kept for default/p1, default/p2, default/p3 and 2 more",
  );
  t.end();
});

t.test("evicting pods helps where enough is bound, and not where it is kept or was never there", (t) => {
  const view = viewOf(foreign(4, "busy", "r0n0"), letGo(pod("half", { gpus: 4 }), "r0n0"), letGo(p, "r0n1"));
  const hopeless = (asked: Pod): string[] =>
    [...filterNodes(asked, NODES, view).refused].flatMap(([{ hopeless }, names]) => (hopeless ? names : []));
  t.same(hopeless(foreign(4)), ["r0n1"], "of r0n0 the busy pod can go");
  t.same(hopeless(foreign(8)), ["r0n0", "r0n1"]);
  t.same(hopeless(pod("big", { gpus: 16, model: "other" })), NODES, "no node has 16");
  t.end();
});

t.test("what is kept lapses while nobody looks after it", (t) => {
  const kept = memo();
  const snapshot = sceneOf([letGo(p, "r0n0")]);
  t.same(reasons(foreign(1), kept.view(snapshot)), { r0n0: "NodeReserved" });
  t.equal(kept.holds.size, 1);
  now = 600_000;
  t.same(reasons(foreign(1), kept.view(snapshot)), {});
  t.equal(kept.holds.size, 0);
  t.end();
});

t.test("a pod that is gone leaves nothing", (t) => {
  const kept = memo();
  const snapshot = sceneOf([letGo(p, "r0n0")]);
  kept.view(snapshot);
  const later = { ...snapshot, pods: [] };
  t.same(reasons(foreign(8), kept.view(later)), {});
  t.equal(kept.holds.size, 0);
  t.end();
});

t.test("prioritize: 10 for the pod's own node, and its siblings are planned beside what is kept", (t) => {
  const scores = (asked: Pod, view: ClusterView): Record<string, number> =>
    Object.fromEntries(prioritizeNodes(asked, NODES, view).map(({ host, score }) => [host, score]));
  const mine = scores(p, viewOf(letGo(p, "r1n1"), d));
  t.equal(mine["r1n1"], 10);
  t.ok(Object.values(mine).filter((score) => score === 10).length === 1, JSON.stringify(mine));
  const sibling = scores(d, viewOf(letGo(p, "r1n1"), d));
  t.equal(sibling["r1n0"], 10, "beside it, in its rack");
  const other = viewOf(letGo(p, "r0n0"), letGo(d, "r0n1"));
  t.ok((scores(d, other)["r0n1"] ?? 0) === 10, "nothing is planned any more; each goes to its own");
  t.end();
});

t.test("a required cell is confined to where it is let go for", (t) => {
  const pods = [letGo(p, "r1n1"), d];
  const view = memo().view(sceneOf(pods, { "tandem.sh/topology": "required", "tandem.sh/topology-tier": "1" }));
  t.same(reasons(d, view), { r0n0: "NodeOutsideDomain", r0n1: "NodeOutsideDomain", r1n1: "NodeReserved" });
  t.end();
});

const on = (node: string, ...victims: string[]): Candidate => ({ node, victims, violations: 0 });
const names = (asked: Pod, candidates: readonly Candidate[], view: ClusterView): string[] =>
  preemptOn(asked, candidates, view).kept.map(({ node }) => node);

t.test("preempt keeps the nodes on which the pod would then be let in", (t) => {
  const view = viewOf(
    foreign(8, "a", "r0n0"),
    foreign(4, "b", "r0n1"),
    letGo(pod("half", { gpus: 4 }), "r0n1"),
    foreign(4, "c", "r1n0"),
    foreign(4, "d", "r1n0"),
  );
  const all = [on("r0n0", "uid-a"), on("r0n1", "uid-b"), on("r1n0", "uid-c"), on("unknown", "uid-z")];
  t.same(names(pod("x", { gpus: 8, model: "other" }), all, view), ["r0n0"], "one victim on r1n0 is too few");
  t.same(names(foreign(4, "x"), all, view), ["r0n0", "r0n1", "r1n0", "unknown"]);
  t.same(names(foreign(8, "x"), all, view), ["r0n0", "r1n0", "unknown"], "kube-scheduler counts where nothing is kept");
  t.end();
});

t.test("preempt never adds a victim, and knows those it has not heard of", (t) => {
  const view = viewOf(foreign(8, "a", "r0n0"));
  const { kept } = preemptOn(p, [on("r0n0", "uid-a", "uid-nobody"), on("r0n1")], view);
  t.same(kept, [
    { node: "r0n0", victims: ["uid-a", "uid-nobody"], violations: 0 },
    { node: "r0n1", victims: [], violations: 0 },
  ]);
  t.end();
});

t.test("a victim that breaks a gang that stands counts as a violation", (t) => {
  const standing = [pod("p0", { gpus: 8, nodeName: "r0n0" }), pod("d0", { gpus: 8, role: "decode", nodeName: "r0n1" })];
  const spare = pod("p1", { gpus: 8, nodeName: "r1n0" });
  const asked = foreign(8, "x");
  const violations = (view: ClusterView, ...candidates: Candidate[]): number[] =>
    preemptOn(asked, candidates, view).kept.map((one) => one.violations);
  t.same(violations(viewOf(...standing), on("r0n0", "uid-p0"), on("r1n1")), [1, 0]);
  t.same(violations(viewOf(...standing, spare), on("r0n0", "uid-p0"), on("r0n1", "uid-d0")), [0, 1], "p1 stands in");
  t.same(violations(viewOf(standing[0] as Pod), on("r0n0", "uid-p0")), [0], "a gang that does not stand");
  t.same(
    violations(viewOf(...standing), { ...on("r0n0", "uid-p0"), violations: 1 }),
    [1],
    "a victim is one violation, however many protect it",
  );
  t.match(preemptOn(asked, [on("r0n0", "uid-p0")], viewOf(...standing)).verdicts.get("r0n0"), {
    reason: "GangPreempted",
    message: "1 victims take m below its minimum viable set",
  });
  t.end();
});
