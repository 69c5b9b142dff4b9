/**
 * Tandem among tenants: what the API server keeps of its words, what a namespace may ask for, and what is repaired while
 * workloads run. Real kube-apiserver with an audit log, Deployment controller, scheduler and kubectl; Tandem's webhooks
 * and controller under the rights that the manifests give them; kwok's nodes.
 */
import t, { type Test } from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseObjects } from "../../src/cli/input.ts";
import {
  annotationOf,
  labelOf,
  type JsonObject,
  type KubeObject,
  type Pod,
  type Workload,
} from "../../src/kinds/kube.ts";
import { ENGINE_ENV, LABEL, OWNERSHIP, STATUS } from "../../src/kinds/names.ts";
import { hpa, scaledObject, scaledObjectCrd } from "./cluster/autoscalers.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { deployments, uids, workload, type Told } from "./cluster/deployments.ts";
import type { Output } from "./cluster/kubectl.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { startLaps } from "./cluster/laps.ts";
import { labelledDeployment } from "./cluster/load.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually } from "./cluster/process.ts";
import { metric } from "./cluster/series.ts";
import { buildProgram } from "./cluster/tandem.ts";

t.setTimeout(420_000);
const ASCEND = join(REPOSITORY, "manifests", "examples", "qwen3-32b-ascend.yaml");
const OPT_IN = { key: "tandem.test/enabled", value: "true" };
const GUESTS = {
  name: "guests",
  namespaceSelector: { matchLabels: { tier: "guest" } },
  deniedKeys: ["tandem.sh/gang"],
  modes: ["manage", "route"],
  queues: ["guests-*"],
  accelerators: ["nvidia"],
};
const RESYNC_MS = 1000;

let cluster: Cluster;
let service: Installation;
const lap = startLaps(t);

t.before(async () => {
  buildProgram();
  cluster = await startCluster({ audit: true });
  await cluster.applyCrds();
  await cluster.addNodes({ count: 4 });
  await cluster.addNodes({ count: 4, prefix: "npu", resource: "huawei.com/Ascend910", devices: 16, tree: false });
  await cluster.startScheduler();
  for (const namespace of ["open", "guest", "outside", "twice"]) await cluster.must(["create", "namespace", namespace]);
  for (const namespace of ["open", "guest", "twice"]) await optIn(namespace);
  await cluster.must(["label", "namespace", "guest", "tier=guest"]);
  const settings = [`admission.optIn=${OPT_IN.key}=${OPT_IN.value}`, `admission.policy=${JSON.stringify([GUESTS])}`];
  service = await install(cluster, { replicas: 1, settings, resyncMs: RESYNC_MS });
  lap("cluster and Tandem");
});
t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await service.stop();
  await cluster.stop();
});

const optIn = (namespace: string): Promise<string> =>
  cluster.must(["label", "namespace", namespace, `${OPT_IN.key}=${OPT_IN.value}`]);

const { send, apply, deployment, live, bound, eventsOn, told, audited } = deployments(() => cluster);

t.test("the kind ScaledObject is absent, and nothing is harmed", async (t) => {
  // Both roles are ready, so every kind was listed or found absent.
  t.notMatch(service.logs(), /forbidden|\b403\b/i, "every kind may be watched");
  await cluster.apply(scaledObjectCrd());
  await cluster.must(["wait", "--for=condition=Established", "--timeout=30s", "crd", "scaledobjects.keda.sh"]);
  await apply("open", scaledObject("keda"));
});

