/** The dev overlay: rendered as expected, taken by a real API server, with the rights that each role needs and no more. */
import t from "tap";
import { readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { createTwoFilesPatch } from "diff";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import type { Output } from "./cluster/kubectl.ts";
import { renderText } from "./cluster/manifests.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually, temporaryFolder } from "./cluster/process.ts";

const GOLDEN = join(REPOSITORY, "test", "golden", "install", "dev.yaml");
t.setTimeout(300_000);
let cluster: Cluster;

t.before(async () => {
  cluster = await startCluster();
});
t.teardown(async () => {
  if (!t.passing()) t.comment(cluster.logs());
  await cluster.stop();
});

t.test("kubectl kustomize manifests/overlays/dev gives the golden file", async (t) => {
  const rendered = await renderText("overlays/dev");
  if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(GOLDEN, rendered);
  const golden = readFileSync(GOLDEN, "utf8");
  t.ok(rendered === golden, createTwoFilesPatch("golden", "rendered", golden, rendered));
});

t.test("the API server takes it whole, twice, without a warning", async (t) => {
  await cluster.applyCrds();
  const overlay = join(REPOSITORY, "manifests", "overlays", "dev");
  const args = ["apply", "--server-side", "-k", overlay];
  const first = await cluster.kubectl(args);
  t.equal(first.code, 0, first.stderr);
  t.equal(first.stderr, "", "no warning, as of the pod security admission");
  const dryRun = await cluster.kubectl([...args, "--dry-run=server"]);
  t.equal(dryRun.code, 0, dryRun.stderr);
});

t.test("the restricted namespace lets Tandem's pods in", async (t) => {
  const pods = await eventually("six pods", async () => {
    const found = await cluster.pods("tandem-system");
    return found.length >= 6 ? found : undefined;
  });
  const components = pods.map(({ metadata }) => metadata.labels?.["app.kubernetes.io/component"]).sort();
  t.same(components, ["admission", "admission", "autoscaler", "controller", "router", "router"]);
});

t.test("no object is stopped while no webhook answers", async (t) => {
  const template = {
    metadata: { labels: { app: "engine", "tandem.sh/model": "m", "tandem.sh/role": "decode" } },
    spec: { containers: [{ name: "engine", image: "engine:1" }] },
  };
  const metadata = { name: "labelled", namespace: "default", labels: template.metadata.labels };
  const selector = { matchLabels: { app: "engine" } };
  await cluster.apply([{ apiVersion: "apps/v1", kind: "Deployment", metadata, spec: { selector, template } }]);
  const pods = await eventually("its pod", async () => {
    const found = await cluster.pods("default", "app=engine");
    return found.length > 0 ? found : undefined;
  });
  t.equal(pods.length, 1);
});

/** `verb resource[/name] [namespace]`, or `verb resource//subresource` */
const MAY: Record<string, readonly string[]> = {
  admission: [
    "watch pods",
    "list nodes",
    "watch hypernodes.topology.volcano.sh",
    "watch secrets/tandem-webhook-tls tandem-system",
  ],
  controller: [
    "patch podgroups.scheduling.volcano.sh",
    "watch customresourcedefinitions.apiextensions.k8s.io/podgroups.scheduling.volcano.sh",
    "create podgroups.scheduling.volcano.sh",
    "delete podgroups.scheduling.volcano.sh",
    "create configmaps",
    "patch configmaps",
    // The record of a cell that stood, when no pod of it is bound any more.
    "delete configmaps",
    "create events",
    "patch pods",
    // The rest of an instance that has lost a member.
    "delete pods",
    "delete services",
    "create poddisruptionbudgets.policy",
    "delete poddisruptionbudgets.policy",
    "watch horizontalpodautoscalers.autoscaling",
    "watch scaledobjects.keda.sh",
    "watch podautoscalers.autoscaling.aibrix.ai",
    "watch variantautoscalings.llmd.ai",
    "watch deployments.apps",
    "create secrets tandem-system",
    "patch secrets/tandem-webhook-tls tandem-system",
    "get secrets/tandem-webhook-tls-authority tandem-system",
    "patch secrets/tandem-webhook-tls-authority tandem-system",
    "create leases.coordination.k8s.io tandem-system",
    "patch leases.coordination.k8s.io/tandem-controller tandem-system",
    "patch mutatingwebhookconfigurations.admissionregistration.k8s.io/tandem",
    "patch validatingwebhookconfigurations.admissionregistration.k8s.io/tandem",
  ],
  autoscaler: [
    "watch deployments.apps",
    "patch deployments.apps",
    "get deployments.apps//scale",
    "patch deployments.apps//scale",
    "patch statefulsets.apps//scale",
    "patch leaderworkersets.leaderworkerset.x-k8s.io//scale",
    "watch pods",
    "patch pods",
    "watch poddisruptionbudgets.policy",
    "watch horizontalpodautoscalers.autoscaling",
    "watch namespaces",
    "create events",
    "create leases.coordination.k8s.io tandem-system",
    "patch leases.coordination.k8s.io/tandem-autoscaler tandem-system",
  ],
  // Their labels tell which have opted in.
  router: ["watch pods", "list namespaces"],
};
const MAY_NOT: Record<string, readonly string[]> = {
  admission: [
    "patch pods",
    "create pods",
    "get secrets",
    "update deployments.apps",
    "get secrets/other tandem-system",
    "get secrets/tandem-webhook-tls-authority tandem-system",
    "list secrets tandem-system",
    "patch secrets/tandem-webhook-tls tandem-system",
    "get configmaps",
  ],
  controller: [
    "create pods",
    "patch deployments.apps",
    "get secrets",
    "get secrets/other tandem-system",
    "list secrets tandem-system",
    "create secrets",
    "create secrets default",
    "delete secrets/tandem-webhook-tls tandem-system",
    "delete nodes",
    "patch pods/status",
    "patch leases.coordination.k8s.io/other tandem-system",
    "patch podgroups.scheduling.volcano.sh/status",
    "patch mutatingwebhookconfigurations.admissionregistration.k8s.io/other",
    "create clusterroles.rbac.authorization.k8s.io",
  ],
  autoscaler: [
    "get pods",
    "delete pods",
    "create pods",
    "update deployments.apps",
    "create deployments.apps",
    "delete deployments.apps",
    "get deployments.apps",
    "update deployments.apps//scale",
    "patch poddisruptionbudgets.policy",
    "patch horizontalpodautoscalers.autoscaling",
    "get secrets",
    "list nodes",
    "list configmaps",
    "patch leases.coordination.k8s.io/tandem-controller tandem-system",
    "patch pods/status",
  ],
  router: [
    "patch pods",
    "list nodes",
    "get secrets",
    "get secrets/tandem-webhook-tls tandem-system",
    "list deployments.apps",
    "get namespaces",
  ],
};

/** Asks the API server's authorizer about the role's ServiceAccount. */
async function allowed(component: string, question: string): Promise<boolean> {
  const [verb = "", target = "", namespace] = question.split(" ");
  const [kind = "", named, below] = target.split("/");
  const name = named === "" ? undefined : named;
  const [resource = "", ...group] = kind.split(".");
  const where = namespace === undefined ? {} : { namespace };
  const subresource = name === "status" ? name : below;
  const part = subresource !== undefined ? { subresource } : name === undefined ? {} : { name };
  const resourceAttributes = { verb, group: group.join("."), resource, ...where, ...part };
  const user = `system:serviceaccount:tandem-system:tandem-${component}`;
  const review = await cluster.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {
    spec: { user, resourceAttributes },
  });
  return (review["status"] as { allowed: boolean }).allowed;
}

