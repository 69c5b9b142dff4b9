import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { loadConfig } from "../../../src/config/load.ts";
import {
  keyOf,
  type JsonObject,
  type HyperNode,
  type KubeObject,
  type OwnerReference,
  type Pod,
  type Workload,
} from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";

const config = loadConfig();
const plan = (snapshot: Partial<ClusterSnapshot>, acts = (): boolean => true): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, apis: { podGroups: true, hyperNodes: true }, ...snapshot }, { config, acts });

interface Given {
  readonly annotations?: Record<string, string>;
  readonly labels?: Record<string, string>;
  readonly args?: string[];
  readonly replicas?: number;
  readonly uid?: string;
}

function deployment(role: string, given: Given = {}): Workload {
  const name = `m-${role}`;
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name,
      namespace: "a",
      uid: given.uid ?? `uid-${role}`,
      labels: { "tandem.sh/model": "m", "tandem.sh/role": role, ...given.labels },
      annotations: { ...given.annotations },
    },
    spec: {
      replicas: given.replicas ?? 2,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          schedulerName: "volcano",
          containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: given.args ?? ["--model", "q"] }],
        },
      },
    },
  };
}

const made = (by: string) => [
  { apiVersion: "apps/v1", kind: "ReplicaSet", name: `${by}-1`, uid: "r", controller: true },
];
const pod = (app: string, more: Partial<Pod["metadata"]> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...{ name: `${app}-x`, namespace: "a", uid: "pod-uid", ownerReferences: made(app), ...more },
    labels: { app, ...more.labels },
  },
  spec: { containers: [{ name: "engine" }] },
});

const pair = (given: Given = {}): Workload[] => [deployment("prefill", given), deployment("decode", given)];
const said = (actions: readonly Action[]): string[] =>
  actions.map(({ do: verb, verdict }) => `${verb} ${verdict.reason}`);
const applied = (actions: readonly Action[], kind: string): KubeObject[] =>
  actions.flatMap((action) => (action.do === "apply" && action.object.kind === kind ? [action.object] : []));
const MOONCAKE = { "tandem.sh/engine": "vllm-ascend", "tandem.sh/kv-connector": "mooncake" };

