/** Where pods lie is written to them, so that the router's distances are those of the topology. */
import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Node, Pod } from "../../../src/kinds/kube.ts";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { distanceOf } from "../../../src/router/pick/distance.ts";
import { merged } from "../../../src/simulator/instances.ts";
import { rememberedTree } from "../../../src/topology/memo.ts";
import { domainsOf } from "../../../src/workload/beside.ts";

const CONFIG = loadConfig({ flags: { "topology.levels": '["leaf","spine"]' } });

const node = (name: string, labels: Record<string, string>): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name, labels },
});
const NODES = [
  node("n1", { leaf: "l0", spine: "s0" }),
  node("n2", { leaf: "l0", spine: "s0" }),
  node("n3", { leaf: "l1", spine: "s0" }),
  node("n4", { leaf: "l2", spine: "s1" }),
  node("bare", {}),
];

const pod = (name: string, role: string, nodeName?: string, more: Partial<Pod["metadata"]> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...{ name, namespace: "a", uid: `uid-${name}`, ...more },
    labels: { "tandem.sh/model": "m", "tandem.sh/role": role },
  },
  spec: { containers: [{ name: "e" }], ...(nodeName === undefined ? {} : { nodeName }) },
});

const plan = (pods: readonly Pod[], nodes = NODES, acts = () => true): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, nodes, pods }, { config: CONFIG, acts });

/** The pods as they are once the actions are done. */
const done = (pods: readonly Pod[], actions: readonly Action[]): Pod[] =>
  pods.map((pod) =>
    actions.reduce<Pod>(
      (now, action) =>
        action.do === "patch" && action.ref.name === pod.metadata.name ? (merged(now, action.body) as Pod) : now,
      pod,
    ),
  );

const distance = (one: Pod | undefined, other: Pod | undefined): number => {
  const endpoint = (pod: Pod | undefined): Endpoint => ({ domains: pod && domainsOf(pod) }) as Endpoint;
  return distanceOf(endpoint(one), endpoint(other));
};

t.test("distances of located pods are steps of the tree", (t) => {
  const given = ["n1", "n1", "n2", "n3", "n4"].map((at, index) => pod(`p${index}`, index ? "decode" : "prefill", at));
  const pods = done(given, plan(given));
  t.same(
    pods.map((one) => one.metadata.annotations?.["status.tandem.sh/domains"]),
    ["s0/l0", "s0/l0", "s0/l0", "s0/l1", "s1/l2"],
  );
  t.same(
    pods.map((one) => distance(pods[0], one)),
    [0, 0, 1, 2, 3],
  );
  t.same(plan(pods), [], "and then there is nothing to do");
  t.end();
});

t.test("only bound pods of a model with prefill engines are located, and only where they lie in a domain", (t) => {
  const foreign = { ...pod("foreign", "decode", "n1"), metadata: { name: "foreign", namespace: "a" } };
  const [prefill] = done([pod("prefill", "prefill", "n1")], plan([pod("prefill", "prefill", "n1")]));
  const given = [
    prefill as Pod,
    pod("unbound", "decode"),
    pod("going", "decode", "n1", { deletionTimestamp: "2026-01-01T00:00:00Z" }),
    { ...pod("over", "decode", "n1"), status: { phase: "Succeeded" } },
    pod("nowhere", "decode", "bare"),
    pod("unknown", "decode", "gone"),
    foreign,
  ];
  t.same(plan(given), []);
  t.equal(plan([prefill as Pod, pod("both", "both", "n1")]).length, 1);
  t.same(plan([pod("both", "both", "n1"), pod("alone", "decode", "n1")]), [], "nobody prefills for them");
  const elsewhere = { ...pod("both", "both", "n1"), metadata: { ...pod("both", "both").metadata, namespace: "b" } };
  t.same(plan([prefill as Pod, elsewhere]), [], "nor does another namespace's");
  const reached = [pod("reached", "prefill", "n1")];
  t.equal(plan(reached).length, 1);
  t.same(
    plan(reached, NODES, () => false),
    [],
    "namespaces out of reach are left alone",
  );
  t.end();
});

t.test("a tree that changes is followed; a domain that is gone is taken off", (t) => {
  const given = [pod("p", "prefill", "n1")];
  const located = done(given, plan(given));
  const moved = [node("n1", { leaf: "l9", spine: "s0" })];
  const again = done(located, plan(located, moved));
  t.equal(again[0]?.metadata.annotations?.["status.tandem.sh/domains"], "s0/l9");
  const bare = done(again, plan(again, [node("n1", {})]));
  t.notOk(bare[0]?.metadata.annotations?.["status.tandem.sh/domains"]);
  t.same(domainsOf(bare[0] as Pod), ["", "0", "n1"], "zone, cell and node, as before");
  t.end();
});

t.test("the tree stands through heartbeats, and falls with a label, a node, a HyperNode", (t) => {
  const tree = rememberedTree(CONFIG.topology);
  const ground = { nodes: NODES, hyperNodes: [] };
  const first = tree(ground);
  const beat = NODES.map((one) => ({ ...one, status: { conditions: [] } }));
  t.equal(tree({ ...ground, nodes: beat }), first);
  const relabelled = [...beat.slice(1), node("n1", { leaf: "l1", spine: "s0" })];
  const second = tree({ ...ground, nodes: relabelled });
  t.not(second, first);
  t.equal(second.leafOf("n1").name, "l1");
  t.not(tree({ ...ground, nodes: relabelled.slice(1) }), second, "fewer nodes");
  const third = tree({ ...ground, nodes: relabelled });
  t.not(tree({ nodes: relabelled, hyperNodes: [] }), third, "another list of HyperNodes");
  t.end();
});
