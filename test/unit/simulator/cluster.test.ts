import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { LocalCluster, type Scheduled } from "../../../src/simulator/cluster.ts";
import { deployment, fabric, pod } from "../../support/placement.ts";

const pair = (replicas: number): KubeObject[] => [
  deployment("m-prefill", { gpus: 8, replicas }),
  deployment("m-decode", { gpus: 8, replicas, role: "decode" }),
];

const withoutGang = (object: KubeObject): KubeObject => ({
  ...object,
  metadata: { ...object.metadata, annotations: { "tandem.sh/gang": "off" } },
});

function start(objects: KubeObject[]): { cluster: LocalCluster; scheduled: readonly Scheduled[] } {
  const { nodes, hyperNodes } = fabric(4, 2);
  const cluster = new LocalCluster([...nodes, ...hyperNodes, ...objects], loadConfig());
  cluster.admitWorkloads();
  cluster.createPods();
  return { cluster, scheduled: cluster.schedule() };
}

t.test("a labelled pair of Deployments ends in one leaf, with the reason for each pod", (t) => {
  const busy = pod("busy", { model: null, gpus: 8, nodeName: "r0n0" });
  const { cluster, scheduled } = start([...pair(1), busy]);
  const leaves = scheduled.map(({ node }) => cluster.tree().leafOf(node ?? "").name);
  t.equal(scheduled.length, 2);
  t.equal(new Set(leaves).size, 1, leaves.join());
  t.ok(scheduled.every(({ pod: one, node }) => node !== null && one.spec.nodeName === node));
  t.match(scheduled[0]?.verdict, {
    reason: "Placed",
    message: /planned for this role, .*score 10 of 10, 6 of 8 nodes fit/,
  });
  t.equal(cluster.snapshot().pods.length, 3);
  t.end();
});

t.test("pods are made as the deployment controller makes them, and only those that are missing", (t) => {
  const { cluster, scheduled } = start(pair(2));
  const [first] = scheduled;
  t.match(first?.pod.metadata, {
    name: /^m-prefill-[a-z0-9]{10}-[a-z0-9]{5}$/,
    labels: { app: "m-prefill", "tandem.sh/model": "m", "tandem.sh/role": "prefill" },
    ownerReferences: [{ kind: "ReplicaSet", name: /^m-prefill-[a-z0-9]{10}$/, controller: true }],
  });
  t.equal(new Set(cluster.snapshot().pods.map(({ metadata }) => metadata.uid)).size, 4);
  t.same(cluster.createPods(), [], "nothing is missing any more");
  t.same(cluster.schedule(), [], "nothing waits any more");
  t.end();
});

t.test("StatefulSets name their pods by ordinal", (t) => {
  const set = { ...deployment("m-decode", { role: "decode", replicas: 2 }), kind: "StatefulSet" };
  const { cluster } = start([set]);
  t.same(
    cluster.snapshot().pods.map(({ metadata }) => metadata.name),
    ["m-decode-0", "m-decode-1"],
  );
  t.end();
});

t.test("a gang without room holds nothing, and says what lacks", (t) => {
  const racks = ["r0n0", "r0n1", "r1n0", "r1n1", "r2n0", "r2n1", "r3n0"];
  const busy = racks.map((name) => pod(`busy-${name}`, { model: null, gpus: 8, nodeName: name }));
  const { scheduled } = start([...pair(1), ...busy]);
  t.same(
    scheduled.map(({ node }) => node),
    [null, null],
  );
  for (const { verdict } of scheduled)
    t.match(verdict, {
      reason: "GangIncomplete",
      message: /held by tandem.sh\/gang: .* needs 16 nvidia.com\/gpu for 2 pods/,
    });
  t.end();
});

t.test("a pod that finds no node waits, with every reason", (t) => {
  const busy = Array.from({ length: 8 }, (_, index) =>
    pod(`busy-${index}`, { model: null, gpus: 4, nodeName: `r${index >> 1}n${index & 1}` }),
  );
  const { scheduled } = start([...pair(1).map(withoutGang), ...busy]);
  t.match(scheduled[0], {
    node: null,
    verdict: { outcome: "denied", message: /^0 of 8 nodes fit: 8 NodeLacksDevices/ },
  });
  t.equal(scheduled[0]?.refused.length, 8);
  t.end();
});

t.test("a gated pod is held", (t) => {
  const gated = pod("gated", { spec: { schedulingGates: [{ name: "kueue.x-k8s.io/admission" }] } });
  t.match(start([gated]).scheduled[0], { node: null, verdict: { message: /kueue.x-k8s.io\/admission/ } });
  t.end();
});

t.test("a denied workload makes no pods", (t) => {
  const { nodes } = fabric(1, 1);
  const bad = deployment("m-prefill", { annotations: { "tandem.sh/topology": "nearby" } });
  const cluster = new LocalCluster([...nodes, bad], loadConfig());
  t.match(cluster.admitWorkloads(), [{ stored: false, verdicts: [{ outcome: "denied" }] }]);
  t.same(cluster.createPods(), []);
  t.end();
});

t.test("status written from outside is kept", (t) => {
  const { cluster, scheduled } = start(pair(1));
  const [first] = scheduled;
  const running: Pod = { ...first!.pod, status: { phase: "Running", podIP: "127.0.0.2" } };
  cluster.updatePod(running);
  t.same(cluster.snapshot().pods.find(({ metadata }) => metadata.uid === running.metadata.uid)?.status, running.status);
  t.end();
});
