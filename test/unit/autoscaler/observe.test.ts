/** What the autoscaler sees: pods and workloads as the cluster has them, engines' pages, routers' words. */
import t from "tap";
import fc from "fast-check";
import { engineSeen } from "../../../src/autoscaler/observe/engines.ts";
import { Lines, wokenGroup } from "../../../src/autoscaler/observe/lines.ts";
import { Observer, wakeableOf, type Readings } from "../../../src/autoscaler/observe/observe.ts";
import { isHeard, queriesOf, seenOf, valueOf, type Queries } from "../../../src/autoscaler/observe/queries.ts";
import { monotonicOf, type ScalingReader } from "../../../src/autoscaler/observe/reading.ts";
import { decodeStatistics } from "../../../src/autoscaler/observe/statistics.ts";
import type { Observation, RouterSeen } from "../../../src/autoscaler/group.ts";
import type { EngineStats } from "../../../src/kinds/endpoint.ts";
import type { Pod, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { LATENCY_BOUNDS_MS } from "../../../src/kinds/statistics.ts";
import { UNCONFIGURED } from "../../../src/profiles/devices.ts";
import { GROUP_SCALING, SCALING } from "../../../src/workload/scaling.ts";

/** Milliseconds since the epoch, and of the monotonic clock, at which everything is seen. */
const WALL = Date.parse("2026-03-01T12:00:00Z");
const NOW = { monotonic: 5_000_000, wall: WALL };
const ago = (seconds: number): string => new Date(WALL - seconds * 1000).toISOString();

const READER: ScalingReader = {
  scaling: ({ metadata }) => {
    const mode = metadata.annotations?.["mode"] === "off" ? ("off" as const) : ("auto" as const);
    return { ...SCALING, mode, minReplicas: Number(metadata.annotations?.["min"] ?? 1) };
  },
  group: (workloads) => ({ ...GROUP_SCALING, idleAfterMs: workloads.length }),
  contestedBy: (workload, autoscalers) =>
    autoscalers.find(({ metadata }) => metadata.name === workload.metadata.name)?.kind,
  lastScaled: ({ metadata }) =>
    metadata.annotations?.["last"] === undefined ? undefined : Number(metadata.annotations["last"]),
  isDraining: ({ metadata }) => metadata.annotations?.["draining"] !== undefined,
};

const LABELS = { "tandem.sh/model": "m", "tandem.sh/role": "decode" };

function workload(
  name: string,
  more: Partial<Workload> & { replicas?: number; labels?: object; annotations?: object; gpus?: number } = {},
): Workload {
  const { replicas = 2, labels = {}, annotations = {}, gpus = 2, ...rest } = more;
  const resources = { limits: { "nvidia.com/gpu": String(gpus) } };
  const args = ["--model", "served/m", "--max-num-seqs", "64", "--tensor-parallel-size", String(gpus)];
  const container = { name: "engine", image: "vllm/vllm-openai:v0.11.0", args, resources };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "n", uid: name, labels: { ...LABELS, ...labels }, annotations: { ...annotations } },
    spec: { replicas, template: { metadata: { labels: LABELS }, spec: { containers: [container] } } },
    ...rest,
  };
}

interface PodMore {
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
  readonly owner?: { readonly kind: string; readonly name: string };
  readonly metadata?: object;
  readonly status?: object;
  readonly node?: string;
}

const ready = (since: number, status = "True"): object => ({ type: "Ready", status, lastTransitionTime: ago(since) });

function pod(
  name: string,
  { labels = {}, annotations = {}, owner, metadata = {}, status = {}, node = "a" }: PodMore = {},
): Pod {
  const { kind, name: by } = owner ?? { kind: "ReplicaSet", name: "w-abc" };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...{ name, namespace: "n", uid: `uid-${name}`, creationTimestamp: ago(600) },
      labels: { ...LABELS, ...labels },
      annotations,
      ownerReferences: [{ apiVersion: "apps/v1", kind, name: by, uid: by, controller: true }],
      ...metadata,
    },
    spec: {
      ...(node === "" ? {} : { nodeName: node }),
      containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: ["--model", "served/m"] }],
    },
    status: { phase: "Running", podIP: "10.0.0.1", conditions: [ready(500)], ...status } as NonNullable<Pod["status"]>,
  };
}

