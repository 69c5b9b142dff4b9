/** Each role's part that talks to the API server, against a real one, under the role's own identity as installed. */
import t from "tap";
import { reconcileCertificates, serviceNames } from "../../src/certs/loop.ts";
import { createKubeClient, type KubeClient } from "../../src/cluster/client.ts";
import { createLease } from "../../src/cluster/lease.ts";
import { startCluster as startWatching, watchCertificates, type SourceName } from "../../src/cluster/sources.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { FIELD_MANAGER, OWNERSHIP, VOLCANO } from "../../src/kinds/names.ts";
import { changed } from "../../src/kinds/verdict.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { render, webhooksByUrl, withoutPods } from "./cluster/manifests.ts";
import { eventually } from "./cluster/process.ts";

t.setTimeout(300_000);
const NAMESPACE = "tandem-system";
const WEBHOOKS = "/apis/admissionregistration.k8s.io/v1";
const ports = { clock: systemClock, timers: systemTimers, random: systemRandom, log: SILENT_LOG, metrics: NO_METRICS };
let cluster: Cluster;

t.before(async () => {
  cluster = await startCluster();
  await cluster.applyCrds();
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  // Applied by somebody whose manager must not get the bundle back at the next apply.
  await cluster.apply(webhooksByUrl(objects, "https://127.0.0.1:1"));
});
t.teardown(async () => {
  if (!t.passing()) t.comment(cluster.logs());
  await cluster.stop();
});

/** The client and the configuration of a role, with a token of its ServiceAccount. */
async function as(role: string): Promise<{ client: KubeClient; config: Config }> {
  const kubeconfig = await cluster.kubeconfigFor(NAMESPACE, `tandem-${role}`);
  const config = loadConfig({ flags: { "cluster.kubeconfig": kubeconfig } });
  return { client: await createKubeClient(config.cluster, { clock: systemClock }), config };
}

const bundles = async (plural: string): Promise<(string | undefined)[]> => {
  const { webhooks } = (await cluster.api.get(`${WEBHOOKS}/${plural}/tandem`)) as unknown as {
    webhooks: { clientConfig: { caBundle?: string } }[];
  };
  return webhooks.map(({ clientConfig }) => clientConfig.caBundle);
};

t.test("the controller makes the certificates, and its bundle survives the next apply", async (t) => {
  const { client, config } = await as("controller");
  t.teardown(() => client.close());
  const { namespace, service, webhookConfiguration } = config.controller;
  const pass = (): Promise<readonly unknown[]> =>
    reconcileCertificates({
      reader: client,
      writer: client,
      clock: systemClock,
      random: systemRandom,
      namespace,
      secret: config.admission.certificates.secret,
      names: serviceNames(service, namespace),
      webhookConfiguration,
    });
  await pass();
  const plurals = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
  const written = await Promise.all(plurals.map(bundles));
  for (const [bundle] of written) t.match(Buffer.from(bundle ?? "", "base64").toString("utf8"), /BEGIN CERTIFICATE/);
  t.same(await pass(), [], "nothing is left to do");
  await cluster.apply(webhooksByUrl(await render("overlays/dev"), "https://127.0.0.1:1"));
  t.same(await Promise.all(plurals.map(bundles)), written);
});

t.test("the controller writes its own kinds", async (t) => {
  const { client } = await as("controller");
  t.teardown(() => client.close());
  const labels = { [OWNERSHIP.label]: OWNERSHIP.value };
  const metadata = { name: "tandem-m-0", namespace: "default", labels };
  const group = { apiVersion: VOLCANO.podGroupApiVersion, kind: "PodGroup", metadata, spec: { minMember: 2 } };
  const stored = await client.apply(group, FIELD_MANAGER.controller);
  await client.apply(group, FIELD_MANAGER.controller);
  t.match(stored["spec"], { minMember: 2 });
  await client.apply(
    { apiVersion: "v1", kind: "ConfigMap", metadata, data: { sizes: "{}" } },
    FIELD_MANAGER.controller,
  );
  await client.event(stored, changed("CertificatesIssued", "told by a test"));
  const events = await cluster.api.list("/api/v1/namespaces/default/events");
  t.ok(events.some((event) => event["message"] === "told by a test"));
});

t.test("of two controllers one leads, and the other takes over", async (t) => {
  const [one, two] = [await as("controller"), await as("controller")];
  t.teardown(() => [one, two].forEach(({ client }) => client.close()));
  const { namespace, lease: name } = one.config.controller;
  const leaseOf = ({ client }: typeof one, identity: string): ReturnType<typeof createLease> =>
    createLease({ ...ports, reader: client, writer: client, namespace, name, identity });
  const first = leaseOf(one, "one");
  await eventually("the first leads", () => Promise.resolve(first.isLeader() || undefined));
  const second = leaseOf(two, "two");
  t.notOk(second.isLeader());
  await first.stop();
  await eventually("the second leads", () => Promise.resolve(second.isLeader() || undefined));
  t.notOk(first.isLeader());
  await second.stop();
});

const READS: Record<string, readonly SourceName[]> = {
  admission: ["deployments", "statefulSets", "leaderWorkerSets", "pods", "nodes", "hyperNodes", "namespaces"],
  controller: [
    ...["deployments", "statefulSets", "leaderWorkerSets", "pods", "nodes", "hyperNodes", "namespaces"],
    ...["podGroups", "configMaps", "services"],
  ] as SourceName[],
  router: ["pods"],
};

for (const [role, kinds] of Object.entries(READS))
  t.test(`${role} may watch what it decides from`, async (t) => {
    const { client, config } = await as(role);
    const watching = startWatching({ ...ports, transport: client.transport, config: config.cluster, kinds });
    t.teardown(async () => {
      await watching.stop();
      client.close();
    });
    await eventually("all kinds listed", () => Promise.resolve(watching.synced() || undefined));
  });

t.test("admission sees the certificates that the controller wrote", async (t) => {
  const { client, config } = await as("admission");
  const watching = watchCertificates({ ...ports, transport: client.transport }, config);
  t.teardown(async () => {
    await watching.stop();
    client.close();
  });
  const [secret] = await eventually<readonly KubeObject[]>("the Secret", () => {
    const { items } = watching.source.snapshot();
    return Promise.resolve(items.length > 0 ? items : undefined);
  });
  const { data } = secret as unknown as { data: Record<string, string> };
  for (const key of ["tls.crt", "tls.key"]) t.ok(data[key], key);
});
