/** Ways around the operator's policy: what is asked for elsewhere than in the keys of the workload. */
import t from "tap";
import { admitObject, admitPod, strip, type AdmitResult } from "../../../src/admission/admit.ts";
import { review } from "../../../src/admission/review.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Container, JsonObject, KubeObject, Pod, StringMap, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { isDenied } from "../../../src/kinds/verdict.ts";

const LABELS = { "tandem.sh/model": "m", "tandem.sh/role": "prefill" };
const settingsOf = (rule: object) =>
  loadConfig({ text: JSON.stringify({ admission: { policy: [{ name: "r", ...rule }] } }) }).admission;
const engine = (limits: StringMap = {}, name = "e"): Container => ({
  name,
  image: "vllm/vllm-openai",
  args: ["--model", "m"],
  ...(Object.keys(limits).length === 0 ? {} : { resources: { limits } }),
});

interface Shape {
  readonly own?: StringMap;
  readonly template?: StringMap;
  readonly containers?: Container[];
  readonly initContainers?: Container[];
}

const workload = ({ own = {}, template = {}, containers = [engine()], initContainers }: Shape = {}): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "n", uid: "u", labels: { ...LABELS }, annotations: { ...own } },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: "w" } },
    template: {
      metadata: { labels: { app: "w" }, annotations: { ...template } },
      spec: { containers, ...(initContainers === undefined ? {} : { initContainers }) },
    },
  },
});

const denials = ({ verdicts }: AdmitResult): string[] => verdicts.filter(isDenied).map(({ reason }) => reason);
const judge = (given: KubeObject, rule: object): string[] =>
  denials(admitObject(given, { snapshot: EMPTY_SNAPSHOT, settings: settingsOf(rule) }));

t.test("keys on the template or in a forged intent are keys of the workload", (t) => {
  const rule = { deniedKeys: ["tandem.sh/skip"] };
  t.same(judge(workload(), rule), []);
  t.same(judge(workload({ template: { "tandem.sh/skip": "kv" } }), rule), ["PolicyForbids"]);
  const forged = { "status.tandem.sh/intent": JSON.stringify({ "tandem.sh/skip": "kv" }) };
  t.same(judge(workload({ template: forged }), rule), ["PolicyForbids"]);
  t.same(judge(workload({ own: { "tandem.sh/mode": "route" }, template: forged }), rule), ["PolicyForbids"]);
  t.end();
});

t.test("a denial names where the value was found", (t) => {
  const said = (given: KubeObject, rule: object): string =>
    admitObject(given, { snapshot: EMPTY_SNAPSHOT, settings: settingsOf(rule) })
      .verdicts.filter(isDenied)
      .map(({ message }) => message)
      .join("\n");
  const key = { deniedKeys: ["tandem.sh/skip"] };
  const forged = { "status.tandem.sh/intent": JSON.stringify({ "tandem.sh/skip": "kv" }) };
  const bare = { name: "engine", image: "vllm/vllm-openai" };
  const gpus = workload({ containers: [engine({ "nvidia.com/gpu": "4" })] });
  const table: [KubeObject, object, RegExp][] = [
    [workload({ own: { "tandem.sh/skip": "kv" } }), key, /^tandem.sh\/skip \(set on the Deployment\)[^\n]*$/],
    [workload({ template: { "tandem.sh/skip": "kv" } }), key, /\(set on the pod template of the Deployment\)/],
    [workload({ template: forged }), key, /\(set on status.tandem.sh\/intent of the Pods\)/],
    [workload(), { modes: ["route"] }, /"manage" \(default of role prefill\)/],
    [workload({ containers: [bare] }), { accelerators: ["amd"] }, /"nvidia" \(default of admission.defaultProfile\)/],
    [gpus, { accelerators: ["amd"] }, /"nvidia" \(requested by container e\)/],
    [gpus, { maxAcceleratorsPerPod: 1 }, /\(requested by container e\) is not allowed/],
    [workload({ own: { "tandem.sh/scheduler": "volcano" } }), { queues: ["a"] }, /"default" \(default of Volcano\)/],
  ];
  for (const [given, rule, wanted] of table) t.match(said(given, rule), wanted);
  t.end();
});

t.test("an intent on the template of a routed workload asks for its Pods to be managed", (t) => {
  const routed = workload({ own: { "tandem.sh/mode": "route" }, template: { "status.tandem.sh/intent": "{}" } });
  t.same(judge(routed, { modes: ["route"] }), ["PolicyForbids"]);
  t.same(judge(workload({ own: { "tandem.sh/mode": "route" } }), { modes: ["route"] }), []);
  t.same(judge(workload(), { modes: ["manage"] }), [], "a template without an intent is no wish for another mode");
  t.end();
});