const NO_STATS = { stats: undefined, models: [] };

function look(snapshot: Partial<ClusterSnapshot>, readings: Partial<Readings> = {}): Observation | undefined {
  const observer = new Observer({ devices: UNCONFIGURED, reader: READER, optIn: "" });
  const all = { snapshot: { ...EMPTY_SNAPSHOT, ...snapshot }, scraped: () => NO_STATS, routers: new Map(), now: NOW };
  return observer.observe({ ...all, ...readings })[0]?.observation;
}

const waiting = (reason: string): object => ({
  containerStatuses: [{ name: "engine", restartCount: 4, state: { waiting: { reason } } }],
});
const restarted = (seconds: number): object => ({
  containerStatuses: [
    { name: "engine", restartCount: 1, state: { running: { startedAt: ago(seconds) } }, lastState: { terminated: {} } },
  ],
});
const unfit = (seconds: number, reason = "Unschedulable"): PodMore => ({
  node: "",
  status: {
    phase: "Pending",
    podIP: "",
    conditions: [{ type: "PodScheduled", status: "False", reason, lastTransitionTime: ago(seconds) }],
  },
});

t.test("the state of an instance", (t) => {
  const table: [string, PodMore, string][] = [
    ["ready", {}, "ready"],
    ["not ready", { status: { conditions: [ready(5, "False")] } }, "starting"],
    ["no word of the kubelet yet", { status: { phase: "Pending", conditions: [] } }, "starting"],
    ["not bound", { node: "", status: { phase: "Pending", conditions: [] } }, "pending"],
    ["fits nowhere for a moment", unfit(59), "pending"],
    ["fits nowhere", unfit(60), "unschedulable"],
    ["held by a gate", unfit(600, "SchedulingGated"), "pending"],
    ["crashes", { status: waiting("CrashLoopBackOff") }, "failing"],
    ["has no image", { status: { ...waiting("ImagePullBackOff"), conditions: [] } }, "failing"],
    ["pulls its image", { status: { ...waiting("ContainerCreating"), conditions: [] } }, "starting"],
    ["was restarted just now", { status: restarted(59) }, "failing"],
    ["was restarted, and goes well", { status: restarted(60) }, "ready"],
    ["ended", { status: { phase: "Failed" } }, "failing"],
    ["is to be scaled in", { annotations: { draining: "" } }, "draining"],
    ["is marked, and not ready", { annotations: { draining: "" }, status: { conditions: [] } }, "starting"],
    ["gets no new work", { annotations: { "status.tandem.sh/drain": "true" } }, "draining"],
    ["says that it does get work", { annotations: { "status.tandem.sh/drain": "false" } }, "ready"],
    ["waits for a member", { annotations: { "status.tandem.sh/drain": "instance-unready" } }, "ready"],
    ["is being deleted", { metadata: { deletionTimestamp: ago(1) }, annotations: { draining: "" } }, "leaving"],
  ];
  for (const [name, more, state] of table)
    t.equal(look({ workloads: [workload("w")], pods: [pod("p", more)] })?.instances[0]?.state, state, name);
  t.end();
});

t.test("times: on the monotonic clock, never ahead, ready not before it was made", (t) => {
  const [seen] = look({ workloads: [workload("w")], pods: [pod("p")] })?.instances ?? [];
  t.match(seen, { id: "uid-p", workload: "n/Deployment/w", createdAt: 4_400_000, readyAt: 4_500_000 });
  const ahead = { metadata: { creationTimestamp: ago(-30) }, status: { conditions: [ready(-40)] } };
  const [early] = look({ workloads: [workload("w")], pods: [pod("p", ahead)] })?.instances ?? [];
  t.match(early, { createdAt: NOW.monotonic, readyAt: NOW.monotonic });
  fc.assert(
    fc.property(fc.double({ min: -1e15, max: 1e15, noNaN: true }), (wall) => monotonicOf(wall, NOW) <= NOW.monotonic),
  );
  const [starting] =
    look({ workloads: [workload("w")], pods: [pod("p", { status: { conditions: [] } })] })?.instances ?? [];
  t.notOk("readyAt" in (starting ?? {}));
  t.end();
});

