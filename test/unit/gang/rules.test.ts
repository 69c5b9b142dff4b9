import t from "tap";
import { DeviceLedger, Trial } from "../../../src/gang/devices.ts";
import { placePods } from "../../../src/gang/place.ts";
import { rulesFor } from "../../../src/gang/rules.ts";
import type { Namespace, Node, Pod } from "../../../src/kinds/kube.ts";
import { topologyTree } from "../../../src/topology/tree.ts";
import { node, pod } from "../../support/placement.ts";

const ZONE = "topology.kubernetes.io/zone";
const NODES = [
  node("a0", { labels: { [ZONE]: "a", type: "gpu" } }),
  node("a1", { labels: { [ZONE]: "a", type: "gpu" } }),
  node("b0", { labels: { [ZONE]: "b", type: "gpu" } }),
  node("c0", { labels: { [ZONE]: "c", type: "cpu" }, spec: { taints: [{ key: "t", effect: "NoSchedule" }] } }),
  node("x0", { labels: { type: "gpu" } }),
];
type Parts = { on?: string; labels?: Record<string, string>; spec?: Record<string, unknown>; namespace?: string };

function made(name: string, { on, labels = {}, spec = {}, namespace }: Parts): Pod {
  const one = pod(name, { model: null, gpus: 0, labels, spec, ...(on === undefined ? {} : { nodeName: on }) });
  return namespace === undefined ? one : { ...one, metadata: { ...one.metadata, namespace } };
}

const term = (app: string, topologyKey: string, more: object = {}): object => ({
  labelSelector: { matchLabels: { app } },
  topologyKey,
  ...more,
});
const affinity = (...terms: object[]): Record<string, unknown> => ({
  affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: terms } },
});
const apart = (...terms: object[]): Record<string, unknown> => ({
  affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: terms } },
});
const spread = (more: object = {}): Record<string, unknown> => ({
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: ZONE,
      whenUnsatisfiable: "DoNotSchedule",
      labelSelector: { matchLabels: { app: "m" } },
      ...more,
    },
  ],
});
const ports = (port: number, more: object = {}): Record<string, unknown> => ({
  containers: [{ name: "c", ports: [{ containerPort: port, hostPort: port, ...more }] }],
});

interface Case {
  readonly name: string;
  readonly standing: Pod[];
  readonly asked: Pod;
  /** Nodes that the pod may go to. */
  readonly may: string;
  readonly namespaces?: Namespace[];
}

