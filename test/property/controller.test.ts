/**
 * Random clusters settle: carried out against a model of the API server, what the controller asks for comes to an end,
 * for every kind of workload, and a second controller with its eyes on the past asks for nothing that cannot be undone.
 */
import fc from "fast-check";
import t from "tap";
import { loadConfig } from "../../src/config/load.ts";
import type { Action } from "../../src/controller/action.ts";
import { controllerPlan } from "../../src/controller/plan.ts";
import { keyOf, type KubeObject, type Pod, type StringMap, type Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { merged } from "../../src/simulator/instances.ts";

const config = loadConfig();
const NAMES = ["w", "w", "w", "v", "w-x"];

const VALUES: Readonly<Record<string, readonly string[]>> = {
  mode: ["off", "observe", "route", "manage", "manage", "x y"],
  "nodes-per-instance": ["1", "2", "2", "3"],
  disruption: ["budget", "budget", "off"],
  recovery: ["tandem", "platform"],
  scheduler: ["volcano", "keep"],
  gang: ["off", "prefill=1,decode=1"],
  topology: ["required", "off"],
  compat: ["a", "b"],
  "kv-connector": ["mooncake", "nixl"],
  engine: ["vllm-ascend", "sglang"],
  skip: ["gang", "engine"],
  parallelism: ["tp=2,dp=2", "tp=4"],
  "dp-mode": ["hybrid", "external"],
};
const annotations = fc.record(
  Object.fromEntries(Object.entries(VALUES).map(([key, values]) => [key, fc.constantFrom(...values)])),
  { requiredKeys: [] },
);

const workload = fc
  .record({
    kind: fc.constantFrom("Deployment", "Deployment", "Deployment", "StatefulSet", "LeaderWorkerSet"),
    name: fc.constantFrom(...NAMES),
    uid: fc.constantFrom("u1", "u2", "u3"),
    role: fc.constantFrom("prefill", "decode", "decode", "both", "leader"),
    group: fc.constantFrom("", "g"),
    selector: fc.constantFrom("w", "w", "w", "v"),
    replicas: fc.integer({ min: 0, max: 5 }),
    annotations,
    going: fc.boolean(),
  })
  .map(({ kind, name, uid, role, group, selector, replicas, annotations, going }): Workload => {
    const template = {
      metadata: { labels: { app: selector } },
      spec: { containers: [{ name: "e", image: "vllm/vllm-openai:v0.15.0", args: ["--model", "m"] }] },
    };
    const spec =
      kind === "LeaderWorkerSet"
        ? { replicas, leaderWorkerTemplate: { size: 2, workerTemplate: template } }
        : { replicas, selector: { matchLabels: { app: selector } }, template };
    const own = Object.entries(annotations).map(([key, value]) => [`tandem.sh/${key}`, value]);
    const labels = {
      "tandem.sh/model": "m",
      "tandem.sh/role": role,
      ...(group === "" ? {} : { "tandem.sh/group": group }),
    };
    const gone = going && uid === "u3" ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {};
    const metadata = {
      name,
      namespace: "a",
      uid: `${kind}-${name}-${uid}`,
      labels,
      annotations: Object.fromEntries(own) as StringMap,
      ...gone,
    };
    return { apiVersion: "apps/v1", kind, metadata, spec } as unknown as Workload;
  });

const pod = fc
  .record({
    owner: fc.constantFrom(...NAMES),
    kind: fc.constantFrom("ReplicaSet", "ReplicaSet", "ReplicaSet", "ReplicaSet", "StatefulSet", "Job", ""),
    hash: fc.constantFrom("1", "1", "1", "2"),
    app: fc.constantFrom("w", "w", "w", "v"),
    labels: fc.dictionary(
      fc.constantFrom("group", "cell", "entry", "instance", "node-rank"),
      fc.constantFrom("m", "true", "0", "1"),
      { maxKeys: 2 },
    ),
    brought: fc.constantFrom({}, { model: "m", role: "decode" }),
    status: fc.dictionary(
      fc.constantFrom("labels", "endpoint", "intent", "drain", "members", "leader", "port-base"),
      fc.constantFrom("", "{}", "tandem.sh/model,app", "p0,p1", "p1", "14000"),
      { maxKeys: 2 },
    ),
    intent: fc.constantFrom({}, { intent: "{}" }, { intent: '{"tandem.sh/nodes-per-instance":"2"}', endpoint: "{}" }),
    gated: fc.boolean(),
    hostNetwork: fc.boolean(),
    phase: fc.constantFrom("Pending", "Running", "Pending", "Running", "Failed"),
  })
  .map((shape) => (index: number): Pod => {
    const { owner, kind, hash } = shape;
    const by = { apiVersion: "apps/v1", kind, name: kind === "ReplicaSet" ? `${owner}-${hash}` : owner };
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: `${owner}-${index}`,
        namespace: "a",
        uid: `p${index}`,
        resourceVersion: "1",
        labels: {
          app: shape.app,
          "pod-template-hash": hash,
          ...prefixed("tandem.sh/", { ...shape.labels, ...shape.brought }),
        },
        annotations: prefixed("status.tandem.sh/", { ...shape.status, ...shape.intent }),
        ...(kind === "" ? {} : { ownerReferences: [{ ...by, uid: `${kind}-${by.name}`, controller: true }] }),
      },
      spec: {
        containers: [{ name: "e", image: "vllm/vllm-openai:v0.15.0" }],
        ...(shape.gated ? { schedulingGates: [{ name: "tandem.sh/rank" }] } : {}),
        ...(shape.hostNetwork ? { hostNetwork: true } : {}),
      },
      status: { phase: shape.phase },
    };
  });