t.test("an engine over several pods is one instance, whichever kind makes them", (t) => {
  const annotations = { "tandem.sh/nodes-per-instance": "2" };
  const member = (name: string, instance: string, rank: number, more: PodMore = {}): Pod =>
    pod(name, {
      ...more,
      labels: { "tandem.sh/instance": instance, "tandem.sh/node-rank": String(rank), ...more.labels },
    });
  const gated = { ...unfit(5, "SchedulingGated") };
  const deployment = look({
    workloads: [workload("w", { replicas: 6, annotations: { ...annotations, last: "4" } })],
    pods: [
      ...[member("b", "i1", 1), member("a", "i1", 0)],
      ...[member("c", "i2", 0), member("d", "i2", 1, { status: { conditions: [] } })],
      ...[pod("e", gated), pod("f", gated), pod("g", gated)],
    ],
  });
  t.match(deployment?.workloads, [
    { replicas: 3, nodesPerInstance: 2, acceleratorsPerInstance: 4, lastScaled: 2, isRolling: false },
  ]);
  const short = deployment?.instances.map(({ id, state }) => `${id} ${state}`);
  t.same(short, ["uid-a ready", "uid-c starting", "uid-e pending", "uid-g pending"]);
  const owner = { kind: "StatefulSet", name: "s" };
  const set = look({
    workloads: [workload("s", { kind: "StatefulSet", replicas: 4, annotations })],
    pods: [3, 2, 1, 0].map((ordinal) => pod(`s-${ordinal}`, { owner })),
  });
  t.same(
    set?.instances.map(({ id }) => id),
    ["uid-s-2", "uid-s-0"],
  );
  const { template } = workload("l").spec;
  const lws = workload("l", {
    ...{ apiVersion: "leaderworkerset.x-k8s.io/v1", kind: "LeaderWorkerSet" },
    spec: { replicas: 3, leaderWorkerTemplate: { size: 2, workerTemplate: template } } as never,
  });
  const of = (name: string, group: string, index: string, more: PodMore = {}): Pod =>
    pod(name, {
      ...more,
      labels: {
        "leaderworkerset.sigs.k8s.io/name": "l",
        "leaderworkerset.sigs.k8s.io/group-index": group,
        "leaderworkerset.sigs.k8s.io/worker-index": index,
        "controller-revision-hash": name,
      },
      owner: { kind: "StatefulSet", name: "l" },
    });
  const leaving = { metadata: { deletionTimestamp: ago(1) } };
  const groups = look({
    workloads: [lws],
    pods: [of("l-0", "0", "0"), of("l-0-1", "0", "1"), of("l-1", "1", "0"), of("l-1-1", "1", "1", leaving)],
  });
  t.match(groups?.workloads, [{ replicas: 3, nodesPerInstance: 2, acceleratorsPerInstance: 4, isRolling: false }]);
  t.same(
    groups?.instances.map(({ id, state }) => `${id} ${state}`),
    ["uid-l-0 ready", "uid-l-1 starting", "uid-l-1-1 leaving"],
  );
  t.end();
});

t.test("a rollout: as the status says, as the pods show", (t) => {
  const rolls = (status: object, pods: readonly Pod[] = [], generation = 3): boolean | undefined => {
    const one = workload("w");
    return look({ workloads: [{ ...one, metadata: { ...one.metadata, generation }, status }], pods })?.workloads[0]
      ?.isRolling;
  };
  const settled = { observedGeneration: 3, replicas: 2, updatedReplicas: 2 };
  const hashed = (name: string, hash: string, more: PodMore = {}): Pod =>
    pod(name, { ...more, labels: { "pod-template-hash": hash } });
  t.equal(rolls(settled), false);
  t.equal(rolls({}), false, "nobody says anything");
  t.equal(rolls({ ...settled, observedGeneration: 2 }), true);
  t.equal(rolls({ ...settled, updatedReplicas: 1 }), true);
  t.equal(rolls({ ...settled, updatedReplicas: undefined }), true, "zeros are left out");
  t.equal(rolls(settled, [hashed("a", "1"), hashed("b", "2")]), true);
  t.equal(rolls(settled, [hashed("a", "1"), hashed("b", "2", { metadata: { deletionTimestamp: ago(1) } })]), false);
  t.end();
});