t.test("the API server keeps the audit annotations, and kubectl prints the warnings", async (t) => {
  const warnings = await apply("open", workload("audited", { "tandem.sh/topolgy": "off" }));
  t.match(warnings, /^Warning: .*tandem\.sh\/topolgy.*tandem\.sh\/topology/m);
  const kept = audited("open", "audited", 201);
  const reasons = kept["mutate.tandem.sh/reasons"] ?? "";
  for (const reason of ["changed/SchedulingInjected", "changed/DevicesInjected", "warned/UnknownKey"])
    t.ok(reasons.split(",").includes(reason), `${reason} in ${reasons}`);
  t.match(kept["validate.tandem.sh/reasons"], /allowed\/Decoded/);
  t.notMatch(kept["validate.tandem.sh/reasons"], /MutationMissed/);
  const { hash, version } = JSON.parse(annotationOf(await deployment("open", "audited"), STATUS.plan) ?? "{}") as {
    hash: string;
    version: number;
  };
  t.equal(kept["mutate.tandem.sh/plan"], `${hash} v${version}`, "the plan that is stored");

  const refused = await send("create", "open", workload("refused", { "tandem.sh/topology": "close" }));
  t.not(refused.code, 0);
  t.match(audited("open", "refused", 422)["mutate.tandem.sh/reasons"], /denied\/InvalidAnnotation/);
  await apply("open", labelledDeployment("stranger", { app: "stranger" }));
  t.notOk(JSON.stringify(audited("open", "stranger", 201)).includes("tandem"), "nothing is said of what is not ours");
});

t.test("the policy binds the namespaces that its selector matches, and no others", async (t) => {
  const volcano = { "tandem.sh/scheduler": "volcano" };
  const table: [string, Record<string, string>, RegExp | undefined][] = [
    ["what is allowed", {}, undefined],
    ["a key", { "tandem.sh/gang": "off" }, /tandem\.sh\/gang.*policy guests/],
    ["a mode", { "tandem.sh/mode": "observe" }, /tandem\.sh\/mode.*observe.*policy guests allows manage, route/],
    ["an allowed queue", { ...volcano, "tandem.sh/queue": "guests-a" }, undefined],
    ["a queue", { ...volcano, "tandem.sh/queue": "vip" }, /tandem\.sh\/queue.*vip.*policy guests allows guests-\*/],
    ["no queue, which is Volcano's default", volcano, /tandem\.sh\/queue.*default.*policy guests/],
    [
      "an accelerator",
      { "tandem.sh/accelerator": "nvidia-shared" },
      /tandem\.sh\/accelerator.*nvidia-shared.*policy guests allows nvidia/,
    ],
  ];
  for (const [what, annotations, denial] of table) {
    const object = workload("asked", annotations);
    const [guest, open] = await Promise.all(
      ["guest", "open"].map((namespace) => send("create", namespace, object, "--dry-run=server")),
    );
    t.equal(open?.code, 0, `${what} in another namespace: ${open?.stderr ?? ""}`);
    if (denial === undefined) t.equal(guest?.code, 0, `${what}: ${guest?.stderr ?? ""}`);
    else t.match(guest?.stderr, denial, what);
  }
});

t.test("the policy binds defaults of the Namespace, and Pods that no workload made", async (t) => {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "lone",
      labels: { [LABEL.model]: "lone", [LABEL.role]: "both" },
      annotations: { "tandem.sh/mode": "observe" },
    },
    spec: { containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0" }] },
  };
  t.match((await send("create", "guest", pod, "--dry-run=server")).stderr, /tandem\.sh\/mode.*policy guests/);
  t.equal((await send("create", "open", pod, "--dry-run=server")).code, 0);
  await cluster.must(["annotate", "namespace", "guest", "tandem.sh/mode=observe"]);
  await eventually("the default is seen", async () => {
    const { stderr } = await send("create", "guest", workload("by-default"), "--dry-run=server");
    return /tandem\.sh\/mode.*policy guests/.test(stderr) ? true : undefined;
  });
  await cluster.must(["annotate", "namespace", "guest", "tandem.sh/mode-"]);
  t.pass("and is denied");
  lap("policy");
});