const prefixed = (prefix: string, map: StringMap): StringMap =>
  Object.fromEntries(Object.entries(map).map(([key, value]) => [prefix + key, value]));

type World = Record<"workloads" | "pods" | "services" | "configMaps" | "podGroups" | "budgets", KubeObject[]>;
const LISTS: Readonly<Record<string, keyof World>> = {
  Pod: "pods",
  Service: "services",
  ConfigMap: "configMaps",
  PodGroup: "podGroups",
  PodDisruptionBudget: "budgets",
};

const plan = (world: World): readonly Action[] => {
  const snapshot = { ...EMPTY_SNAPSHOT, ...world, apis: { podGroups: true, hyperNodes: false } };
  return controllerPlan(snapshot as unknown as ClusterSnapshot, { config, acts: () => true });
};

let stamp = 1;
const version = (): string => String((stamp += 1));

/** As the API server: preconditions hold, or nothing is done. */
function perform(world: World, action: Action): void {
  if (action.do === "tell") return;
  const list = LISTS[action.do === "apply" ? action.object.kind : action.kind] ?? "pods";
  if (action.do === "apply") world[list] = applied(world[list], action.object);
  else
    world[list] = world[list].flatMap((one) => (one.metadata.name === action.ref.name ? written(one, action) : [one]));
}

function applied(list: readonly KubeObject[], object: KubeObject): KubeObject[] {
  const metadata = { ...object.metadata, uid: `made-${keyOf(object)}`, resourceVersion: version() };
  return [...list.filter((one) => keyOf(one) !== keyOf(object)), { ...object, metadata }];
}

function written(one: KubeObject, action: Extract<Action, { do: "patch" | "remove" }>): KubeObject[] {
  if (action.do === "remove") return action.uid === one.metadata.uid ? [] : [one];
  const { uid = one.metadata.uid, resourceVersion = one.metadata.resourceVersion } = (action.body as KubeObject)
    .metadata;
  if (uid !== one.metadata.uid || resourceVersion !== one.metadata.resourceVersion) return [one];
  const next = merged(one, action.body) as KubeObject;
  return [{ ...next, metadata: { ...next.metadata, resourceVersion: version() } }];
}

const writes = (world: World): readonly Action[] => plan(world).filter((action) => action.do !== "tell");

function settle(world: World): void {
  for (let pass = 0; pass < 12; pass++) {
    const todo = writes(world);
    if (todo.length === 0) return;
    for (const action of todo) perform(world, action);
  }
  throw new Error(
    `asked for in every pass: ${writes(world)
      .map(({ key, do: verb }) => `${verb} ${key}`)
      .join(", ")}`,
  );
}

const unique = (workloads: readonly Workload[]): Workload[] => [
  ...new Map(workloads.map((one) => [`${one.kind}/${keyOf(one)}`, one])).values(),
];
const cluster = fc
  .tuple(fc.array(workload, { maxLength: 4 }), fc.array(pod, { maxLength: 7 }))
  .map(([workloads, pods]): World => ({
    workloads: unique(workloads),
    pods: pods.map((make, index) => make(index)),
    ...{ services: [], configMaps: [], podGroups: [], budgets: [] },
  }));

t.test("every cluster settles, and again after its workloads have changed", (t) => {
  fc.assert(
    fc.property(cluster, fc.array(workload, { maxLength: 4 }), (world, next) => {
      settle(world);
      world.workloads = unique(next);
      settle(world);
      world.workloads = [];
      settle(world);
    }),
    { numRuns: 600 },
  );
  t.end();
});

t.test("actions of one pass do not undo one another: each object is asked for once", (t) => {
  fc.assert(
    fc.property(cluster, (world) => {
      const keys = plan(world).map(({ key }) => key);
      if (new Set(keys).size !== keys.length) throw new Error(`twice: ${keys.toSorted().join(", ")}`);
    }),
    { numRuns: 600 },
  );
  t.end();
});

t.test("nothing is asked of pods that no workload of ours made, but to take off what is said to be ours", (t) => {
  fc.assert(
    fc.property(cluster, (world) => {
      const strangers = world.pods.filter(
        ({ metadata }) => !/ReplicaSet|StatefulSet/.test(JSON.stringify(metadata.ownerReferences ?? "")),
      );
      const names = new Set(strangers.map(keyOf));
      for (const { key, verdict } of writes(world)) {
        const touched = names.has(key.slice(key.indexOf("/") + 1));
        if (touched && !["PodUnlabelled", "InstanceBroken"].includes(verdict.reason))
          throw new Error(`${key}: ${verdict.reason}`);
      }
    }),
    { numRuns: 600 },
  );
  t.end();
});