t.test("accelerators of all containers count, whichever the contract points to", (t) => {
  const asks = { "huawei.com/Ascend910": "8" };
  const rule = { accelerators: ["nvidia"] };
  const allowed = engine({ "nvidia.com/gpu": "1" });
  t.same(judge(workload({ containers: [allowed] }), rule), []);
  const own = { "tandem.sh/container": "e" };
  t.same(judge(workload({ own, containers: [allowed, engine(asks, "other")] }), rule), ["PolicyForbids"]);
  t.same(judge(workload({ own, containers: [allowed], initContainers: [engine(asks, "i")] }), rule), ["PolicyForbids"]);
  const two = workload({ own, containers: [allowed, engine({ "nvidia.com/gpu": "4" }, "other")] });
  t.same(judge(two, { maxAcceleratorsPerPod: 4 }), ["PolicyForbids"], "together");
  t.same(judge(two, { maxAcceleratorsPerPod: 5 }), []);
  t.end();
});

t.test("both templates of a LeaderWorkerSet are bound", (t) => {
  const template = (limits: StringMap, more: object = {}) => ({
    metadata: {},
    spec: { containers: [engine(limits)], ...more },
  });
  const set = (worker: object): KubeObject => ({
    apiVersion: "leaderworkerset.x-k8s.io/v1",
    kind: "LeaderWorkerSet",
    metadata: { name: "s", namespace: "n", uid: "s", labels: { ...LABELS } },
    spec: {
      replicas: 1,
      leaderWorkerTemplate: { size: 2, leaderTemplate: template({ "nvidia.com/gpu": "8" }), workerTemplate: worker },
    },
  });
  const rule = { accelerators: ["nvidia"], schedulers: ["default-scheduler"], maxAcceleratorsPerPod: 8 };
  t.same(judge(set(template({ "nvidia.com/gpu": "8" })), rule), []);
  t.same(judge(set(template({ "huawei.com/Ascend910": "8" })), rule), ["PolicyForbids"]);
  t.same(judge(set(template({ "nvidia.com/gpu": "16" })), rule), ["PolicyForbids"]);
  t.same(judge(set(template({ "nvidia.com/gpu": "8" }, { schedulerName: "mine" })), rule), ["PolicyForbids"]);
  t.end();
});

const OWNER = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true };
const pod = (labels: StringMap, owner?: object): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "p",
    namespace: "n",
    labels: { ...labels },
    ...(owner ? { ownerReferences: [owner as never] } : {}),
  },
  spec: { schedulerName: "mine", containers: [engine()] },
});

const SETTINGS = settingsOf({ schedulers: ["default-scheduler"] });
const create = (object: KubeObject, userInfo: object): boolean => {
  const request = { uid: "u", operation: "CREATE", kind: { kind: object.kind }, namespace: "n", object, userInfo };
  const context = { snapshot: { ...EMPTY_SNAPSHOT, workloads: [workload()] }, settings: SETTINGS };
  const { body } = review({ apiVersion: "admission.k8s.io/v1", request }, "mutate", context);
  return (body["response"] as { allowed: boolean }).allowed;
};

t.test("a reference to a workload that is in order makes no bare Pod its own", (t) => {
  const forged = pod(LABELS, OWNER);
  t.equal(create(forged, { username: "mallory", groups: ["system:authenticated"] }), false);
  t.equal(create(forged, { username: "system:serviceaccount:n:default" }), false);
  t.equal(create(forged, { username: "system:serviceaccount:kube-system:replicaset-controller" }), true);
  t.equal(create(forged, { username: "system:kube-controller-manager" }), true);
  t.end();
});

t.test("the labels that admission gives to every Pod are no keys that were asked for", (t) => {
  const context = { snapshot: EMPTY_SNAPSHOT, settings: settingsOf({ keys: ["tandem.sh/engine"] }) };
  const judged = (group: string): string[] => {
    const given = pod({ ...LABELS, "tandem.sh/group": group, "tandem.sh/cell": "0", "tandem.sh/instance": "i" }, OWNER);
    return denials(admitPod(given, context));
  };
  t.same(judged("m"), [], "its workload may not have been seen yet");
  t.same(judged("blue"), ["PolicyForbids"]);
  t.end();
});

t.test("the name of the release manager lets nothing through but letting go", (t) => {
  const settings = settingsOf({ schedulers: ["default-scheduler"] });
  const context = { snapshot: EMPTY_SNAPSHOT, settings };
  const stored = admitObject(workload(), context).object;
  const write = (object: KubeObject, oldObject?: KubeObject): { allowed: boolean; patch?: string } => {
    const request: JsonObject = {
      uid: "u",
      operation: oldObject === undefined ? "CREATE" : "UPDATE",
      kind: { kind: "Deployment" },
      namespace: "n",
      object,
      oldObject,
      options: { fieldManager: "tandem-release" },
    };
    const { body } = review({ apiVersion: "admission.k8s.io/v1", request }, "mutate", context);
    return body["response"] as { allowed: boolean; patch?: string };
  };
  const bare = strip(stored);
  t.notSame(bare, stored);
  t.match(write(bare, stored), { allowed: true, patch: undefined }, "as it was");
  t.match(write(bare, bare), { allowed: true, patch: undefined }, "and its ownership of fields given back");
  const edited = structuredClone(bare) as Workload;
  edited.spec.template.spec["schedulerName"] = "mine";
  t.equal(write(edited, stored).allowed, false);
  t.equal(write(edited).allowed, false);
  t.end();
});
