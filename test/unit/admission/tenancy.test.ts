import t from "tap";
import { admitObject, admitPod, type AdmitResult } from "../../../src/admission/admit.ts";
import { review } from "../../../src/admission/review.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Namespace, Pod, StringMap, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { isDenied, type Reason } from "../../../src/kinds/verdict.ts";

const settingsOf = (admission: object) => loadConfig({ text: JSON.stringify({ admission }) }).admission;
const LABELS = { "tandem.sh/model": "m", "tandem.sh/role": "prefill" };

const workload = (annotations: StringMap = {}, more: object = {}): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "n", uid: "u", labels: LABELS, annotations: { ...annotations } },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: "w" } },
    template: {
      metadata: { labels: { app: "w" } },
      spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
    },
    ...more,
  },
});

const pod = (annotations: StringMap = {}, labels: StringMap = LABELS, owner?: object): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "p",
    namespace: "n",
    labels: { ...labels },
    annotations: { ...annotations },
    ...(owner === undefined ? {} : { ownerReferences: [owner as never] }),
  },
  spec: { containers: [{ name: "e", image: "vllm/vllm-openai" }] },
});

const namespace = (labels: StringMap = {}, annotations: StringMap = {}): Namespace => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: "n", labels: { ...labels }, annotations: { ...annotations } },
});

const snapshot = (parts: Partial<ClusterSnapshot> = {}): ClusterSnapshot => ({ ...EMPTY_SNAPSHOT, ...parts });
const reasons = ({ verdicts }: AdmitResult, of = isDenied): Reason[] => verdicts.filter(of).map(({ reason }) => reason);
const warnings = (result: AdmitResult): Reason[] => reasons(result, ({ outcome }) => outcome === "warned");

t.test("which rules bind a namespace", (t) => {
  const rule = (namespaceSelector: object) =>
    settingsOf({ policy: [{ name: "r", namespaceSelector, modes: ["route"] }] });
  const denied = (selector: object, namespaces: Namespace[]): boolean =>
    reasons(admitObject(workload(), { snapshot: snapshot({ namespaces }), settings: rule(selector) })).length > 0;
  const team = [namespace({ team: "a" })];
  t.equal(denied({}, team), true, "no selector binds all");
  t.equal(denied({ matchLabels: { team: "a" } }, team), true);
  t.equal(denied({ matchLabels: { team: "b" } }, team), false);
  t.equal(denied({ matchExpressions: [{ key: "team", operator: "NotIn", values: ["a"] }] }, team), false);
  t.equal(denied({ matchLabels: { "kubernetes.io/metadata.name": "n" } }, []), true, "the name is always known");
  t.equal(denied({ matchLabels: { "kubernetes.io/metadata.name": "other" } }, []), false);
  t.equal(denied({ matchLabels: { team: "b" } }, []), true, "labels that are not known yet let nobody escape");
  t.end();
});

t.test("a further rule only narrows", (t) => {
  const queues = (...lists: string[][]) => settingsOf({ policy: lists.map((queues) => ({ name: "r", queues })) });
  const given = workload({ "tandem.sh/queue": "b", "tandem.sh/scheduler": "volcano" });
  const denials = (settings: ReturnType<typeof settingsOf>): number =>
    reasons(admitObject(given, { snapshot: snapshot(), settings })).length;
  t.equal(denials(queues(["a", "b"])), 0);
  t.equal(denials(queues(["a", "b"], ["a"])), 1);
  t.equal(denials(queues(["a"], ["a", "b"])), 1, "in any order");
  t.end();
});

t.test("a policy that came later stops nobody's controllers, and the next change of a person", (t) => {
  const stored = admitObject(workload({ "tandem.sh/queue": "x" }), {
    snapshot: snapshot(),
    settings: settingsOf({}),
  }).object;
  const settings = settingsOf({ policy: [{ name: "r", deniedKeys: ["tandem.sh/queue"] }] });
  const same = admitObject(stored, { snapshot: snapshot(), settings, previous: stored });
  t.same(reasons(same), []);
  t.same(warnings(same), ["PolicyForbids"]);
  t.same(same.object, stored);
  const edited = structuredClone(stored) as Workload;
  edited.metadata.annotations = { ...edited.metadata.annotations, "tandem.sh/engine": "vllm" };
  t.same(reasons(admitObject(edited, { snapshot: snapshot(), settings, previous: stored })), ["PolicyForbids"]);
  t.end();
});

t.test("modes that inject nothing are bound as well, and so are Pods of nobody's", (t) => {
  const settings = settingsOf({ policy: [{ name: "r", models: ["other"] }] });
  const context = { snapshot: snapshot(), settings };
  t.same(reasons(admitObject(workload({ "tandem.sh/mode": "route" }), context)), ["PolicyForbids"]);
  t.same(reasons(admitPod(pod(), context)), ["PolicyForbids"], "a bare Pod");
  const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true };
  t.same(reasons(admitPod(pod({}, LABELS, owner), context)), ["PolicyForbids"], "of a workload that is not known");
  const known = { ...context, snapshot: snapshot({ workloads: [workload()] }) };
  t.same(reasons(admitPod(pod({}, LABELS, owner), known)), [], "its workload was judged");
  t.same(reasons(admitPod(pod({}, { app: "x" }), context)), [], "not ours");
  t.end();
});

