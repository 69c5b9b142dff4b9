import t from "tap";
import { slimNode, slimPod, slimWorkload } from "../../../src/cluster/slim.ts";
import { startCluster, watchCertificates, type Cluster, type SourceName } from "../../../src/cluster/sources.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import { startApiServer, type FakeApiServer } from "../../support/apiserver.ts";

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

const ports = (
  time: VirtualTime,
): Pick<Parameters<typeof startCluster>[0], "clock" | "timers" | "random" | "log" | "metrics"> => ({
  clock: time,
  timers: time,
  random: { next: () => 0, id: () => "" },
  log: SILENT_LOG,
  metrics: NO_METRICS,
});

interface Scene {
  readonly server: FakeApiServer;
  readonly time: VirtualTime;
  readonly start: (namespace?: string, kinds?: readonly SourceName[]) => Cluster;
}

async function scene(t: { teardown(fn: () => Promise<void>): void }): Promise<Scene> {
  const server = await startApiServer();
  const time = new VirtualTime(0);
  const clusters: Cluster[] = [];
  t.teardown(async () => {
    await Promise.all(clusters.map((cluster) => cluster.stop()));
    await server.stop();
  });
  const start = (namespace = "", kinds?: readonly SourceName[]): Cluster => {
    const cluster = startCluster({
      ...ports(time),
      transport: server.transport(),
      config: { ...loadConfig().cluster, namespace },
      ...(kinds === undefined ? {} : { kinds }),
    });
    clusters.push(cluster);
    return cluster;
  };
  return { server, time, start };
}

const deployment = (name: string, namespace: string, labels: Record<string, string>): KubeObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace, labels },
  spec: {},
});

t.test("one snapshot of all kinds, the same object until something changes", async (t) => {
  const { server, start } = await scene(t);
  server.missing.add("hypernodes");
  server.put(deployment("ours", "a", { "tandem.sh/model": "m" }));
  server.put(deployment("foreign", "a", {}));
  server.put({ ...deployment("set", "a", { "tandem.sh/model": "m" }), kind: "StatefulSet" });
  server.put({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "x", namespace: "a" } });
  const cluster = start();
  t.equal(cluster.synced(), false);
  await until(() => cluster.synced());
  const snapshot = cluster.snapshot();
  t.same(
    snapshot.workloads.map(({ metadata }) => metadata.name),
    ["ours", "set"],
  );
  t.same(snapshot.configMaps, [], "only those we own");
  t.same(snapshot.apis, { podGroups: true, hyperNodes: false });
  t.equal(cluster.snapshot(), snapshot);
  let told = 0;
  cluster.onChange(() => (told += 1));
  await until(() => server.watching("namespaces") === 1);
  server.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "a" } });
  await until(() => told > 0);
  t.not(cluster.snapshot(), snapshot);
  t.equal(
    cluster.snapshot().workloads,
    snapshot.workloads,
    "a list of several kinds stands while none of them changes",
  );
  t.equal(cluster.snapshot().autoscalers, snapshot.autoscalers);
  t.equal(cluster.ageMs(), 0);
});

t.test("the fields of the PodGroups that are installed", async (t) => {
  const { server, start } = await scene(t);
  const schema = (fields: object): object => ({
    openAPIV3Schema: { properties: { spec: { properties: fields } } },
  });
  server.put({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "podgroups.scheduling.volcano.sh" },
    spec: {
      versions: [
        { name: "v1alpha1", schema: schema({ old: {} }) },
        { name: "v1beta1", schema: schema({ minMember: {}, networkTopology: { properties: { mode: {} } } }) },
      ],
    },
  });
  const cluster = start();
  await until(() => cluster.synced());
  const { apis } = cluster.snapshot();
  t.same([...(apis.podGroupFields ?? [])], ["minMember", "networkTopology", "networkTopology.mode"]);
});

t.test("one namespace: namespaced kinds there alone, nodes as ever", async (t) => {
  const { server, start } = await scene(t);
  const cluster = start("a");
  await until(() => cluster.synced());
  const paths = server.requests.map(({ path }) => path);
  t.ok(paths.includes("/api/v1/namespaces/a/pods") && paths.includes("/api/v1/nodes"));
  t.ok(paths.includes("/apis/scheduling.volcano.sh/v1beta1/namespaces/a/podgroups"));
  const namespaces = server.requests.find(({ path }) => path === "/api/v1/namespaces");
  t.equal(namespaces?.query["fieldSelector"], "metadata.name=a");
});

t.test("a role watches only the kinds it names", async (t) => {
  const { server, start } = await scene(t);
  const cluster = start("", ["pods"]);
  await until(() => cluster.synced() && server.watching("pods") === 1);
  t.same([...new Set(server.requests.map(({ path }) => path))], ["/api/v1/pods"]);
  await cluster.stop();
  await until(() => server.watching("pods") === 0);
  t.pass("and stops");
});