t.test("which groups are seen, and who else scales them", (t) => {
  const off = { annotations: { mode: "off" } };
  t.equal(look({ workloads: [workload("w", off)] }), undefined, "nobody scales it");
  const both = look({
    workloads: [workload("w", off), workload("v"), workload("x", { labels: { "tandem.sh/group": "other" }, ...off })],
    autoscalers: [{ apiVersion: "keda.sh/v1alpha1", kind: "ScaledObject", metadata: { name: "v", namespace: "n" } }],
    pods: [
      pod("p"),
      pod("q", { owner: { kind: "ReplicaSet", name: "v-abc" } }),
      pod("r", { owner: { kind: "Job", name: "w" } }),
    ],
  });
  t.match(both?.workloads, [{ id: "n/Deployment/w" }, { id: "n/Deployment/v", contestedBy: "ScaledObject" }]);
  t.equal(both?.scaling.idleAfterMs, 2, "the group's own words are those of both");
  t.same(
    both?.instances.map(({ workload }) => workload),
    ["n/Deployment/w", "n/Deployment/v"],
    "a stranger's pod is none",
  );
  const broken = workload("w", { labels: { "tandem.sh/role": "nonsense" } });
  t.equal(look({ workloads: [broken] }), undefined, "what cannot be decoded is left out");
  const observer = new Observer({ devices: UNCONFIGURED, reader: READER, optIn: "tandem.sh/enabled=true" });
  const snapshot = { ...EMPTY_SNAPSHOT, workloads: [workload("w")] };
  t.same(observer.groups(snapshot), [], "its namespace has not opted in");
  t.end();
});

const stats = (more: Partial<EngineStats> = {}): EngineStats => ({
  at: 7,
  running: 1,
  waiting: 2,
  kvUsage: 0.5,
  ...more,
});

t.test("engines: what is not read is absent; old pages keep their time", (t) => {
  const read = (page: EngineStats | undefined) =>
    look({ workloads: [workload("w")], pods: [pod("p")] }, { scraped: () => ({ stats: page, models: [] }) })
      ?.instances[0];
  t.notOk("engine" in (read(undefined) ?? {}));
  t.same(read(stats({ promptTokens: 5, kvTokens: 100 }))?.engine, {
    ...{ at: 7, running: 1, waiting: 2, kvUsage: 0.5 },
    ...{ promptTokens: 5, kvCapacityTokens: 100, maxSequences: 64 },
  });
  const two = [
    stats({ kvTokens: 100, promptTokens: 5 }),
    stats({ at: 3, kvTokens: 300, kvUsage: 0.1, generatedTokens: 9 }),
  ];
  t.same(
    engineSeen(two),
    { at: 3, running: 2, waiting: 4, kvUsage: 0.2, kvCapacityTokens: 400 },
    "ranks of one engine",
  );
  t.equal(engineSeen([stats({ kvTokens: 100, kvUsage: 0.1 }), stats()])?.kvUsage, 0.3);
  t.equal(engineSeen([]), undefined);
  t.end();
});

t.test("whose pages are read, and what of a group is remembered for when nobody is there", (t) => {
  const observer = new Observer({ devices: UNCONFIGURED, reader: READER, optIn: "" });
  const workloads = [workload("w", { annotations: { min: "0" } })];
  const full = {
    ...EMPTY_SNAPSHOT,
    workloads,
    pods: [pod("p"), pod("q", { status: { conditions: [] } }), pod("r", { annotations: { draining: "" } })],
  };
  const targets = observer.targets(full);
  t.same(
    targets.map(({ id }) => id),
    ["uid-p/0", "uid-r/0"],
  );
  t.equal(observer.targets({ ...full, pods: [...full.pods] }), targets, "the same list while nothing changed");
  const readings = {
    snapshot: full,
    scraped: () => ({ stats: undefined, models: ["adapter"] }),
    routers: new Map(),
    now: NOW,
  };
  t.same(wakeableOf(observer.observe(readings)), [{ group: "n/m", models: ["served/m", "adapter"], service: "m" }]);
  const empty = observer.observe({ ...readings, snapshot: { ...full, pods: [] }, scraped: () => NO_STATS });
  t.same(wakeableOf(empty)[0]?.models, ["served/m", "adapter"]);
  const mixed = { ...full, workloads: [...workloads, workload("v")] };
  t.same(wakeableOf(observer.observe({ ...readings, snapshot: mixed })), [], "one engine always stays");
  t.same(observer.observe(readings, "n/other"), []);
  t.end();
});

