import jsonpatch, { type Operation } from "fast-json-patch";
import t from "tap";
import { review, type ReviewReply, type Webhook } from "../../../src/admission/review.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { JsonObject } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";

const context = { snapshot: EMPTY_SNAPSHOT, settings: loadConfig({}).admission };

const workload = (annotations: object = {}, image = "vllm/vllm-openai", replicas = 2): JsonObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "n", labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" }, annotations },
  spec: { replicas, template: { metadata: {}, spec: { containers: [{ name: "e", image, args: ["--model", "m"] }] } } },
});

const body = (object: unknown, over: JsonObject = {}): JsonObject => ({
  apiVersion: "admission.k8s.io/v1",
  kind: "AdmissionReview",
  request: { uid: "u", operation: "CREATE", kind: { kind: "Deployment" }, namespace: "n", object, ...over },
});

interface Response {
  readonly uid: string;
  readonly allowed: boolean;
  readonly patch?: string;
  readonly patchType?: string;
  readonly warnings?: readonly string[];
  readonly auditAnnotations?: Readonly<Record<string, string>>;
  readonly status?: { readonly code: number; readonly message: string };
}
const responseOf = (reply: ReviewReply): Response => reply.body["response"] as Response;
const ask = (request: unknown, webhook: Webhook = "mutate"): Response => responseOf(review(request, webhook, context));
/** Without what goes to the audit log. */
const plain = (response: Response): Response =>
  Object.fromEntries(Object.entries(response).filter(([key]) => key !== "auditAnnotations")) as unknown as Response;
const patchOf = (response: Response): Operation[] =>
  response.patch === undefined ? [] : (JSON.parse(Buffer.from(response.patch, "base64").toString()) as Operation[]);
const patched = (object: JsonObject, response: Response): JsonObject =>
  jsonpatch.applyPatch(structuredClone(object), patchOf(response)).newDocument;

t.test("a workload is patched; its end state passes and is not patched again", (t) => {
  const response = ask(body(workload()));
  t.match(response, { uid: "u", allowed: true, patchType: "JSONPatch" });
  const stored = patched(workload(), response);
  t.match(stored, { spec: { template: { metadata: { labels: { "tandem.sh/role": "prefill" } } } } });
  t.same(plain(ask(body(stored, { operation: "UPDATE", oldObject: stored }))), { uid: "u", allowed: true });
  t.same(plain(ask(body(stored), "validate")), { uid: "u", allowed: true });
  t.match(ask(body(workload()), "validate").warnings, [/lacks what Tandem injects/], "a missed mutation is told");
  t.end();
});

t.test("a dry run is answered alike", (t) => {
  t.same(ask(body(workload(), { dryRun: true })), ask(body(workload())));
  t.end();
});

t.test("an invalid value is denied by both, with key and accepted values", (t) => {
  for (const webhook of ["mutate", "validate"] as const) {
    const { allowed, status } = ask(body(workload({ "tandem.sh/engine": "tgi" })), webhook);
    t.equal(allowed, false);
    t.match(status, { code: 422, message: 'tandem.sh/engine: "tgi" is not accepted; give vllm, vllm-ascend, sglang' });
  }
  t.end();
});

t.test("an old mistake does not stop updates that leave it as it is", (t) => {
  const wrong = workload({ "tandem.sh/engine": "tgi" });
  const update = (object: unknown): Response => ask(body(object, { operation: "UPDATE", oldObject: wrong }));
  t.equal(update({ ...wrong, status: { replicas: 1 } }).allowed, true);
  t.match(update(wrong).warnings, [/tandem.sh\/engine/]);
  t.equal(update(workload({ "tandem.sh/engine": "trt" })).allowed, false);
  t.equal(update({ ...wrong, metadata: { ...(wrong["metadata"] as object), deletionTimestamp: "x" } }).allowed, true);
  t.end();
});

t.test("taking the label away takes everything out", (t) => {
  const stored = patched(workload(), ask(body(workload())));
  const bare = { ...stored, metadata: { ...(stored["metadata"] as object), labels: {} } };
  const response = ask(body(bare, { operation: "UPDATE", oldObject: stored }));
  t.same(patched(bare, response), {
    ...workload(),
    metadata: { name: "w", namespace: "n", labels: {}, annotations: {} },
  });
  t.end();
});

