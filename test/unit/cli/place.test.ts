import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { tandem, type Ended } from "../../support/command.ts";
import { deployment, fabric, hyperNode, pod } from "../../support/placement.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(300_000);

function run(t: Test, objects: readonly unknown[], ...args: string[]): Promise<Ended> {
  const file = join(t.testdir(), "input.json");
  writeFileSync(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  return tandem(["place", "-f", file, ...args]);
}

const { nodes, hyperNodes } = fabric(2, 2);
const cluster: KubeObject[] = [...nodes, ...hyperNodes];
const pair = [deployment("p", { gpus: 8 }), deployment("d", { gpus: 8, role: "decode" })];

t.test("a table with the tree, and exit 0, where everything is placed", async (t) => {
  const { code, out, err } = await run(t, [...cluster, ...pair]);
  t.equal(code, 0);
  t.match(out, /^POD +NODE +DOMAIN +TIER +REASON\n/);
  t.match(out, "gang m: placed. rack-0 (tier 1, rack) is the smallest domain with room for all 2 pods of m");
  t.match(out, "├─ rack-0 (tier 1, rack)");
  t.equal(err, "");
});

t.test("JSON of the documented shape, and exit 1 where a pod has no node", async (t) => {
  // Four nodes of eight devices, and a gang of five pods that each want a whole one.
  const annotations = { "tandem.sh/gang": "prefill=1,decode=4" };
  const decode = deployment("d", { gpus: 8, role: "decode", replicas: 4, annotations });
  const { code, out } = await run(t, [...cluster, deployment("p", { gpus: 8, annotations }), decode], "-o", "json");
  t.equal(code, 1);
  const answer = JSON.parse(out) as { pods: object[]; gangs: object[] };
  t.same(Object.keys(answer), ["pods", "gangs"]);
  t.match(answer.pods[0], { name: /^p-/, node: null, domain: null, tier: null, reason: /^NoDomainFits: .* needs 40 / });
  t.match(answer.gangs, [{ group: "m", placed: false, reason: /^NoDomainFits: / }]);
});

t.test("a workload that admission refuses is told, and exit 1", async (t) => {
  const bad = deployment("p", { annotations: { "tandem.sh/gang": "sometimes" } });
  const { code, err } = await run(t, [...cluster, bad]);
  t.equal(code, 1);
  t.match(err, /Deployment default\/p: InvalidAnnotation: tandem.sh\/gang/);
});

t.test("a required tier whose HyperNodes no label selects is not narrowed to the labels below it", async (t) => {
  const racked = nodes.map((node) => {
    const labels = { ...node.metadata.labels, rack: node.metadata.name?.slice(0, 2) ?? "" };
    return { ...node, metadata: { ...node.metadata, labels } };
  });
  const tree = [
    ...["r0", "r1"].map((rack) =>
      hyperNode(rack, 1, [{ type: "Node", selector: { labelMatch: { matchLabels: { rack } } } }]),
    ),
    hyperNode(
      "spine",
      2,
      ["r0", "r1"].map((name) => ({ type: "HyperNode", selector: { exactMatch: { name } } })),
    ),
  ];
  const wide = {
    "tandem.sh/topology": "required",
    "tandem.sh/topology-tier": "2",
    "tandem.sh/gang": "prefill=1,decode=2",
  };
  const three = [
    deployment("p", { gpus: 8, annotations: wide }),
    deployment("d", { gpus: 8, role: "decode", replicas: 2, annotations: wide }),
  ];
  const { code, out, err } = await run(t, [...racked, ...tree, ...three]);
  t.equal(code, 0, err);
  t.match(out, "gang m: placed. spine (tier 2) is");
});

t.test("a misspelt key and a missing half are told on stderr, and do not change the exit", async (t) => {
  const annotations = { "tandem.sh/topolgy": "required" };
  const { code, out, err } = await run(t, [...cluster, deployment("p", { gpus: 8, annotations })]);
  t.equal(code, 0);
  t.match(out, "gang m: placed");
  t.match(err, /^warning: Deployment default\/p: UnknownKey: .*tandem\.sh\/topology/m);
  t.match(err, /^warning: Deployment default\/p: PartnerMissing: group m has no decode workload/m);
});

t.test("what is wrong with the topology is told on stderr", async (t) => {
  const { code, err } = await run(t, [
    ...cluster,
    hyperNode("x", 1, []),
    hyperNode("y", 3, [{ type: "Node", selector: { exactMatch: { name: "gone" } } }]),
    ...pair,
  ]);
  t.equal(code, 0);
  t.match(err, /warning: HyperNodeDangling: HyperNode y: member node gone does not exist/);
});

t.test("bad usage and unreadable input are 2", async (t) => {
  const rows: [objects: unknown[], args: string[], error: RegExp][] = [
    [[], ["-o", "xml"], /-o xml: accepted are table, json/],
    [[], ["-f", "/does/not/exist.yaml"], /cannot be read/],
    [[{ ...hyperNode("x", 1, []), spec: {} }], [], /HyperNode x: spec.tier and spec.members/],
    [[{ ...pod("p"), spec: {} }], [], /Pod default\/p: spec.containers/],
    [[{ ...deployment("d"), spec: {} }], [], /Deployment default\/d: spec.template/],
    [[{ kind: "Node" }], [], /not a Kubernetes object/],
  ];
  for (const [objects, args, error] of rows)
    await t.test(String(error), async (t) => {
      const { code, err } = await run(t, objects, ...args);
      t.equal(code, 2);
      t.match(err, error);
    });
});

t.test("help shows an example", async (t) => {
  const { code, out } = await run(t, [], "--help");
  t.equal(code, 0);
  t.match(out, /Example:\n +tandem place -f/);
});

t.test("objects that no API server would store are bad input, never a stack", async (t) => {
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: "odd" } };
  const many = deployment("p", { replicas: 1_000_000_000 });
  for (const [odd, message] of [
    [
      { ...node, status: { conditions: {} } },
      /^tandem: Node odd: a list as status.conditions or spec.taints is missing/,
    ],
    [{ ...node, spec: { taints: 3 } }, /^tandem: Node odd: /],
    [many, /^tandem: Deployment default\/p: spec.template, or spec.replicas from 0 to 10000, is missing or wrong/],
    [{ ...many, spec: { ...many.spec, replicas: -1 } }, /^tandem: Deployment default\/p: /],
  ] as const) {
    const { code, err } = await run(t, [...cluster, odd]);
    t.equal(code, 2);
    t.match(err, message);
  }
});

