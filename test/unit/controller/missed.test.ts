import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Action } from "../../../src/controller/action.ts";
import { createExplainer } from "../../../src/controller/explanations.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { optedIn } from "../../../src/controller/reach.ts";
import type { KubeObject, Pod, StringMap, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { allowed, warned } from "../../../src/kinds/verdict.ts";

const config = loadConfig();
const plan = (snapshot: Partial<ClusterSnapshot>, text = ""): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, ...snapshot }, { config: loadConfig({ text }), acts: () => true });

const workload = (annotations: StringMap = {}, name = "w"): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    name,
    namespace: "a",
    uid: `uid-${name}`,
    labels: { "tandem.sh/model": "m", "tandem.sh/role": "decode" },
    annotations: { ...annotations },
  },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name, tier: "x" } },
      spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
    },
  },
});

const SERVICE = { "tandem.sh/model": "m", "tandem.sh/role": "decode", "tandem.sh/group": "m", "tandem.sh/cell": "0" };
const INTENT = { "status.tandem.sh/intent": "{}" };
const pod = (annotations: StringMap = INTENT, labels: StringMap = SERVICE, args: string[] = []): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "w-1",
    namespace: "a",
    uid: "pod-uid",
    labels: { app: "w", ...labels },
    annotations: { ...annotations },
    ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true }],
  },
  spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args }] },
});

interface Body {
  readonly metadata: { readonly labels: StringMap; readonly annotations: StringMap };
}
const patchesOf = (actions: readonly Action[]): Body[] =>
  actions.flatMap((action) => (action.do === "patch" ? [action.body as Body] : []));
const done = (given: Pod, { metadata }: Body): Pod => ({
  ...given,
  metadata: {
    ...given.metadata,
    labels: { ...given.metadata.labels, ...metadata.labels },
    annotations: { ...given.metadata.annotations, ...metadata.annotations },
  },
});

t.test("a pod that admission missed is routed to as its template says, and told of on its workload", (t) => {
  const workloads = [workload()];
  const actions = plan({ workloads, pods: [pod()] });
  t.match(actions, [
    { do: "patch", kind: "Pod", verdict: { outcome: "warned", reason: "PodMissed" }, about: workloads },
  ]);
  const [body] = patchesOf(actions);
  t.match(body, { metadata: { labels: { "tandem.sh/entry": "true", "tandem.sh/instance": "pod-uid" } } });
  const facts = body?.metadata.annotations["status.tandem.sh/endpoint"] ?? "";
  t.match(
    JSON.parse(facts),
    { connector: "none", port: 8000, served: ["m"] },
    "nothing transfers: it was never told to",
  );
  const repaired = body === undefined ? pod() : done(pod(), body);
  t.same(plan({ workloads, pods: [repaired] }), [], "once");
  t.end();
});