t.test("rollout undo, edits of injected values and changed arguments keep one consistent template", (t) => {
  const sized = (tp: string): JsonObject => {
    const { spec, ...rest } = workload();
    const containers = [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m", "-tp", tp] }];
    const template = { metadata: {}, spec: { containers } };
    return { ...rest, spec: { ...(spec as object), template } };
  };
  const update = (object: JsonObject, oldObject: JsonObject): JsonObject =>
    patched(object, ask(body(object, { operation: "UPDATE", oldObject })));
  const limits = (object: JsonObject): string => /"limits":(\{[^}]*\})/.exec(JSON.stringify(object))?.[1] ?? "none";
  const first = patched(sized("2"), ask(body(sized("2"))));
  t.equal(limits(first), '{"nvidia.com/gpu":"2"}');
  const arguments4 = JSON.parse(JSON.stringify(first).replace('"-tp","2"', '"-tp","4"')) as JsonObject;
  const second = update(arguments4, first);
  t.equal(limits(second), '{"nvidia.com/gpu":"4"}', "the size follows the arguments");
  const template = (object: JsonObject): unknown => (object["spec"] as JsonObject)["template"];
  const undone = { ...first, metadata: { ...(first["metadata"] as object), resourceVersion: "9" } };
  t.same(template(update(undone, second)), template(first), "undo brings template and annotations of that revision");
  const edited = JSON.parse(
    JSON.stringify(first).replace('"nvidia.com/gpu":"2"', '"nvidia.com/gpu":"4"'),
  ) as JsonObject;
  t.equal(limits(update(edited, first)), '{"nvidia.com/gpu":"4"}', "an edited value is the user's");
  const labels = { "tandem.sh/model": "m", "tandem.sh/role": "decode" };
  const relabelled = { ...first, metadata: { ...(first["metadata"] as object), labels } };
  t.match(template(update(relabelled, first)), { metadata: { labels: { "tandem.sh/role": "decode" } } });
  t.end();
});

t.test("what release writes is not injected again", (t) => {
  const oldObject = patched(workload(), ask(body(workload())));
  const update = { operation: "UPDATE", oldObject, options: { fieldManager: "tandem-release" } };
  t.equal(ask(body(workload(), update)).patch, undefined);
  t.type(ask(body(workload(), { ...update, options: {} })).patch, "string", "by anybody else it is");
  t.end();
});

t.test("a forged plan reaches nowhere but into the template, and is never replayed", (t) => {
  const change = (path: unknown): string =>
    JSON.stringify({ version: 1, hash: "x", bare: false, changes: [{ kind: "set", path, value: "evil", made: 0 }] });
  const forged = (path: unknown): JsonObject => workload({ "status.tandem.sh/plan": change(path) });
  for (const path of [
    ["metadata", "name"],
    ["spec", "template", "spec", "nodeName"],
    ["spec", "template", "__proto__", "x"],
  ]) {
    const object = forged(path);
    const stored = patched(object, ask(body(object)));
    t.equal((stored["metadata"] as JsonObject)["name"], "w");
    t.notMatch(JSON.stringify(stored["spec"]), /evil/);
  }
  t.equal(({} as JsonObject)["x"], undefined);
  t.end();
});

t.test("Pods: the namespace comes from the request; a Pod of a controller is never denied", (t) => {
  const pod = (extra: JsonObject): JsonObject => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      generateName: "w-",
      labels: { "tandem.sh/model": "m", "tandem.sh/role": "decode" },
      annotations: { "status.tandem.sh/intent": "{}" },
      ...extra,
    },
    spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
  });
  const request = { kind: { kind: "Pod" } };
  const response = ask(body(pod({}), request));
  const stored = patched(pod({}), response);
  t.match(stored, { metadata: { labels: { "tandem.sh/entry": "true" } }, spec: { enableServiceLinks: false } });
  t.notOk(patchOf(response).some(({ path }) => path.includes("namespace")));
  const wrong = { labels: { "tandem.sh/model": "m", "tandem.sh/role": "nurse" } };
  t.equal(ask(body(pod(wrong), request)).allowed, false);
  const owned = {
    ...wrong,
    ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true }],
  };
  t.match(ask(body(pod(owned), request)), { allowed: true, warnings: [/tandem.sh\/role/] });
  t.equal(ask(body(pod({}), { ...request, operation: "UPDATE" })).patch, undefined);
  t.end();
});

t.test("names that roll nothing come from the owner in the snapshot", (t) => {
  const owner = workload({ "tandem.sh/served-model": "alias" });
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "w-7f-x",
      labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" },
      annotations: { "status.tandem.sh/intent": "{}" },
      ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-7f", uid: "r", controller: true }],
    },
    spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
  };
  const snapshot = { ...EMPTY_SNAPSHOT, workloads: [owner as never] };
  const reply = review(body(pod, { kind: { kind: "Pod" } }), "mutate", { ...context, snapshot });
  t.match(JSON.stringify(patchOf(responseOf(reply))), /\[\\"m\\",\\"alias\\"\]/);
  t.end();
});

t.test("malformed reviews: open for mutate, shut for validate, 400 without a uid", (t) => {
  for (const bad of [undefined, null, [], "x", {}, { request: {} }, { ...body(workload()), apiVersion: "v1beta1" }])
    t.match(review(bad, "mutate", context), { status: 400, outcome: "malformed" });
  const objects = [
    null,
    7,
    {},
    { kind: "Deployment" },
    { kind: "Deployment", metadata: { labels: { "tandem.sh/cell": 0 } } },
  ];
  for (const object of objects) {
    t.match(ask(body(object)), { allowed: true, warnings: [/could not be decoded/] });
    t.match(ask(body(object), "validate"), { allowed: false, status: { code: 422 } });
  }
  t.end();
});