t.test("a PodGroup for the cell, owned by its workloads, without flags that would hold anything back", (t) => {
  const actions = plan({ workloads: pair() });
  t.same(said(actions), ["apply PodGroupApplied"]);
  const [podGroup] = applied(actions, "PodGroup");
  t.match(podGroup, {
    apiVersion: "scheduling.volcano.sh/v1beta1",
    metadata: {
      namespace: "a",
      name: /^tandem-m-0-[0-9a-f]{8}$/,
      labels: { "tandem.sh/owned-by": "controller", "tandem.sh/cell": "0" },
      ownerReferences: [
        { kind: "Deployment", name: "m-decode", uid: "uid-decode" },
        { kind: "Deployment", name: "m-prefill", uid: "uid-prefill" },
      ],
    },
    spec: { minMember: 2, minTaskMember: { prefill: 1, decode: 1 } },
  });
  t.notOk(podGroup !== undefined && "status" in podGroup);
  t.notMatch(JSON.stringify(podGroup), /blockOwnerDeletion|controller":true/);
  t.same(actions[0]?.about.map(keyOf), ["a/m-decode", "a/m-prefill"]);
  t.end();
});

t.test("a minimum falls with the replicas, and rises when what it asks for is bound", (t) => {
  const set = { "tandem.sh/gang": "prefill=1,decode=3" };
  const minimum = (replicas: number, before: number | undefined, bound: number): unknown => {
    const workloads = [
      deployment("prefill", { annotations: set }),
      deployment("decode", { annotations: set, replicas }),
    ];
    const [wanted] = applied(plan({ workloads }), "PodGroup") as [KubeObject];
    const stored = { ...wanted, spec: { minMember: 0, minTaskMember: { prefill: 1, decode: before } } };
    const labels = {
      "tandem.sh/model": "m",
      "tandem.sh/group": "m",
      "tandem.sh/cell": "0",
      "tandem.sh/role": "decode",
    };
    const pods = Array.from({ length: bound }, (_, index): Pod => {
      const one = pod("m-decode", { name: `d-${index}`, uid: `d-${index}`, labels });
      return { ...one, spec: { ...one.spec, nodeName: "n" } };
    });
    const actions = plan({ workloads, pods, podGroups: before === undefined ? [] : [stored] });
    return applied(actions, "PodGroup").map(({ spec }) => spec)[0];
  };
  const asks = (decode: number): object => ({ minMember: decode + 1, minTaskMember: { prefill: 1, decode } });
  t.match(minimum(3, undefined, 0), asks(3), "the whole set, when nothing runs yet");
  t.match(minimum(3, 1, 0), asks(3), "nor has run");
  t.match(minimum(3, 1, 1), asks(1), "two are still to come");
  t.match(minimum(3, 1, 2), asks(2));
  t.match(minimum(3, 1, 3), asks(3));
  t.match(minimum(2, 3, 3), asks(2), "falls at once");
  t.end();
});

t.test("what is stored as it was applied is not written again; what differs is", (t) => {
  const [wanted] = applied(plan({ workloads: pair() }), "PodGroup") as [KubeObject];
  const stored = (change: (object: KubeObject) => void): KubeObject => {
    const copy = structuredClone(wanted);
    copy["status"] = { phase: "Running" };
    copy["spec"] = { ...(copy["spec"] as object), queue: "default" };
    change(copy);
    return copy;
  };
  const again = (change: (object: KubeObject) => void, workloads = pair()): string[] =>
    said(plan({ workloads, podGroups: [stored(change)] }));
  t.same(
    again(() => undefined),
    [],
    "defaults and status of the server are not ours",
  );
  const other = { apiVersion: "v1", kind: "ConfigMap", name: "theirs", uid: "other" };
  const owners = (change: (owners: OwnerReference[]) => OwnerReference[]): string[] =>
    again((object) => (object.metadata.ownerReferences = change(object.metadata.ownerReferences ?? [])));
  t.same(
    owners((ours) => [other, ...ours]),
    [],
    "an owner that somebody added is theirs, and we could not take it away",
  );
  t.same(
    owners((ours) => [other, ...ours.slice(1)]),
    ["apply PodGroupApplied"],
    "one of ours was taken off",
  );
  for (const edit of [
    (object: KubeObject) => ((object["spec"] as JsonObject)["minMember"] = 9),
    (object: KubeObject) => (object["spec"] = { minMember: 1 }),
    (object: KubeObject) => delete object.metadata.ownerReferences,
  ])
    t.same(again(edit), ["apply PodGroupApplied"], "drift");
  t.same(
    again(() => undefined, [deployment("prefill"), deployment("decode", { uid: "new" })]),
    ["apply PodGroupApplied"],
  );
  t.same(
    again(() => undefined, pair({ annotations: { "tandem.sh/topology": "off" } })),
    ["apply PodGroupApplied"],
  );
  t.end();
});

const topologyOf = (snapshot: Partial<ClusterSnapshot>, annotations: Record<string, string>): unknown =>
  (applied(plan({ workloads: pair({ annotations }), ...snapshot }), "PodGroup")[0]?.["spec"] as JsonObject)[
    "networkTopology"
  ];

t.test("a required topology names the tier by number, from the HyperNodes alone", (t) => {
  const hyperNodes: HyperNode[] = [
    ["rack", 2],
    ["spine", 5],
  ].map(([tierName, tier]) => ({
    apiVersion: "topology.volcano.sh/v1alpha1",
    kind: "HyperNode",
    metadata: { name: `${tierName}-0` },
    spec: { tier: Number(tier), tierName: String(tierName), members: [] },
  }));
  const required = { "tandem.sh/topology": "required" };
  const spine = { ...required, "tandem.sh/topology-tier": "spine" };
  t.same(topologyOf({ hyperNodes }, required), { mode: "hard", highestTierAllowed: 2 }, "the closest tier there is");
  t.same(topologyOf({ hyperNodes }, spine), { mode: "hard", highestTierAllowed: 5 });
  t.same(topologyOf({}, spine), { mode: "hard", highestTierName: "spine" }, "Volcano's to resolve");
  t.same(topologyOf({ hyperNodes }, {}), { mode: "soft" });
  t.end();
});

t.test("scaled to nothing the PodGroup goes, after the last pod, and comes back with the replicas", (t) => {
  const [podGroup] = applied(plan({ workloads: pair() }), "PodGroup") as [KubeObject];
  const podGroups = [podGroup];
  const none = pair({ replicas: 0 });
  const named = { annotations: { "scheduling.k8s.io/group-name": podGroup.metadata.name ?? "" } };
  t.same(said(plan({ workloads: none, podGroups, pods: [pod("m-decode", named)] })), []);
  t.same(said(plan({ workloads: none, podGroups })), ["remove PodGroupRemoved"]);
  t.same(said(plan({ workloads: pair() })), ["apply PodGroupApplied"]);
  const half = [deployment("prefill", { replicas: 0 }), deployment("decode")];
  const [smaller] = applied(plan({ workloads: half, podGroups }), "PodGroup");
  t.same(smaller?.["spec"], { minMember: 1, minTaskMember: { decode: 1 }, networkTopology: { mode: "soft" } });
  t.end();
});

t.test("a PodGroup goes with its cell, after its last pod, and never on account of a mistake", (t) => {
  const [podGroup] = applied(plan({ workloads: pair() }), "PodGroup") as [KubeObject];
  const podGroups = [podGroup];
  t.match(plan({ podGroups }), [
    { do: "remove", ref: { plural: "podgroups" }, verdict: { reason: "PodGroupRemoved" } },
  ]);
  const named = { annotations: { "scheduling.k8s.io/group-name": podGroup.metadata.name ?? "" } };
  t.same(said(plan({ podGroups, pods: [pod("m-decode", named)] })), [], "a pod still names it");
  t.same(said(plan({ podGroups }, () => false)), [], "nothing is done where no webhook reaches");
  const broken = plan({ podGroups, workloads: pair({ annotations: { "tandem.sh/gang": "some" } }) });
  t.same(said(broken), ["tell WorkloadUnreadable", "tell WorkloadUnreadable"]);
  t.match(broken[0]?.verdict.message, /tandem.sh\/gang.*some/);
  t.same(said(plan({ podGroups, workloads: pair({ annotations: { "tandem.sh/gang": "off" } }) })), [
    "remove PodGroupRemoved",
  ]);
  t.end();
});

t.test("without Volcano's API nothing is written; who asked for Volcano is told", (t) => {
  const apis = { podGroups: false, hyperNodes: false };
  t.same(said(plan({ apis, workloads: pair() })), []);
  const asked = plan({ apis, workloads: pair({ annotations: { "tandem.sh/scheduler": "volcano" } }) });
  t.same(said(asked), ["tell PodGroupAbsent"]);
  t.equal(asked[0]?.about.length, 2);
  t.end();
});

t.test("sizes: published once both roles are known, the same in both roles' configuration", (t) => {
  const off = { ...MOONCAKE, "tandem.sh/gang": "off" };
  const waiting = plan({ workloads: [deployment("prefill", { annotations: off })] });
  t.same(said(waiting), ["tell SizesWaiting"]);
  const workloads = [
    deployment("prefill", { annotations: off, args: ["--model", "q", "--tensor-parallel-size", "8"] }),
    deployment("decode", { annotations: off, args: ["--model", "q", "--tensor-parallel-size", "2"] }),
  ];
  const actions = plan({ workloads });
  t.same(said(actions), ["apply SizesPublished"]);
  const [configMap] = applied(actions, "ConfigMap") as [KubeObject];
  t.match(configMap, { immutable: true, metadata: { ownerReferences: [{ name: "m-decode" }, { name: "m-prefill" }] } });
  const data = configMap["data"] as Record<"prefill" | "decode", string>;
  const [prefill, decode] = [JSON.parse(data.prefill) as JsonObject, JSON.parse(data.decode) as JsonObject];
  t.same(prefill["kv_connector_extra_config"], {
    prefill: { dp_size: 1, tp_size: 8 },
    decode: { dp_size: 1, tp_size: 2 },
  });
  t.same(decode["kv_connector_extra_config"], prefill["kv_connector_extra_config"]);
  t.same(said(plan({ workloads, configMaps: [configMap] })), [], "and then no more");
  t.end();
});

t.test("sizes that changed are never written over the old ones; a new compat makes a new ConfigMap", (t) => {
  const sized = (tp: string, compat: string): Workload[] =>
    pair({
      annotations: { ...MOONCAKE, "tandem.sh/gang": "off", "tandem.sh/compat": compat },
      args: ["--model", "q", "--tensor-parallel-size", tp],
    });
  const configMaps = applied(plan({ workloads: sized("2", "v1") }), "ConfigMap");
  const changed = plan({ workloads: sized("4", "v1"), configMaps });
  t.same(said(changed), ["tell SizesFixed"]);
  t.match(changed[0], { verdict: { outcome: "warned", message: /new tandem.sh\/compat/ } });
  const fresh = plan({ workloads: sized("4", "v2"), configMaps });
  t.same(said(fresh), ["apply SizesPublished"]);
  t.not(applied(fresh, "ConfigMap")[0]?.metadata.name, configMaps[0]?.metadata.name);
  const recreated = sized("2", "v1").map((one) => ({
    ...one,
    metadata: { ...one.metadata, uid: `${one.metadata.uid ?? ""}2` },
  }));
  const adopted = plan({ workloads: recreated, configMaps });
  t.same(said(adopted), ["apply SizesPublished"], "a recreated Deployment owns what is there");
  t.same(applied(adopted, "ConfigMap")[0]?.["data"], configMaps[0]?.["data"]);
  t.end();
});

t.test("another port makes another ConfigMap; the old one goes when all is rolled out and no pod reads it", (t) => {
  const annotations = { ...MOONCAKE, "tandem.sh/gang": "off" };
  const at = (port: string): Workload[] =>
    pair({ annotations, args: ["--model", "q", "--port", port] }).map((workload) => {
      workload.spec.template.spec.hostNetwork = true;
      return {
        ...workload,
        metadata: { ...workload.metadata, generation: 2 },
        status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2 },
      };
    });
  const old = applied(plan({ workloads: at("8000") }), "ConfigMap");
  const moved = plan({ workloads: at("8001"), configMaps: old });
  t.same(said(moved), ["apply SizesPublished", "remove SizesRemoved"], "and nobody is told to change compat");
  const configMaps = [...old, ...applied(moved, "ConfigMap")];
  const [name = ""] = old.map(({ metadata }) => metadata.name);
  const valueFrom = { configMapKeyRef: { name, key: "decode" } };
  const reader: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: at("8001")[0]?.metadata.namespace ?? "default", uid: "p" },
    spec: { containers: [{ name: "engine", env: [{ name: "TANDEM_KV_TRANSFER_CONFIG", valueFrom }] }] },
  };
  t.same(said(plan({ workloads: at("8001"), configMaps, pods: [reader] })), [], "a pod reads it");
  const rolling = at("8001").map((one) => ({ ...one, status: { ...(one["status"] as object), updatedReplicas: 1 } }));
  t.same(said(plan({ workloads: rolling, configMaps })), [], "an old pod may be made again");
  const done = plan({ workloads: at("8001"), configMaps });
  t.match(done, [{ do: "remove", kind: "ConfigMap", ref: { name } }]);
  t.equal(done.length, 1);
  t.end();
});