t.test("a namespace opts in by its label, and out again", async (t) => {
  const fresh = (name: string): Promise<KubeObject> =>
    cluster.api.post("/apis/apps/v1/namespaces/outside/deployments?dryRun=All", workload(name));
  t.equal(await apply("outside", workload("early")), "", "no warning");
  const before = await deployment("outside", "early");
  t.equal(annotationOf(before, STATUS.plan), undefined);
  t.match(audited("outside", "early", 201)["mutate.tandem.sh/reasons"], /skipped\/NamespaceNotOptedIn/);
  t.same(await eventsOn("outside", "early"), [], "the controller is silent, too");

  await optIn("outside");
  await eventually("admission acts", async () => annotationOf(await fresh("probe"), STATUS.plan));
  await cluster.must(["annotate", "-n", "outside", "deployment", "early", "touched=1"]);
  const during = await deployment("outside", "early");
  t.type(annotationOf(during, STATUS.plan), "string", "the next write is admitted");
  await told("outside", "early", "Admitted");

  await cluster.must(["label", "namespace", "outside", `${OPT_IN.key}-`]);
  await eventually("admission stops", async () =>
    annotationOf(await fresh("probe"), STATUS.plan) === undefined ? true : undefined,
  );
  await cluster.must(["annotate", "-n", "outside", "deployment", "early", "touched=2", "--overwrite"]);
  const after = await deployment("outside", "early");
  t.same(after.spec, during.spec, "nothing is taken out, so nothing rolls");
});

const budgets = async (): Promise<KubeObject[]> =>
  cluster.api.list("/apis/policy/v1/namespaces/open/poddisruptionbudgets");
const isOurs = (object: KubeObject): boolean => labelOf(object, OWNERSHIP.label) === OWNERSHIP.value;
const ourBudgets = (count: number): Promise<KubeObject[]> =>
  eventually(`${count} budgets of ours`, async () => {
    const found = (await budgets()).filter(isOurs);
    return found.length === count ? found : undefined;
  });

t.test("disruption: budget makes a PodDisruptionBudget, and gives way to somebody else's", async (t) => {
  await apply("open", workload("guarded", { "tandem.sh/disruption": "budget" }, 2));
  const [ours] = await ourBudgets(1);
  t.match(ours, { spec: { minAvailable: 1, selector: { matchLabels: { app: "guarded" } } } });
  t.match(ours?.metadata.ownerReferences, [{ kind: "Deployment", name: "guarded" }]);
  await cluster.must(["create", "-n", "open", "pdb", "theirs", "--selector=app=guarded", "--min-available=1"]);
  await ourBudgets(0);
  t.same(
    (await budgets()).map(({ metadata }) => metadata.name),
    ["theirs"],
  );
  await cluster.must(["delete", "-n", "open", "pdb", "theirs"]);
  await ourBudgets(1);
  await cluster.must(["annotate", "-n", "open", "deployment", "guarded", "tandem.sh/disruption-"]);
  await ourBudgets(0);
});

const missedPods = (): Promise<number> =>
  metric(service.controllerMetrics(), "tandem_controller_verdicts_total", 'reason="PodMissed"');