const HISTOGRAM = LATENCY_BOUNDS_MS.map(() => 0).concat(0);
const said = {
  ...{
    requests: 1,
    promptTokens: 2,
    answers: 3,
    generatedTokens: 4,
    backlogTokens: 5,
    backlogRequests: 6,
    heldRequests: 7,
  },
  ...{ ttft: HISTOGRAM, tpot: HISTOGRAM },
};

t.test("a router's page is read with doubt", (t) => {
  const read = (group: unknown): unknown =>
    decodeStatistics(JSON.stringify({ id: "r", groups: { "n/g": group } }))?.groups["n/g"];
  t.match(read(said), said);
  for (const change of [
    { requests: -1 },
    { requests: null },
    { ttft: [1] },
    { tpot: HISTOGRAM.map(() => "1") },
    { answers: "3" },
  ])
    t.equal(read({ ...said, ...change }), undefined, JSON.stringify(change));
  for (const text of ["", "[]", "{}", '{"id":"","groups":{}}', '{"id":"r","groups":[]}'])
    t.equal(decodeStatistics(text), undefined, text);
  fc.assert(fc.property(fc.json(), (text) => (decodeStatistics(text), true)));
  t.end();
});

t.test("lines come in pieces", (t) => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("n/a", "n/b", ""), { maxLength: 8 }), fc.array(fc.nat(40)), (groups, cuts) => {
      const text = groups.map((group) => `${JSON.stringify(group === "" ? {} : { group })}\n`).join("");
      const lines = new Lines();
      const at = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length];
      const read = at.slice(1).flatMap((end, index) => lines.push(text.slice(at[index], end)));
      return read.flatMap((line) => wokenGroup(line) ?? []).join() === groups.filter((group) => group !== "").join();
    }),
  );
  t.throws(() => new Lines().push("x".repeat(5000)), /longer/);
  t.end();
});

const QUERIES: Queries = {
  requests: 'sum(r{namespace="$namespace",group="$group",role=~"$role"})',
  promptTokens: 'p{role=~"$role"}',
  ...{ answers: "", generatedTokens: "", backlogRequests: "", backlogTokens: "" },
};

t.test("Prometheus in a router's place", (t) => {
  t.same(queriesOf(QUERIES, "n/g"), [
    ["requests", 'sum(r{namespace="n",group="g",role=~"decode|both"})'],
    ["promptTokens", 'p{role=~"prefill|both"}'],
  ]);
  const vector = (...values: string[]): string =>
    JSON.stringify({
      data: { resultType: "vector", result: values.map((value) => ({ metric: {}, value: [0, value] })) },
    });
  t.equal(valueOf(vector("1.5", "2")), 3.5);
  t.equal(valueOf('{"data":{"resultType":"scalar","result":[0,"4"]}}'), 4);
  for (const bad of [vector(), vector("NaN"), vector("1", "+Inf"), "", "{}", "[]", '{"data":{"result":[1]}}'])
    t.equal(valueOf(bad), undefined, bad);
  t.match(seenOf([["requests", 5]], 9), { id: "prometheus", at: 9, requests: 5, promptTokens: 0, ttft: HISTOGRAM });
  t.equal(
    seenOf(
      [
        ["requests", 5],
        ["promptTokens", undefined],
      ],
      9,
    ),
    undefined,
    "what is missing is not zero",
  );
  const seen = (at: number): RouterSeen => ({ id: "r", at, ...said });
  t.same([isHeard([], 0), isHeard([seen(0)], 15_000), isHeard([seen(0)], 15_001)], [false, true, false]);
  t.end();
});