t.test("members of a HyperNode that say nothing select nothing", async (t) => {
  const members = [null, 3, { type: "Node" }, { type: "HyperNode", selector: null }] as unknown as [];
  const { code, err } = await run(t, [...cluster, hyperNode("odd", 1, members), ...pair]);
  t.equal(code, 0, err);
});

t.test("the tree says of every domain and node how many devices pods hold and how many are free", async (t) => {
  const { code, out } = await run(t, [...cluster, pod("bound", { gpus: 4, model: null, nodeName: "r1n1" }), ...pair]);
  t.equal(code, 0);
  for (const line of [
    "cluster: 20 used, 12 free nvidia.com/gpu",
    "   ├─ rack-0 (tier 1, rack): 16 used, 0 free nvidia.com/gpu",
    "   │  ├─ r0n0: 8 used, 0 free nvidia.com/gpu",
    "   └─ rack-1 (tier 1, rack): 4 used, 12 free nvidia.com/gpu",
    "      ├─ r1n1: 4 used, 4 free nvidia.com/gpu",
    "      │  └─ default/bound",
    "      └─ 1 more node without pods: 0 used, 8 free nvidia.com/gpu",
  ])
    t.ok(out.includes(`${line}\n`), line);
});

t.test("for a pod without a node it says how many nodes were refused for which reason, and what to do", async (t) => {
  const cordoned = { ...nodes[0], spec: { unschedulable: true } };
  const { code, out, err } = await run(t, [cordoned, ...nodes.slice(1), pod("alone", { gpus: 16, model: null })]);
  t.equal(code, 1);
  t.match(out, /nodes refused to 1 pod: 3 NodeLacksDevices \(.*\), 1 NodeUnschedulable \(/);
  t.match(out, "cluster: 4 nodes, no pods, 0 used, 32 free nvidia.com/gpu");
  t.match(err, /hint: \S/);
});

t.test("files of YAML and JSON, Lists and single objects, folders: all are one cluster", async (t) => {
  const folder = t.testdir({
    "nodes.json": JSON.stringify({ apiVersion: "v1", kind: "NodeList", items: nodes }),
    "hypernodes.yaml": hyperNodes.map((one) => JSON.stringify(one)).join("\n---\n"),
    "pair.yml": `apiVersion: v1\nkind: List\nitems:\n${pair.map((one) => `  - ${JSON.stringify(one)}\n`).join("")}`,
    "notes.txt": "not read",
  });
  const { code, out, err } = await tandem(["place", "-f", folder, "-o", "json"]);
  t.equal(code, 0, err);
  t.match((JSON.parse(out) as { pods: object[] }).pods, [{ domain: "rack-0" }, { domain: "rack-0" }]);
});

t.test("replicas become pods, those of a LeaderWorkerSet by groups", async (t) => {
  const [first] = pair;
  const { metadata, spec } = first!;
  const group = {
    apiVersion: "leaderworkerset.x-k8s.io/v1",
    kind: "LeaderWorkerSet",
    metadata,
    spec: { replicas: 2, leaderWorkerTemplate: { size: 2, workerTemplate: spec.template } },
  };
  const { out, err } = await run(t, [...cluster, group], "-o", "json");
  const { pods } = JSON.parse(out) as { pods: { name: string }[] };
  t.same(pods.map(({ name }) => name).sort(), ["p-0", "p-0-1", "p-1", "p-1-1"], err);
  const odd = { ...group, spec: { replicas: 2 } };
  t.match(await run(t, [...cluster, odd]), { code: 2, err: /LeaderWorkerSet default\/p: spec\.leaderWorkerTemplate/ });
});

t.test("what is left out is told", async (t) => {
  const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "load", namespace: "default" } };
  const { code, out, err } = await run(t, [...cluster, ...pair, job]);
  t.equal(code, 0, err);
  t.match(err, /warning: Job default\/load is left out; give its pods as Pods\n/);
  t.equal(out.match(/^default\//gm)?.length, 2);
  t.match(await run(t, pair), { code: 1, err: /warning: no Node was given, so nothing can be placed\n/ });
});