t.test("pods made while no webhook answers start natively, and are found and labelled where they run", async (t) => {
  await apply("open", workload("missed", {}, 2));
  const admitted = await bound("open", "missed", 2);
  t.ok(admitted.every((pod) => JSON.stringify(pod).includes(ENGINE_ENV.kvTransferConfig)));
  t.equal(await missedPods(), 0);

  const [replica] = service.replicas;
  await service.end(replica!, "SIGKILL");
  await cluster.must(["delete", "pod", "-n", "open", "-l", "app=missed", "--wait=false"]);
  const native = await bound("open", "missed", 2);
  t.same(
    uids(native).filter((uid) => uids(admitted).includes(uid)),
    [],
  );
  t.notOk(
    native.some((pod) => JSON.stringify(pod.spec).includes(ENGINE_ENV.kvTransferConfig)),
    "nothing is injected",
  );
  await service.startReplica();
  await eventually("both are counted", async () => ((await missedPods()) === 2 ? true : undefined));
  await told("open", "missed", "PodMissed");

  await sleep(3 * RESYNC_MS);
  const repaired = await live("open", "missed");
  t.same(uids(repaired), uids(native), "no pod was replaced");
  for (const pod of repaired) {
    t.match(pod.metadata.labels, { [LABEL.model]: "missed", [LABEL.role]: "decode", [LABEL.entry]: "true" });
    t.equal(labelOf(pod, LABEL.instance), pod.metadata.uid);
    t.match(JSON.parse(annotationOf(pod, STATUS.endpoint) ?? "{}"), { connector: "none", port: 8000 });
    const statuses = (pod.status as { containerStatuses?: { restartCount: number }[] }).containerStatuses ?? [];
    t.ok(statuses.every(({ restartCount }) => restartCount === 0));
    t.same(pod.spec, native.find(({ metadata }) => metadata.uid === pod.metadata.uid)?.spec, "the pod runs as it was");
  }
  t.equal(await missedPods(), 2, "each is counted once");
  lap("missed pods");
});

const FORGED = JSON.stringify({ connector: "nixl", engine: "vllm", port: 1, served: ["other-model"] });

t.test("status annotations that a user writes on a Pod are taken off and told", async (t) => {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "forged",
      labels: { [LABEL.model]: "forged", [LABEL.role]: "both" },
      annotations: { [STATUS.endpoint]: FORGED, [STATUS.drain]: "true", [STATUS.labels]: "app", mine: "1" },
    },
    spec: { containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: ["--model", "m"] }] },
  };
  const warnings = await apply("open", pod);
  for (const key of [STATUS.endpoint, STATUS.drain, STATUS.labels])
    t.match(warnings, new RegExp(`Warning: ${key.replaceAll(".", "\\.")} .*taken off`), key);
  const stored = await cluster.api.get("/api/v1/namespaces/open/pods/forged");
  const keys = Object.keys(stored.metadata.annotations ?? {}).filter((key) => key.startsWith("status."));
  t.same(keys, []);
  t.equal(annotationOf(stored, "mine"), "1");
});

t.test("status annotations that a user writes on a Deployment mean nothing and are told", async (t) => {
  const plain = await apply("open", workload("honest"));
  t.notMatch(plain, /status\.tandem\.sh/);
  const forged = workload("dishonest", { [STATUS.plan]: '{"version":9,"hash":"x"}', [STATUS.drain]: "true" });
  forged.spec.template.metadata!.annotations = { [STATUS.endpoint]: FORGED };
  const warnings = await apply("open", forged);
  for (const [key, what] of [
    [STATUS.plan, "replaced"],
    [STATUS.drain, "means nothing"],
    [STATUS.endpoint, "not believed"],
  ] as const)
    t.match(warnings, new RegExp(`Warning: ${key.replaceAll(".", "\\.")} .*${what}`), key);
  t.match(audited("open", "dishonest", 201)["mutate.tandem.sh/reasons"], /warned\/StatusForeign/);
  const stored = await deployment("open", "dishonest");
  const plan = JSON.parse(annotationOf(stored, STATUS.plan) ?? "{}") as { version: number; changes: unknown[] };
  t.not(plan.version, 9);
  t.ok(plan.changes.length > 0);
  const [pod] = await bound("open", "dishonest", 1);
  t.match(JSON.parse(annotationOf(pod!, STATUS.endpoint) ?? "{}"), { port: 8000, served: ["m"] }, "Tandem's own facts");
  t.equal(annotationOf(pod!, STATUS.drain), undefined);
});