const ME = { labels: { app: "m", v: "2" } };
const CASES: readonly Case[] = [
  {
    name: "affinity: the domain of a pod that matches, not a node without the label",
    standing: [made("s", { on: "a0", labels: { app: "s" } })],
    asked: made("m", { spec: affinity(term("s", ZONE)) }),
    may: "a0 a1",
  },
  {
    name: "affinity: nobody matches, and it does not match itself",
    standing: [],
    asked: made("m", { ...ME, spec: affinity(term("s", ZONE)) }),
    may: "",
  },
  {
    name: "affinity: the first of a group that attracts itself goes anywhere with the label",
    standing: [],
    asked: made("m", { ...ME, spec: affinity(term("m", ZONE)) }),
    may: "a0 a1 b0 c0",
  },
  {
    name: "affinity: a pod counts only where all terms match it",
    standing: [
      made("s", { on: "a0", labels: { app: "s" } }),
      made("both", { on: "b0", labels: { app: "s", tier: "1" } }),
    ],
    asked: made("m", {
      spec: affinity(term("s", ZONE), { labelSelector: { matchLabels: { tier: "1" } }, topologyKey: ZONE }),
    }),
    may: "b0",
  },
  {
    name: "affinity: only its own namespace by default",
    standing: [made("s", { on: "a0", labels: { app: "s" }, namespace: "other" })],
    asked: made("m", { spec: affinity(term("s", ZONE)) }),
    may: "",
  },
  {
    name: "affinity: namespaces by name",
    standing: [made("s", { on: "a0", labels: { app: "s" }, namespace: "other" })],
    asked: made("m", { spec: affinity(term("s", ZONE, { namespaces: ["other"] })) }),
    may: "a0 a1",
  },
  {
    name: "affinity: namespaces by label",
    standing: [
      made("s", { on: "a0", labels: { app: "s" }, namespace: "other" }),
      made("s2", { on: "b0", labels: { app: "s" }, namespace: "third" }),
    ],
    asked: made("m", { spec: affinity(term("s", ZONE, { namespaceSelector: { matchLabels: { team: "x" } } })) }),
    may: "a0 a1",
    namespaces: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "other", labels: { team: "x" } } }],
  },
  {
    name: "affinity: matchLabelKeys narrow to pods of the same value",
    standing: [
      made("s1", { on: "a0", labels: { app: "m", v: "1" } }),
      made("s2", { on: "b0", labels: { app: "m", v: "2" } }),
    ],
    asked: made("m", { ...ME, spec: affinity(term("m", ZONE, { matchLabelKeys: ["v", "absent"] })) }),
    may: "b0",
  },
  {
    name: "affinity: a term without a selector matches nothing",
    standing: [made("s", { on: "a0" })],
    asked: made("m", { spec: affinity({ topologyKey: ZONE }) }),
    may: "",
  },
  {
    name: "anti-affinity: not the domain of a pod that matches; a node without the label is free",
    standing: [made("s", { on: "a0", labels: { app: "s" } })],
    asked: made("m", { spec: apart(term("s", ZONE)) }),
    may: "b0 c0 x0",
  },
  {
    name: "anti-affinity: any term is enough",
    standing: [made("s", { on: "a0", labels: { app: "s" } }), made("q", { on: "b0", labels: { app: "q" } })],
    asked: made("m", { spec: apart(term("s", ZONE), term("q", "kubernetes.io/hostname")) }),
    may: "c0 x0",
  },
  {
    name: "anti-affinity: of the pods that stand, against ours",
    standing: [made("s", { on: "a0", labels: { app: "s" }, spec: apart(term("m", ZONE)) })],
    asked: made("m", ME),
    may: "b0 c0 x0",
  },
  {
    name: "anti-affinity: of the pods that stand, not against ours",
    standing: [made("s", { on: "a0", labels: { app: "s" }, spec: apart(term("other", ZONE)) })],
    asked: made("m", ME),
    may: "a0 a1 b0 c0 x0",
  },
  {
    name: "anti-affinity: mismatchLabelKeys",
    standing: [
      made("s1", { on: "a0", labels: { app: "m", v: "1" } }),
      made("s2", { on: "b0", labels: { app: "m", v: "2" } }),
    ],
    asked: made("m", { ...ME, spec: apart(term("m", ZONE, { mismatchLabelKeys: ["v"] })) }),
    may: "b0 c0 x0",
  },
  {
    name: "spread: the fullest domain closes; a node without the label is no choice",
    standing: [made("s", { on: "a0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: spread() }),
    may: "b0 c0",
  },
  {
    name: "spread: domains that node affinity excludes do not count",
    standing: [made("s", { on: "a0", labels: { app: "m" } }), made("s2", { on: "b0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: { ...spread(), nodeSelector: { type: "gpu" } } }),
    may: "a0 a1 b0 c0",
  },
  {
    name: "spread: they count with nodeAffinityPolicy Ignore",
    standing: [made("s", { on: "a0", labels: { app: "m" } }), made("s2", { on: "b0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: { ...spread({ nodeAffinityPolicy: "Ignore" }), nodeSelector: { type: "gpu" } } }),
    may: "c0",
  },
  {
    name: "spread: tainted nodes count by default",
    standing: [made("s", { on: "a0", labels: { app: "m" } }), made("s2", { on: "b0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: spread() }),
    may: "c0",
  },
  {
    name: "spread: they do not with nodeTaintsPolicy Honor",
    standing: [made("s", { on: "a0", labels: { app: "m" } }), made("s2", { on: "b0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: spread({ nodeTaintsPolicy: "Honor" }) }),
    may: "a0 a1 b0 c0",
  },
  {
    name: "spread: fewer domains than minDomains, and the emptiest counts as empty",
    standing: ["a0", "b0", "c0"].map((on) => made(`s${on}`, { on, labels: { app: "m" } })),
    asked: made("m", { ...ME, spec: spread({ minDomains: 4 }) }),
    may: "",
  },
  {
    name: "spread: terminating pods and other namespaces do not count",
    standing: [
      made("s", { on: "a0", labels: { app: "m" }, namespace: "other" }),
      {
        ...made("t", { on: "a1", labels: { app: "m" } }),
        metadata: { name: "t", namespace: "default", labels: { app: "m" }, deletionTimestamp: "2026-01-01T00:00:00Z" },
      },
    ],
    asked: made("m", { ...ME, spec: spread() }),
    may: "a0 a1 b0 c0",
  },
  {
    name: "spread: ScheduleAnyway binds nobody",
    standing: [made("s", { on: "a0", labels: { app: "m" } })],
    asked: made("m", { ...ME, spec: spread({ whenUnsatisfiable: "ScheduleAnyway" }) }),
    may: "a0 a1 b0 c0 x0",
  },
  {
    name: "host port: taken on the node",
    standing: [made("s", { on: "a0", spec: ports(80) })],
    asked: made("m", { spec: ports(80) }),
    may: "a1 b0 c0 x0",
  },
  {
    name: "host port: another protocol, another address",
    standing: [
      made("s", { on: "a0", spec: ports(80) }),
      made("q", { on: "b0", spec: ports(80, { hostIP: "10.0.0.1" }) }),
    ],
    asked: made("m", { spec: ports(80, { protocol: "UDP" }) }),
    may: "a0 a1 b0 c0 x0",
  },
  {
    name: "host port: two addresses",
    standing: [
      made("s", { on: "a0", spec: ports(80, { hostIP: "10.0.0.1" }) }),
      made("q", { on: "b0", spec: ports(80, { hostIP: "10.0.0.2" }) }),
    ],
    asked: made("m", { spec: ports(80, { hostIP: "10.0.0.2" }) }),
    may: "a0 a1 c0 x0",
  },
  {
    name: "host network: every container port is one of the host",
    standing: [made("s", { on: "a0", spec: ports(80) })],
    asked: made("m", { spec: { hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 80 }] }] } }),
    may: "a1 b0 c0 x0",
  },
];

function mayGo({ standing, asked, namespaces = [] }: Case, nodes: readonly Node[] = NODES): string {
  const ledger = new DeviceLedger();
  ledger.update(nodes, standing, namespaces);
  const rules = rulesFor([asked], ledger);
  const names = nodes.map(({ metadata }) => metadata.name ?? "");
  return names.filter((name) => rules?.objection(asked, name) === undefined).join(" ");
}

for (const one of CASES)
  t.test(one.name, (t) => {
    t.equal(mayGo(one), one.may);
    t.end();
  });

t.test("a count goes with the pods: those that leave, come, and are placed on trial", (t) => {
  const ledger = new DeviceLedger();
  const asked = made("m", { ...ME, spec: spread() });
  const open = (room: DeviceLedger | Trial): string =>
    ["a0", "b0", "c0"].filter((name) => rulesFor([asked], room)?.objection(asked, name) === undefined).join(" ");
  const [first, second] = [
    made("s", { on: "a0", labels: { app: "m" } }),
    made("q", { on: "b0", labels: { app: "m" } }),
  ];
  ledger.update(NODES, [first]);
  t.equal(open(ledger), "b0 c0");
  ledger.update(NODES, [first, second]);
  t.equal(open(ledger), "c0");
  const trial = new Trial(ledger);
  trial.take("c0", new Map(), made("r", ME));
  t.equal(open(trial), "a0 b0 c0");
  ledger.update(NODES, [second]);
  t.equal(open(ledger), "a0 c0");
  const moved = NODES.map((one) => (one.metadata.name === "c0" ? node("c0", { labels: { [ZONE]: "b" } }) : one));
  ledger.update(moved, [second]);
  t.equal(open(ledger), "a0", "a node in another zone");
  t.end();
});

t.test("no rules where nobody demands anything", (t) => {
  const ledger = new DeviceLedger();
  ledger.update(NODES, [made("s", { on: "a0" })]);
  t.equal(rulesFor([made("m", ME)], ledger), undefined);
  t.end();
});

t.test("the pods of one plan mind one another", (t) => {
  const tree = topologyTree(NODES, { kind: "labels", levels: [ZONE] });
  const plan = (spec: Record<string, unknown>, count: number): (string | null)[] =>
    placePods({
      nodes: NODES,
      tree,
      pods: Array.from({ length: count }, (_, index) =>
        pod(`m${index}`, { gpus: 1, labels: { app: "m" }, spec: { ...spec, containers: pod("x").spec.containers } }),
      ),
      cells: [],
    }).pods.map((one) => one.node);
  const hosts = plan(apart(term("m", "kubernetes.io/hostname")), 3);
  t.equal(new Set(hosts).size, 3, "each on a node of its own");
  t.ok(hosts.every((host) => host !== null));
  t.same(plan(spread({ nodeTaintsPolicy: "Honor" }), 4).toSorted(), ["a0", "a0", "b0", "b0"]);
  t.end();
});

t.test("a node refused for its neighbours says so", (t) => {
  const nodes = NODES.slice(0, 2);
  const standing = [made("s", { on: "a0", labels: { app: "s" } })];
  const asked = made("m", { spec: apart(term("s", ZONE)) });
  const tree = topologyTree(nodes, { kind: "none" });
  const [found] = placePods({ nodes, tree, pods: [...standing, asked], cells: [] }).pods;
  t.same(
    found?.refused.map(({ reason, message }) => [reason, message]),
    [0, 1].map(() => ["NodeConflicts", "its pod anti-affinity keeps it off the node"]),
  );
  t.match(found?.verdict.message, /2 nodes: its pod anti-affinity keeps it off the node/);
  t.end();
});
