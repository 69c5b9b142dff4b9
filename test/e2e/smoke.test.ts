/** The harness itself: a real cluster comes up, schedules, and keeps pods unready until an engine is said to listen. */
import t from "tap";
import { randomUUID } from "node:crypto";
import { createServer } from "node:https";
import { createServer as createTcpServer } from "node:net";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import { isReady, startCluster, type Cluster } from "./cluster/control-plane.ts";
import { VOLCANO_CRDS } from "./cluster/crds.ts";
import { startLaps } from "./cluster/laps.ts";
import { leaves } from "./cluster/nodes.ts";
import { followPods } from "./cluster/engines.ts";
import { eventually, type Running } from "./cluster/process.ts";

const REPLICAS = 4;
const DEPLOYMENT = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "plain", namespace: "default" },
  spec: {
    replicas: REPLICAS,
    selector: { matchLabels: { app: "plain" } },
    template: {
      metadata: { labels: { app: "plain" } },
      spec: { containers: [{ name: "engine", image: "engine:1", resources: { limits: { "nvidia.com/gpu": "4" } } }] },
    },
  },
};

t.setTimeout(300_000);
let cluster: Cluster;
let scheduler: Running;
const lap = startLaps(t);

const withAddresses = async (): Promise<Pod[] | undefined> => {
  const pods = await cluster.pods("default", "app=plain");
  return pods.length === REPLICAS && pods.every((pod) => pod.status?.podIP !== undefined) ? pods : undefined;
};

t.before(async () => {
  cluster = await startCluster();
  lap("control plane");
});
t.teardown(async () => {
  if (!t.passing()) t.comment(cluster.logs());
  await cluster.stop();
});

t.test("Volcano's CRDs are served and 16 fake nodes are Ready under a tree of two tiers", async (t) => {
  await cluster.applyCrds();
  await cluster.addNodes();
  lap("nodes");
  for (const name of VOLCANO_CRDS)
    await cluster.api.get(`/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`);
  const nodes = await cluster.api.list("/api/v1/nodes");
  t.equal(nodes.filter(isReady).length, 16);
  t.notOk(
    nodes.some((node) => "podCIDR" in (node["spec"] as object)),
    "pod addresses come from one pool",
  );
  const hyperNodes = await cluster.api.list("/apis/topology.volcano.sh/v1alpha1/hypernodes");
  t.equal(hyperNodes.length, leaves().size + 1);
});

t.test("pods are scheduled, get loopback addresses, and are Ready only when told", async (t) => {
  scheduler = await cluster.startScheduler();
  await cluster.apply([DEPLOYMENT]);
  const pods = await eventually("pods with addresses", withAddresses);
  lap("pods");
  for (const pod of pods) t.match(pod.status?.podIP, /^127\.64\./);
  t.equal(new Set(pods.map((pod) => pod.status?.podIP)).size, REPLICAS);
  t.notOk(pods.some(isReady), "nobody listens yet");
  const [first, ...others] = pods;
  for (const pod of others) await cluster.setListening(pod, true);
  const readyNames = async (count: number): Promise<string[] | undefined> => {
    const names = (await cluster.pods("default")).filter(isReady).map(({ metadata }) => metadata.name ?? "");
    return names.length === count ? names : undefined;
  };
  const ready = await eventually("others Ready", () => readyNames(REPLICAS - 1));
  t.notOk(ready.includes(first?.metadata.name ?? ""), "the one that was not told is not Ready");
  await cluster.setListening(others[0]!, false);
  await eventually("one less", () => readyNames(REPLICAS - 2));
  lap("ready");
});

t.test("kube-scheduler asks an extender over HTTPS and follows it", async (t) => {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, ["127.0.0.1"]);
  const verbs: string[] = [];
  const options = { key: serving.key, cert: serving.certificate };
  const server = createServer(options, (request, response) => {
    verbs.push(request.url ?? "");
    request.resume().on("end", () => response.end(JSON.stringify({ NodeNames: ["node-07"], FailedNodes: {} })));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  await scheduler.stop();
  const extender = { url: `https://127.0.0.1:${port}/extender`, ca: authority.certificate };
  const asking = await cluster.startScheduler({ extender });
  const before = new Set((await cluster.pods("default")).map(({ metadata }) => metadata.name));
  await cluster.must(["scale", "deployment", "plain", `--replicas=${REPLICAS + 1}`]);
  const added = await eventually("the new pod on a node", async () => {
    const pods = await cluster.pods("default", "app=plain");
    return pods.find((pod) => !before.has(pod.metadata.name) && pod.spec.nodeName !== undefined);
  });
  t.equal(added.spec.nodeName, "node-07");
  t.same(verbs, ["/extender/filter"], "one node is left, so there is nothing to rank");
  await asking.stop();
  await cluster.startScheduler();
});

t.test("an engine follows its pod: it listens where the pod is, and goes with it", async (t) => {
  await cluster.must(["delete", "pod", "-l", "app=plain", "--wait=false"]);
  const start = async (pod: Pod): Promise<{ stop: () => Promise<void> }> => {
    const server = createTcpServer();
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(8000, pod.status?.podIP, resolve));
    return { stop: () => new Promise((resolve) => server.close(() => resolve())) };
  };
  const fleet = followPods(cluster, { namespace: "default", selector: "app=plain", start });
  t.teardown(() => fleet.stop());
  const ready = await eventually("all pods Ready", async () => {
    const pods = (await cluster.pods("default", "app=plain")).filter(isReady);
    return pods.length === REPLICAS + 1 ? pods : undefined;
  });
  t.same(new Set(ready.map(({ metadata }) => metadata.name)), new Set(fleet.engines.keys()));
  await cluster.must(["scale", "deployment", "plain", "--replicas=1"]);
  await eventually("one engine", () => Promise.resolve(fleet.engines.size === 1 || undefined));
});

t.test("a deleted Deployment takes its pods with it", async () => {
  await cluster.must(["delete", "deployment", "plain", "--wait=false"]);
  await eventually("no pods", async () => (await cluster.pods("default")).length === 0 || undefined);
});

t.test("a ServiceAccount's kubeconfig carries its own rights and no others", async (t) => {
  await eventually("default ServiceAccount", () =>
    cluster.api.get("/api/v1/namespaces/default/serviceaccounts/default"),
  );
  const kubeconfig = await cluster.kubeconfigFor("default", "default");
  const who = await cluster.must([
    "--kubeconfig",
    kubeconfig,
    "auth",
    "whoami",
    "-o",
    "jsonpath={.status.userInfo.username}",
  ]);
  t.equal(who, "system:serviceaccount:default:default");
  const refused = await cluster.kubectl(["--kubeconfig", kubeconfig, "get", "pods"]);
  t.equal(refused.code, 1);
  t.match(refused.stderr, /forbidden/i);
});