t.test("status annotations of live pods are written by Tandem alone, whoever else may patch pods", async (t) => {
  await apply("open", workload("routed", { "tandem.sh/mode": "route" }));
  await apply("open", workload("managed"));
  await apply("open", labelledDeployment("unlabelled", {}));
  const facts = (pod: Pod | undefined): Promise<string | undefined> =>
    cluster.api
      .get(`/api/v1/namespaces/open/pods/${pod?.metadata.name ?? ""}`)
      .then((found) => annotationOf(found, STATUS.endpoint));
  const write = (pod: { metadata: { name?: string } } | undefined, verb: string, ...words: string[]): Promise<Output> =>
    cluster.kubectl([verb, "-n", "open", "pod", pod?.metadata.name ?? "", "--overwrite", ...words]);
  for (const name of ["routed", "managed"]) {
    const [pod] = await bound("open", name, 1);
    const own = await eventually("facts of the pod", () => facts(pod));
    const forged = await write(pod, "annotate", `${STATUS.endpoint}=${FORGED}`);
    t.match(forged.stderr, /status\.tandem\.sh\/\* of a Pod are written by Tandem alone/);
    t.equal((await write(pod, "annotate", "note=1")).code, 0, "everything else is the user's");
    t.equal(await facts(pod), own);
  }
  const [plain] = await bound("open", "unlabelled", 1);
  t.not((await write(plain, "annotate", `${STATUS.endpoint}=${FORGED}`)).code, 0, "nor before it is an endpoint");
  t.match((await write(plain, "label", `${LABEL.model}=x`)).stderr, /labels tandem\.sh\/\* of a Pod come from/);
  t.match((await write(plain, "annotate", "tandem.sh/compat=x")).stderr, /annotations tandem\.sh\/\* of a Pod come/);
  t.equal((await write(plain, "annotate", "tandem.sh/mode=off")).code, 0, "out of routing it may be taken");
  const object = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "later", annotations: { [STATUS.endpoint]: FORGED } },
    spec: { containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0" }] },
  };
  await apply("open", object);
  const later = await write(object, "label", `${LABEL.model}=x`, `${LABEL.role}=both`);
  t.match(later.stderr, /take status\.tandem\.sh\/endpoint off/, "written at creation, without our label");
  t.equal((await write(object, "annotate", `${STATUS.endpoint}-`)).code, 0, "may be removed");
  t.equal((await write(object, "label", `${LABEL.model}=x`, `${LABEL.role}=both`)).code, 0);
});

/** A second autoscaler is told on the Deployment, and to whoever writes to it. */
async function contested(t: Test, name: string, by: string): Promise<void> {
  const { message, type } = await told("open", name, "AutoscalerContested");
  t.match(message, new RegExp(`autoscaling\\.tandem\\.sh/mode is set, but ${by} ${name} scales`));
  t.equal(type, "Warning");
  const warned = await eventually(
    "admission knows it, too",
    async () => {
      const gang = await cluster.kubectl([
        "annotate",
        "--dry-run=server",
        "-n",
        "open",
        "deployment",
        name,
        "tandem.sh/gang=off",
      ]);
      return gang.stderr.includes(by) ? gang : undefined;
    },
    45_000,
  );
  t.equal(warned.code, 0, "a warning, no denial");
}

t.test("an HPA on a target that Tandem scales is told", async (t) => {
  const auto = { "autoscaling.tandem.sh/mode": "auto" };
  await apply("open", workload("scaled", auto));
  await apply("open", workload("calm", auto));
  await apply("open", hpa("scaled"));
  await contested(t, "scaled", "HorizontalPodAutoscaler");
  t.same(
    (await eventsOn("open", "calm")).filter(({ reason }) => reason === "AutoscalerContested"),
    [],
  );
});

const ownEnvironment = (pod: Pod, name: string): unknown =>
  pod.spec.containers[0]?.env?.find((one) => one.name === name);