t.test("sizes that differ within a role, or that nobody vouches for, are not published", (t) => {
  const annotations = { ...MOONCAKE, "tandem.sh/gang": "off" };
  const second = deployment("decode", { annotations, args: ["--model", "q", "--tensor-parallel-size", "4"] });
  second.metadata.name = "m-decode-2";
  const differ = plan({ workloads: [...pair({ annotations }), second] });
  t.match(differ, [{ do: "tell", verdict: { reason: "SizesWaiting", message: /m-decode and m-decode-2 differ/ } }]);
  const script = deployment("decode", { annotations });
  script.spec.template.spec.containers[0] = {
    name: "engine",
    image: "vllm/vllm-openai:v0.11.0",
    command: ["bash", "/start.sh"],
  };
  const hidden = plan({ workloads: [deployment("prefill", { annotations }), script] });
  t.match(hidden, [{ verdict: { reason: "SizesWaiting", message: /tandem.sh\/parallelism/ } }]);
  t.end();
});

const patchOf = (actions: readonly Action[]): { labels: JsonObject; annotations: JsonObject } => {
  const [action] = actions;
  if (action?.do !== "patch") throw new Error("a patch was expected");
  return (action.body as { metadata: { labels: JsonObject; annotations: JsonObject } }).metadata;
};