t.test("Volcano's own queue annotation, and none at all, are queues too", (t) => {
  const settings = settingsOf({ policy: [{ name: "r", queues: ["gold"] }] });
  const admit = (given: Workload) => reasons(admitObject(given, { snapshot: snapshot(), settings }));
  t.same(admit(workload({ "tandem.sh/scheduler": "volcano" })), ["PolicyForbids"], "the queue default");
  t.same(admit(workload({ "tandem.sh/scheduler": "volcano", "tandem.sh/queue": "gold" })), []);
  t.same(admit(workload()), [], "no queue under another scheduler");
  const own = workload({ "tandem.sh/scheduler": "volcano", "tandem.sh/queue": "gold" });
  own.spec.template.metadata = {
    ...own.spec.template.metadata,
    annotations: { "scheduling.volcano.sh/queue-name": "x" },
  };
  t.same(admit(own), ["PolicyForbids"]);
  t.end();
});

t.test("opt-in: by key or by value, and what was injected stays", (t) => {
  const injected = admitObject(workload(), { snapshot: snapshot(), settings: settingsOf({}) }).object;
  const touched = (optIn: string, labels: StringMap): boolean => {
    const known = snapshot({ namespaces: [namespace(labels)] });
    const { verdicts } = admitObject(workload(), { snapshot: known, settings: settingsOf({ optIn }) });
    return !verdicts.some(({ reason }) => reason === "NamespaceNotOptedIn");
  };
  t.equal(touched("tandem.sh/enabled", { "tandem.sh/enabled": "" }), true);
  t.equal(touched("tandem.sh/enabled=true", { "tandem.sh/enabled": "false" }), false);
  t.equal(touched("tandem.sh/enabled=true", { "tandem.sh/enabled": "true" }), true);
  t.equal(touched("tandem.sh/enabled=true", {}), false);
  const left = admitObject(injected, {
    snapshot: snapshot(),
    settings: settingsOf({ optIn: "a=b" }),
    previous: injected,
  });
  t.equal(left.object, injected);
  t.throws(() => settingsOf({ optIn: "two words" }), /admission.optIn: "two words" is not accepted/);
  t.end();
});

t.test("foreign status: told when it is brought, silent afterwards", (t) => {
  const context = { snapshot: snapshot(), settings: settingsOf({}) };
  const forged = workload({ "status.tandem.sh/endpoint": "{}", "status.tandem.sh/whatever": "1" });
  const first = admitObject(forged, context);
  t.same(warnings(first), ["StatusForeign", "StatusForeign"]);
  t.same(warnings(admitObject(first.object, { ...context, previous: first.object })), []);
  const clean = admitObject(workload(), context);
  t.same(warnings(clean), []);
  t.same(warnings(admitObject(clean.object, context)), [], "our own plan, brought along by a restored copy");
  const other = structuredClone(clean.object);
  other.metadata.annotations = { ...other.metadata.annotations, "status.tandem.sh/plan": "{}" };
  const replaced = admitObject(other, { ...context, previous: clean.object });
  t.same(warnings(replaced), ["StatusForeign"]);
  t.same(replaced.object, clean.object);
  t.end();
});

t.test("Pods are stored without status that others wrote, in every mode", (t) => {
  const context = { snapshot: snapshot(), settings: settingsOf({}) };
  const lies = {
    "status.tandem.sh/drain": "true",
    "status.tandem.sh/labels": "tandem.sh/model",
    "status.tandem.sh/endpoint": "{}",
  };
  const routed = admitPod(pod({ ...lies, mine: "x" }), context);
  t.same(routed.object.metadata.annotations, { mine: "x" });
  t.same(warnings(routed), ["StatusForeign", "StatusForeign", "StatusForeign"]);
  t.same(
    admitPod(routed.object as Pod, context).verdicts.filter(({ outcome }) => outcome === "warned"),
    [],
  );
  const managed =
    admitPod(pod({ ...lies, "status.tandem.sh/intent": "{}" }), context).object.metadata.annotations ?? {};
  t.same(Object.keys(managed).sort(), ["status.tandem.sh/endpoint", "status.tandem.sh/intent"]);
  t.match(managed["status.tandem.sh/endpoint"], /"connector"/, "written anew");
  t.end();
});

t.test("the end state is judged, whoever wrote it last", (t) => {
  const context = {
    snapshot: snapshot(),
    settings: settingsOf({ policy: [{ name: "r", schedulers: ["default-scheduler"] }] }),
  };
  const ask = (object: KubeObject) =>
    review(
      {
        apiVersion: "admission.k8s.io/v1",
        request: { uid: "u", operation: "CREATE", kind: { kind: object.kind }, namespace: "n", object },
      },
      "validate",
      context,
    ).body["response"] as {
      allowed: boolean;
      status?: { message: string };
      warnings?: string[];
      auditAnnotations?: StringMap;
    };
  const ours = admitObject(workload({ "tandem.sh/accelerator": "nvidia" }), context).object as Workload;
  t.match(ask(ours), {
    allowed: true,
    auditAnnotations: { plan: /^[0-9a-f]{16} v\d+$/, reasons: /changed\/SchedulingInjected/ },
  });
  const template = (change: object): Workload => {
    const copy = structuredClone(ours);
    Object.assign(copy.spec.template.spec, change);
    return copy;
  };
  t.match(ask(template({ schedulerName: "hami-scheduler" })), {
    allowed: false,
    status: { message: /hami-scheduler/ },
  });
  const container = {
    ...ours.spec.template.spec.containers[0],
    resources: { limits: { "huawei.com/Ascend910": "1" } },
  };
  t.match(ask(template({ containers: [container] })), {
    allowed: false,
    status: { message: /tandem.sh\/accelerator is nvidia/ },
  });
  const bare = structuredClone(ours);
  bare.spec.template.metadata = { labels: { app: "w" } };
  const missed = ask(bare);
  t.equal(missed.allowed, true);
  t.match(missed.warnings?.[0], /lacks what Tandem injects/);
  t.match(missed.auditAnnotations, { reasons: /./ });
  t.end();
});