t.test("the sizes of an Ascend pair stand in one immutable ConfigMap that its Pods read", async (t) => {
  await cluster.must(["apply", "-n", "open", "-f", ASCEND]);
  const names = (parseObjects(readFileSync(ASCEND, "utf8"), ASCEND) as Workload[]).map(({ metadata }) => metadata.name);
  t.same(names, ["qwen3-32b-ascend-prefill", "qwen3-32b-ascend-decode"]);
  const sizes = await eventually("the ConfigMap", async () =>
    (await cluster.api.list("/api/v1/namespaces/open/configmaps")).find(
      (object) => isOurs(object) && !object.metadata.name?.endsWith("-standing"),
    ),
  );
  t.equal(sizes["immutable"], true);
  const data = sizes["data"] as Record<string, string>;
  t.same(Object.keys(data).sort(), ["decode", "prefill"]);
  const extra = { prefill: { dp_size: 1, tp_size: 8 }, decode: { dp_size: 1, tp_size: 4 } };
  for (const [role, kvRole] of [
    ["prefill", "kv_producer"],
    ["decode", "kv_consumer"],
  ] as const) {
    const config = JSON.parse(data[role] ?? "") as JsonObject;
    t.match(config, { kv_role: kvRole, kv_connector: "MooncakeConnectorV1" });
    t.same(config["kv_connector_extra_config"], extra, "both roles' sizes");
    for (const pod of await bound("open", `qwen3-32b-ascend-${role}`, 2)) {
      const configMapKeyRef = { name: sizes.metadata.name, key: role };
      t.match(ownEnvironment(pod, ENGINE_ENV.kvTransferConfig), { valueFrom: { configMapKeyRef } });
      t.ok(pod.spec.containers[0]?.args?.includes("--kv-transfer-config"));
    }
  }
  const edit = await cluster.kubectl([
    ...["patch", "-n", "open", "configmap", sizes.metadata.name ?? "", "--type=merge"],
    ...["-p", JSON.stringify({ data: { prefill: "{}" } })],
  ]);
  t.match(edit.stderr, /immutable/, "nobody changes it under running engines");
});

t.test("a share of HAMi's carries the label by which a refused pod is tried again", async (t) => {
  const object = workload("share", { "tandem.sh/parallelism": "tp=1" });
  object.spec.template.spec.containers[0]!.resources = {
    limits: { "nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000" },
  };
  await apply("open", object);
  const [pod] = await eventually("its pod", async () => {
    const pods = await live("open", "share");
    return pods.length > 0 ? pods : undefined;
  });
  t.match(labelOf(pod!, "scheduling.x-k8s.io/pod-group"), /^tandem-share-0-[0-9a-f]{8}$/);
});

t.test("ScaledObject installed while Tandem runs is found", async (t) => {
  await apply("open", workload("keda", { "autoscaling.tandem.sh/mode": "auto" }));
  await contested(t, "keda", "ScaledObject");
});

t.test("the explanation stands as Events on the Deployment, and is told once", async (t) => {
  await apply("twice", workload("explained", { "tandem.sh/topolgy": "off" }));
  const { message, type } = await told("twice", "explained", "Admitted");
  t.equal(type, "Normal");
  t.match(message, /changed: scheduling.*devices.*complaints: .*UnknownKey/);
  t.match(message, /skipped: gang, engine, kv, probes;/, "every stage is named once");
  const complaint = await told("twice", "explained", "UnknownKey");
  t.equal(complaint.type, "Warning");
  await bound("twice", "explained", 1);
  const settled = async (): Promise<Told[]> => {
    await sleep(3 * RESYNC_MS);
    return eventsOn("twice", "explained");
  };
  const before = await settled();
  t.ok(before.length <= 6, before.map(({ reason }) => reason).join());
  await cluster.must(["annotate", "-n", "twice", "deployment", "explained", "note=1"]);
  await cluster.must(["scale", "-n", "twice", "deployment", "explained", "--replicas=2"]);
  await bound("twice", "explained", 2);
  await service.restartController();
  const after = await settled();
  const facts = (events: readonly Told[]): unknown[] =>
    events.map(({ metadata, reason, count }) => [metadata.uid, metadata["resourceVersion"], reason, count]);
  t.same(facts(after), facts(before), after.map(({ reason, message }) => `${reason}: ${message}`).join("\n"));
});