for (const component of Object.keys(MAY))
  t.test(`${component} has the rights it needs and no others`, async (t) => {
    for (const question of MAY[component] ?? []) t.ok(await allowed(component, question), `may ${question}`);
    for (const question of MAY_NOT[component] ?? []) t.notOk(await allowed(component, question), `may not ${question}`);
  });

t.test("the controller changes and deletes what it made, and nothing of others", async (t) => {
  const object = (name: string, labels: Record<string, string>): KubeObject => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace: "default", labels },
  });
  await cluster.apply([object("theirs", {}), object("ours", { "tandem.sh/owned-by": "controller" })]);
  const remove = (name: string): Promise<Output> =>
    cluster.kubectl([
      ...["delete", "configmap", name, "-n", "default", "--wait=false"],
      "--as=system:serviceaccount:tandem-system:tandem-controller",
    ]);
  await eventually("the policy holds", async () => {
    const { stderr } = await remove("theirs");
    if (!stderr.includes("deletes Pods of Tandem's workloads")) await cluster.apply([object("theirs", {})]);
    return stderr.includes("deletes Pods of Tandem's workloads") ? true : undefined;
  });
  const change = (name: string): Promise<Output> =>
    cluster.kubectl(
      [
        ...["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"],
        "--as=system:serviceaccount:tandem-system:tandem-controller",
      ],
      JSON.stringify(object(name, { "tandem.sh/owned-by": "controller", a: "b" })),
    );
  t.match((await change("theirs")).stderr, /somebody else's/);
  t.equal((await change("ours")).code, 0);
  t.equal((await remove("ours")).code, 0);
});

t.test("what may be added is taken too", async () => {
  for (const file of ["components/network-policy/network-policy.yaml", "envoy/decode-service.yaml"])
    await cluster.must(["apply", "--server-side", "-f", join(REPOSITORY, "manifests", file)]);
});

t.test("each component over the base is taken by the API server", async (t) => {
  for (const component of readdirSync(join(REPOSITORY, "manifests", "components"))) {
    const { folder, remove } = temporaryFolder("tandem-overlay-");
    const at = (path: string): string =>
      relative(realpathSync(folder), join(realpathSync(REPOSITORY), "manifests", path));
    const kustomization = { resources: [at("base")], components: [at(`components/${component}`)] };
    writeFileSync(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
    const args = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", folder];
    const { code, stderr } = await cluster.kubectl(args);
    t.equal(code, 0, `${component}: ${stderr}`);
    remove();
  }
});
