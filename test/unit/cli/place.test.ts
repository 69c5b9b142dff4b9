import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { tandem, type Ended } from "../../support/command.ts";
import { deployment, fabric, hyperNode, pod } from "../../support/placement.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(180_000);

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