/** The pod as a merge patch leaves it. */
function patched(before: Pod, actions: readonly Action[]): Pod {
  const { labels, annotations } = patchOf(actions);
  const merge = (map: Record<string, string> | undefined, over: JsonObject): Record<string, string> =>
    Object.fromEntries(Object.entries({ ...map, ...over }).filter(([, value]) => value !== null)) as Record<
      string,
      string
    >;
  const { metadata } = before;
  return {
    ...before,
    metadata: {
      ...metadata,
      labels: merge(metadata.labels, labels),
      annotations: merge(metadata.annotations, annotations),
    },
  };
}

t.test("live pods of a route workload are labelled, once, and unlabelled when it is no more", (t) => {
  const workloads = [deployment("both")];
  const bare = pod("m-both");
  const actions = plan({ workloads, pods: [bare, pod("other")] });
  t.same(said(actions), ["patch PodLabelled"]);
  t.match(patchOf(actions).labels, {
    "tandem.sh/model": "m",
    "tandem.sh/role": "both",
    "tandem.sh/group": "m",
    "tandem.sh/cell": "0",
    "tandem.sh/entry": "true",
    "tandem.sh/instance": "pod-uid",
  });
  const labelled = patched(bare, actions);
  t.same(said(plan({ workloads, pods: [labelled] })), []);
  const moved = plan({ workloads: [deployment("both", { labels: { "tandem.sh/group": "green" } })], pods: [labelled] });
  t.equal(patchOf(moved).labels["tandem.sh/group"], "green");
  const gone = plan({ pods: [labelled] });
  t.same(said(gone), ["patch PodUnlabelled"]);
  t.same(patched(labelled, gone).metadata.labels, { app: "m-both" });
  t.same(patched(labelled, gone).metadata.annotations, {});
  t.end();
});