t.test("its own transfer configuration stands", (t) => {
  const args = ["--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'];
  const given = workload();
  const [container] = given.spec.template.spec.containers;
  if (container !== undefined) container.args = ["--model", "m", ...args];
  const [body] = patchesOf(plan({ workloads: [given], pods: [pod(INTENT, SERVICE, args)] }));
  t.match(JSON.parse(body?.metadata.annotations["status.tandem.sh/endpoint"] ?? "{}"), { connector: "nixl" });
  t.end();
});

t.test("what is no missed pod", (t) => {
  const workloads = [workload()];
  const none = (given: Pod): boolean => t.same(plan({ workloads, pods: [given] }), []);
  none(pod({ ...INTENT, "status.tandem.sh/endpoint": "{}" }));
  none(pod({}, {}));
  none(pod({}, SERVICE));
  t.equal(
    plan({ workloads, pods: [pod({}, SERVICE)] }, "admission: { target: pod }").length,
    1,
    "target pod: no intent",
  );
  const ours = { "status.tandem.sh/labels": Object.keys(SERVICE).join(), "status.tandem.sh/endpoint": "{}" };
  t.same(plan({ workloads, pods: [pod(ours)] }), [], "of a time of mode route: serves until it is replaced");
  const observed = [workload({ "tandem.sh/mode": "observe" })];
  t.match(plan({ workloads: observed, pods: [pod(ours)] }), [{ verdict: { reason: "PodUnlabelled" } }]);
  t.end();
});

const budgetOf = (actions: readonly Action[]): KubeObject | undefined =>
  actions.flatMap((action) => (action.do === "apply" ? [action.object] : []))[0];
const foreign = (matchLabels: StringMap): KubeObject => ({
  apiVersion: "policy/v1",
  kind: "PodDisruptionBudget",
  metadata: { name: "theirs", namespace: "a" },
  spec: { minAvailable: 1, selector: { matchLabels } },
});

t.test("a disruption budget: made where it is asked for and nobody has one, once, and removed again", (t) => {
  const asks = workload({ "tandem.sh/disruption": "budget" });
  const workloads = [asks];
  const actions = plan({ workloads, budgets: [] });
  t.match(actions, [{ do: "apply", verdict: { reason: "BudgetApplied" }, about: [asks] }]);
  const made = budgetOf(actions);
  t.match(made, {
    apiVersion: "policy/v1",
    metadata: { name: /^tandem-w-[0-9a-f]{8}$/, namespace: "a", ownerReferences: [{ uid: "uid-w" }] },
    spec: { minAvailable: 1, selector: { matchLabels: { app: "w" } }, unhealthyPodEvictionPolicy: "AlwaysAllow" },
  });
  const stored = made === undefined ? [] : [made];
  t.same(plan({ workloads, budgets: stored }), []);
  t.same(plan({ workloads }), [], "budgets that are not watched are not judged");
  t.same(plan({ workloads, budgets: [foreign({ tier: "x" })] }), [], "another selects the pods");
  t.match(plan({ workloads, budgets: [foreign({ tier: "y" })] }), [{ do: "apply" }]);
  t.match(plan({ workloads, budgets: [...stored, foreign({ tier: "x" })] }), [
    { do: "remove", kind: "PodDisruptionBudget" },
  ]);
  t.match(plan({ workloads: [workload()], budgets: stored }), [{ do: "remove", verdict: { reason: "BudgetRemoved" } }]);
  t.same(plan({ workloads: [], budgets: [foreign({ app: "w" })] }), [], "never those of others");
  t.end();
});

t.test("explanations: a summary and the complaints, again only when something that was read changed", (t) => {
  let asked = 0;
  const explain = createExplainer((one) => {
    asked++;
    return [
      allowed("Admitted", `fine ${one.metadata.name ?? ""}`),
      allowed("Decoded", "x"),
      ...Array.from({ length: 20 }, (_, index) => warned("GroupDisagrees", String(index))),
    ];
  });
  const given = workload();
  const contract = { workload: given } as never;
  const snapshot = { ...EMPTY_SNAPSHOT, workloads: [given] };
  const actions = explain([contract], snapshot);
  t.equal(actions.length, 9, "bounded");
  t.match(actions[0], { do: "tell", key: "explain/uid-w/0", verdict: { reason: "Admitted" }, about: [given] });
  t.equal(explain([contract], { ...snapshot, workloads: [given], pods: [pod()] }).length, 9);
  t.equal(asked, 1, "pods come and go");
  const busy = { ...given, status: { readyReplicas: 1 }, metadata: { ...given.metadata, resourceVersion: "7" } };
  const after = explain([{ workload: busy } as never], { ...snapshot, workloads: [busy] });
  t.equal(asked, 1, "and the status with them");
  t.equal(after[0]?.about[0], busy);
  explain([contract], { ...snapshot, workloads: [given, workload({}, "other")] });
  t.equal(asked, 2, "a partner came");
  t.end();
});

t.test("where namespaces opt in, the controller acts in those alone", (t) => {
  const snapshot: ClusterSnapshot = {
    ...EMPTY_SNAPSHOT,
    namespaces: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "in", labels: { t: "1" } } }],
  };
  const acts = optedIn(() => true, snapshot, loadConfig({ text: "admission: { optIn: t=1 }" }));
  t.same([acts("in"), acts("out")], [true, false]);
  t.equal(optedIn(() => true, snapshot, config)("out"), true);
  t.end();
});