t.test("the certificates' Secret is watched by its name", async (t) => {
  const { server, time } = await scene(t);
  const watching = watchCertificates({ ...ports(time), transport: server.transport() }, loadConfig());
  await until(() => server.watching("secrets") === 1);
  const secret = (name: string): KubeObject => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace: "tandem-system" },
  });
  server.put(secret("other"));
  server.put(secret("tandem-webhook-tls"));
  await until(() => watching.source.snapshot().items.length === 1);
  t.equal(watching.source.snapshot().items[0]?.metadata.name, "tandem-webhook-tls");
  await watching.stop();
});

t.test("of foreign pods only what they take from their node is kept, of ours the spec", (t) => {
  const pod = (labels: Record<string, string>): KubeObject => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "p",
      labels,
      managedFields: [{}],
      annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}", keep: "1" },
    },
    spec: {
      nodeName: "n",
      volumes: [{ name: "v" }],
      containers: [{ name: "c", args: ["--x"], env: [{ name: "A" }], resources: { requests: { cpu: "1" } } }],
      initContainers: [{ name: "i", restartPolicy: "Always", image: "x" }],
    },
    status: { phase: "Running", podIP: "10.0.0.1", qosClass: "Burstable" },
  });
  const foreign = slimPod(pod({}));
  t.same(foreign.spec, {
    nodeName: "n",
    containers: [{ name: "c", resources: { requests: { cpu: "1" } } }],
    initContainers: [{ name: "i", restartPolicy: "Always" }],
  });
  const apart = { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "zone" }] };
  const [open, host] = [{ containerPort: 80 }, { containerPort: 90, hostPort: 90 }];
  const spec = {
    affinity: { podAffinity: apart, podAntiAffinity: apart },
    containers: [{ name: "c", ports: [open, host] }],
    initContainers: [{ name: "i", ports: [open] }],
  };
  t.same(
    slimPod({ ...pod({}), spec }).spec,
    {
      affinity: { podAntiAffinity: apart },
      containers: [{ name: "c", ports: [host] }],
      initContainers: [{ name: "i" }],
    },
    "whom it keeps away stays",
  );
  const onHost = slimPod({ ...pod({}), spec: { ...spec, hostNetwork: true } });
  t.same(onHost.spec.containers[0]?.ports, [open, host], "on the host's network all ports count");
  t.same(foreign.metadata, { name: "p", labels: {}, annotations: { keep: "1" } });
  t.same(foreign.status, { phase: "Running", podIP: "10.0.0.1" });
  const ours = slimPod(pod({ "tandem.sh/model": "m" }));
  t.equal(ours.spec.containers[0]?.args?.[0], "--x");
  t.notOk("managedFields" in ours.metadata);
  t.end();
});

t.test("of a workload's managed fields only who scaled it is kept", (t) => {
  const entry = (manager: string, subresource: string | undefined, spec: object): object => ({
    ...{ manager, operation: "Update", subresource, time: "now", fieldsType: "FieldsV1" },
    fieldsV1: { "f:spec": spec, "f:metadata": {} },
  });
  const replicas = { "f:replicas": {}, "f:template": {} };
  const managedFields = [entry("kubectl", undefined, replicas), entry("other", "scale", replicas), "x", null];
  const workload = (fields: unknown): KubeObject => ({
    ...{ apiVersion: "apps/v1", kind: "Deployment" },
    metadata: { name: "w", managedFields: fields },
  });
  t.same(slimWorkload(workload(managedFields)).metadata["managedFields"], [
    { manager: "other", operation: "Update", subresource: "scale", fieldsV1: { "f:spec": { "f:replicas": {} } } },
  ]);
  t.notOk("managedFields" in slimWorkload(workload([entry("kubectl", undefined, replicas)])).metadata);
  t.notOk("managedFields" in slimWorkload(workload([entry("other", "scale", {})])).metadata);
  t.end();
});

t.test("nodes lose their list of images", (t) => {
  const node = slimNode({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n" },
    spec: { taints: [{ key: "k", effect: "NoSchedule" }] },
    status: {
      images: [{}],
      allocatable: { cpu: "4" },
      conditions: [{ type: "Ready", status: "True", lastHeartbeatTime: "now" }],
      nodeInfo: { kubeletVersion: "v1.33.1", machineID: "m" },
    },
  });
  t.same(node.status, {
    allocatable: { cpu: "4" },
    conditions: [{ type: "Ready", status: "True" }],
    nodeInfo: { kubeletVersion: "v1.33.1" },
  });
  t.match(node.spec, { taints: [{ key: "k" }] });
  t.end();
});