t.test("what carries no workload of its own is let through unread, by both", (t) => {
  const foreign: JsonObject[] = [
    { operation: "DELETE", object: null, oldObject: workload() },
    { operation: "CONNECT", object: { kind: "PodExecOptions" } },
    { operation: "UPDATE", subResource: "scale", object: { kind: "Scale", metadata: { name: "w" } } },
    { operation: "UPDATE", subResource: "status", object: workload(), oldObject: workload() },
    { operation: "CREATE", subResource: "eviction", object: { kind: "Eviction", metadata: { name: "w" } } },
  ];
  for (const over of foreign)
    for (const webhook of ["mutate", "validate"] as const)
      t.same(ask(body(null, over), webhook), { uid: "u", allowed: true }, JSON.stringify(over).slice(0, 60));
  t.end();
});

t.test("what admission adds never makes a legal object too large", (t) => {
  const most = 262144;
  const filled = (room: number): JsonObject => workload({ a: "x".repeat(most - 1 - room) });
  const response = ask(body(filled(100)));
  t.equal(response.patch, undefined);
  t.match(response.warnings, [/no room for Tandem's annotations/]);
  t.ok(ask(body(filled(8192))).patch);
  const pod = (room: number): JsonObject => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "p",
      labels: { "tandem.sh/model": "m", "tandem.sh/role": "decode" },
      annotations: { "status.tandem.sh/intent": "{}", a: "x".repeat(most - 26 - room) },
    },
    spec: { containers: [{ name: "e", image: "vllm/vllm-openai" }] },
  });
  t.match(ask(body(pod(50), { kind: { kind: "Pod" } })), { patch: undefined, warnings: [/no room/] });
  t.ok(ask(body(pod(8192), { kind: { kind: "Pod" } })).patch);
  t.end();
});

t.test("a list that repeats itself cannot outgrow what is read back", (t) => {
  for (const [key, item] of [
    ["tandem.sh/skip", "probes,"],
    ["tandem.sh/parallelism", "tp=1,"],
    ["tandem.sh/served-model", "m,"],
  ] as const)
    t.equal(ask(body(workload({ [key]: item.repeat(20000) }))).allowed, false, key);
  t.end();
});

t.test("warnings are short printable ASCII", (t) => {
  const { warnings = [] } = ask(body(workload({ [`tandem.sh/mod\u00e9${"x".repeat(300)}`]: "1" })));
  t.ok(warnings.length > 0);
  for (const warning of warnings) t.match(warning, /^[\x20-\x7e]{1,120}$/);
  t.end();
});

t.test("an update of an autoscaled workload keeps its replicas, by a patch and a warning", (t) => {
  const auto = { "autoscaling.tandem.sh/mode": "auto" };
  const update = (object: JsonObject, oldObject: JsonObject): Response =>
    ask(body(object, { operation: "UPDATE", oldObject }));
  const stored = patched(workload(auto, undefined, 5), ask(body(workload(auto, undefined, 5))));
  const answer = update(workload(auto), stored);
  t.same(patched(workload(auto), answer), stored);
  t.same(answer.warnings, ["replicas stay 5, not 2: autoscaling.tandem.sh/mode is auto; use kubectl scale"]);
  const missed = ask(body(workload(auto), { operation: "UPDATE", oldObject: stored }), "validate").warnings;
  t.match(missed, [/^Deployment lacks what Tandem injects/], "the second webhook keeps nothing, and does not say so");
  t.equal(missed?.length, 1);
  const off = patched(workload(), update(workload(), stored));
  t.match(off, { spec: { replicas: 2 } }, "where autoscaling ends, the manifest holds again");
  const fewer = update(workload({ ...auto, "tandem.sh/nodes-per-instance": "4" }, undefined, 8), stored);
  t.match(fewer.allowed ? "" : fewer.status?.message, /^(?!.*5 replicas)/, "five make no instances of four");
  t.end();
});

t.test("a mistake in the keys of autoscaling is denied, though nothing else changed", (t) => {
  const stored = patched(workload(), ask(body(workload())));
  const wrong = { ...workload({ "autoscaling.tandem.sh/mode": "on" }) };
  const update = (object: JsonObject, oldObject: JsonObject): Response =>
    ask(body(object, { operation: "UPDATE", oldObject }));
  t.match(update(wrong, stored), { allowed: false, status: { message: /^autoscaling.tandem.sh\/mode: "on"/ } });
  t.match(update({ ...wrong, status: {} }, wrong), { allowed: true, warnings: [/^autoscaling.tandem.sh\/mode: "on"/] });
  t.end();
});
