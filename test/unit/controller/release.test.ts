import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { reachOf } from "../../../src/controller/reach.ts";
import { disownOperations, releasePlan, type ReleaseFacts } from "../../../src/controller/release.ts";
import type { KubeObject, Pod, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import jsonpatch from "fast-json-patch";

const bare: Workload = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "d", namespace: "a", resourceVersion: "7", labels: { "tandem.sh/model": "m" } },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: "d" } },
    template: { metadata: { labels: { app: "d" } }, spec: { containers: [{ name: "e" }] } },
  },
};
const admitted = structuredClone(bare);
admitted.metadata.annotations = { "status.tandem.sh/plan": "{}" };
admitted.spec.template.spec.schedulerName = "volcano";

const pod = (annotations: Record<string, string>): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "d-1", namespace: "a", uid: "u", labels: { app: "d", "tandem.sh/role": "both" }, annotations },
  spec: { containers: [] },
});

const webhooks: KubeObject = {
  apiVersion: "admissionregistration.k8s.io/v1",
  kind: "MutatingWebhookConfiguration",
  metadata: { name: "tandem" },
  webhooks: [
    {
      name: "mutate.tandem.sh",
      namespaceSelector: {
        matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "NotIn", values: ["kube-system"] }],
      },
    },
    { name: "all.tandem.sh" },
  ],
};

const plan = (facts: Partial<ReleaseFacts>): ReturnType<typeof releasePlan> =>
  releasePlan({ namespace: undefined, webhooks: [], workloads: [], pods: [], owned: [], strip: () => bare, ...facts });

function after<T extends KubeObject>(object: T, action: Action | undefined): T {
  if (action?.do !== "patch") throw new Error("a patch was expected");
  return jsonpatch.applyPatch(structuredClone(object), action.body as jsonpatch.Operation[], true).newDocument;
}

t.test("a workload becomes what it was, under the version that was read", (t) => {
  const { rest, notes } = plan({ workloads: [admitted], pods: [pod({})] });
  t.match(rest, [{ do: "patch", type: "json", verdict: { message: "stripped; 1 pods roll", numbers: { pods: 1 } } }]);
  t.same(after(admitted, rest[0]), bare);
  t.match((rest[0] as { body: unknown[] }).body[0], { op: "replace", path: "/metadata/resourceVersion", value: "7" });
  t.same(notes, []);
  t.same(plan({ workloads: [bare] }).rest, [], "and then there is nothing to do");
  t.end();
});

t.test("pods that were changed at creation and do not roll are named, with the command that rolls them", (t) => {
  const pods = [pod({ "status.tandem.sh/endpoint": "{}" })];
  t.match(plan({ workloads: [bare], pods }).notes, [
    { outcome: "warned", message: /kubectl -n a rollout restart deployment\/d/ },
  ]);
  const labelled = [pod({ "status.tandem.sh/endpoint": "{}", "status.tandem.sh/labels": "tandem.sh/role" })];
  const released = plan({ workloads: [bare], pods: labelled });
  t.same(released.notes, []);
  t.match(released.rest, [{ do: "patch", body: { metadata: { labels: { "tandem.sh/role": null } } } }]);
  t.end();
});

t.test("drains of the autoscaler are taken back, and its answers go", (t) => {
  const draining = "2026-01-01T00:00:00.000Z cost=7";
  const cost = "controller.kubernetes.io/pod-deletion-cost";
  const marks = {
    "autoscaling.tandem.sh/draining": draining,
    "status.tandem.sh/drain": "scale-in",
    [cost]: "-2147483648",
  };
  t.match(plan({ pods: [pod(marks)] }).rest, [
    {
      do: "patch",
      type: "merge",
      body: {
        metadata: {
          uid: "u",
          annotations: { "autoscaling.tandem.sh/draining": null, "status.tandem.sh/drain": null, [cost]: "7" },
        },
      },
    },
  ]);
  const told = structuredClone(bare);
  told.metadata.annotations = { "autoscaling.tandem.sh/mode": "auto", "autoscaling.tandem.sh/status": "{}" };
  const { rest } = plan({ workloads: [told], strip: (object) => object });
  t.same(
    rest.map((action) => (action as { body: { metadata: { annotations: object } } }).body.metadata.annotations),
    [{ "autoscaling.tandem.sh/status": null }],
    "the user's own stay",
  );
  t.end();
});

t.test("what we made is deleted, this incarnation of it", (t) => {
  const owned = [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "a", uid: "x" } }];
  t.match(plan({ owned }).rest, [{ do: "remove", ref: { plural: "configmaps", name: "c" }, uid: "x" }]);
  t.end();
});

t.test("webhooks reach the namespace no more, and the controller with them; a second time changes nothing", (t) => {
  const snapshot = { ...EMPTY_SNAPSHOT };
  const one = after(webhooks, plan({ namespace: "a", webhooks: [webhooks] }).webhooks[0]);
  const acts = reachOf(one, snapshot);
  t.same(["a", "b", "kube-system"].map(acts), [false, true, true], "the second hook of this test takes kube-system");
  t.same(plan({ namespace: "a", webhooks: [one] }).webhooks, []);
  const all = after(webhooks, plan({ webhooks: [webhooks] }).webhooks[0]);
  t.same(["a", "b", "kube-system"].map(reachOf(all, snapshot)), [false, false, false]);
  t.same(plan({ webhooks: [all] }).webhooks, []);
  t.end();
});

t.test("where the controller acts", (t) => {
  const team = { apiVersion: "v1", kind: "Namespace", metadata: { name: "a", labels: { team: "x" } } };
  const hooks = [{ name: "h", namespaceSelector: { matchLabels: { team: "x" } } }];
  const snapshot = { ...EMPTY_SNAPSHOT, namespaces: [team] };
  t.same(["a", "b"].map(reachOf({ ...webhooks, webhooks: hooks }, snapshot)), [true, false]);
  t.same(["a", "b"].map(reachOf(undefined, snapshot)), [false, false], "no configuration: nowhere");
  t.same(["a", "b"].map(reachOf("none", snapshot)), [true, true], "none is configured: everywhere");
  t.end();
});

t.test("field ownership is given back", (t) => {
  const object = structuredClone(admitted);
  object.metadata["managedFields"] = [{ manager: "kubectl" }, { manager: "tandem-release" }];
  t.same(disownOperations(object), [
    { op: "replace", path: "/metadata/resourceVersion", value: "7" },
    { op: "remove", path: "/metadata/managedFields/1" },
  ]);
  t.equal(disownOperations(bare), undefined);
  t.end();
});