t.test("labels that a pod brought along are never changed or taken off", (t) => {
  const workloads = [deployment("both")];
  const own = pod("m-both", { labels: { "tandem.sh/group": "mine" } });
  const actions = plan({ workloads, pods: [own] });
  t.notOk("tandem.sh/group" in patchOf(actions).labels);
  const labelled = patched(own, actions);
  t.same(patched(labelled, plan({ pods: [labelled] })).metadata.labels, { app: "m-both", "tandem.sh/group": "mine" });
  const forged = pod("x", { annotations: { "status.tandem.sh/labels": "app,tandem.sh/model" } });
  const left = patched(forged, plan({ pods: [forged] })).metadata.labels;
  t.equal(left?.["app"], "x", "a forged list takes nothing of others");
  t.end();
});

t.test("pods of managed, observed and foreign workloads, and those that go, are left alone", (t) => {
  t.same(said(plan({ workloads: pair({ annotations: { "tandem.sh/gang": "off" } }), pods: [pod("m-decode")] })), []);
  const observe = [deployment("both", { annotations: { "tandem.sh/mode": "observe" } })];
  t.same(said(plan({ workloads: observe, pods: [pod("m-both")] })), []);
  const going = pod("m-both", { deletionTimestamp: "2026-01-01T00:00:00Z" });
  t.same(said(plan({ workloads: [deployment("both")], pods: [going] })), []);
  const elsewhere = pod("m-both", { namespace: "b" });
  t.same(said(plan({ workloads: [deployment("both")], pods: [elsewhere] })), []);
  t.end();
});

t.test("a pod that fits a workload's selector, but that others made, is theirs", (t) => {
  const workloads = [deployment("both")];
  const of = (ownerReferences: Pod["metadata"]["ownerReferences"] & object) =>
    said(plan({ workloads, pods: [pod("m-both", { ownerReferences })] }));
  t.same(of(made("m-both")), ["patch PodLabelled"]);
  t.same(of(made("another")), [], "two selectors overlap");
  t.same(of([{ apiVersion: "batch/v1", kind: "Job", name: "m-both", uid: "j", controller: true }]), []);
  t.same(of([]), [], "nobody's");
  t.end();
});

t.test("a prefill pod in route mode is no entry", (t) => {
  const workloads = [deployment("prefill", { annotations: { "tandem.sh/mode": "route" } })];
  const { labels } = patchOf(plan({ workloads, pods: [pod("m-prefill")] }));
  t.notOk("tandem.sh/entry" in labels);
  t.equal(labels["tandem.sh/role"], "prefill");
  t.end();
});
