/**
 * Engines over several pods on real parts: both Qwen3-235B examples are admitted, every pod gets its rank and its
 * leader's name before it may be scheduled, runs, and is replaced with its whole instance when one of them is lost.
 * Real kube-apiserver, controller-manager and scheduler; kwok's nodes; Tandem's webhooks and controller.
 */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseObjects } from "../../src/cli/input.ts";
import {
  annotationOf,
  labelOf,
  type Container,
  type KubeObject,
  type Pod,
  type Workload,
} from "../../src/kinds/kube.ts";
import { ENGINE_ENV, GATE, KTHENA_ENV, LABEL, LWS, STATUS } from "../../src/kinds/names.ts";
import { endpointsOf } from "../../src/workload/endpoint.ts";
import { endpointsOfAll } from "../../src/workload/health.ts";
import { isGated } from "../../src/workload/instance.ts";
import { samplePods } from "../../src/workload/sample.ts";
import { templatesOf } from "../../src/workload/template.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { leaderWorkerSetCrd } from "./cluster/crds.ts";
import { argumentsOf, engineOf, environment, leadersService, listens, restarts, valuesOf } from "./cluster/kubelet.ts";
import { startLaps } from "./cluster/laps.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram, startTandem, tandem, type Tandem } from "./cluster/tandem.ts";

t.setTimeout(420_000);
const example = (name: string): string => join(REPOSITORY, "manifests", "examples", `qwen3-235b-ascend-${name}.yaml`);
const MULTI = "qwen3-235b";
const DECODE = "qwen3-235b-decode";

let cluster: Cluster;
let service: Tandem;
const lap = startLaps(t);

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.apply(await leaderWorkerSetCrd());
  await eventually("LeaderWorkerSets are served", () => cluster.api.list(`/apis/${LWS.apiVersion}/leaderworkersets`));
  const ascend = { resource: "huawei.com/Ascend910", tree: false };
  const a2 = { ...ascend, prefix: "a2", count: 4, devices: 8, labels: { "accelerator-type": "module-910b-8" } };
  const a3 = { ...ascend, prefix: "a3", count: 6, devices: 16, labels: { "accelerator-type": "module-a3-16" } };
  await cluster.addNodes(a2);
  await cluster.addNodes(a3);
  service = await startTandem(cluster);
  await cluster.startScheduler();
  for (const namespace of ["multi", "pd", "held"]) await cluster.must(["create", "namespace", namespace]);
  lap("cluster and Tandem");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await service.stop();
  await cluster.stop();
});

const live = async (namespace: string, app: string): Promise<Pod[]> =>
  (await cluster.pods(namespace, `app=${app}`)).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
const isRunning = ({ status }: Pod): boolean => status?.phase === "Running";
const instanceOf = (pod: Pod): string => labelOf(pod, LABEL.instance) ?? "";
const byRank = (pods: readonly Pod[]): Pod[] =>
  pods.toSorted((a, b) => Number(labelOf(a, LABEL.nodeRank)) - Number(labelOf(b, LABEL.nodeRank)));
const uids = (pods: readonly Pod[]): string[] => pods.map(({ metadata }) => metadata.uid ?? "");

/** The pods of one instance, in the order of their ranks, once all of them run. */
const running = (namespace: string, app: string, count: number): Promise<Pod[]> =>
  eventually(`${count} pods of ${app} run`, async () => {
    const pods = await live(namespace, app);
    return pods.length === count && pods.every(isRunning) ? byRank(pods) : undefined;
  });

t.test("one engine over two nodes: ranks, leader, arguments", async (t) => {
  await cluster.must(["apply", "-n", "multi", "-f", example("multidp")]);
  const pods = await running("multi", MULTI, 2);
  lap("two pods run");
  const [leader, other] = pods as [Pod, Pod];
  t.equal(instanceOf(leader), instanceOf(other));
  t.match(instanceOf(leader), /^[0-9a-f]{12}$/);
  t.notOk(pods.some(isGated));
  t.not(leader.spec.nodeName, other.spec.nodeName);
  const { spec } = await leadersService(cluster, other);
  t.match(spec, { clusterIP: "None", publishNotReadyAddresses: true });
  const selected = await cluster.pods(
    "multi",
    Object.entries(spec.selector)
      .map((pair) => pair.join("="))
      .join(),
  );
  t.same(uids(selected), uids([leader]), "the leader's name leads to the leader");

  const [first, second] = pods.map(argumentsOf) as [string[], string[]];
  t.equal(
    valuesOf(first, "--data-parallel-address").at(-1),
    leader.status?.podIP,
    "the leader binds to its own address",
  );
  t.equal(valuesOf(second, "--data-parallel-address").at(-1), annotationOf(other, STATUS.leader));
  t.same(
    [first, second].map((words) => valuesOf(words, "--data-parallel-start-rank").at(-1)),
    ["0", "1"],
  );
  t.same(
    [first, second].map((words) => words.includes("--headless")),
    [false, true],
  );
  t.same(
    [first, second].map((words) => valuesOf(words, "--host").at(-1)),
    ["0.0.0.0", "0.0.0.0"],
  );
  t.notOk(
    [...first, ...second].some((word) => word === "" || word.includes("$(TANDEM_")),
    "nothing is left open",
  );
  t.same(
    pods.map((pod) => labelOf(pod, LABEL.entry)),
    ["true", undefined],
  );
  t.same(
    pods.map((pod) => endpointsOf(pod).length),
    [1, 0],
    "the leader alone is routed to",
  );
});

t.test("start scripts of others find their own names", async (t) => {
  const [, other] = (await running("multi", MULTI, 2)) as [Pod, Pod];
  const env = environment(other, engineOf(other));
  const leader = annotationOf(other, STATUS.leader);
  t.match(Object.fromEntries(env), {
    [ENGINE_ENV.nodeRank]: "1",
    [ENGINE_ENV.dpRankStart]: "1",
    [ENGINE_ENV.dpAddress]: leader,
    [LWS.leaderEnv]: leader,
    [LWS.sizeEnv]: "2",
    [LWS.indexEnv]: "1",
    [KTHENA_ENV.leader]: leader,
    [KTHENA_ENV.size]: "2",
    [KTHENA_ENV.index]: "1",
  });
  const [wait] = other.spec.initContainers as [Container];
  t.match(Object.fromEntries(environment(other, wait)), { [ENGINE_ENV.dpAddress]: leader, [ENGINE_ENV.nodeRank]: "1" });
});

t.test("prefill and decode apart: every rank of every node has a server and is routed to", async (t) => {
  await cluster.must(["apply", "-n", "pd", "-f", example("pd")]);
  const decode = await running("pd", DECODE, 2);
  const prefill = await running("pd", "qwen3-235b-prefill", 1);
  lap("prefill and decode run");
  t.same(
    decode.map((pod) => environment(pod, engineOf(pod)).get(ENGINE_ENV.dpRankStart)),
    ["0", "4"],
  );
  const endpoints = decode.flatMap((pod) => endpointsOf(pod));
  t.same(
    endpoints.map(({ dataParallelRank }) => dataParallelRank),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );
  t.equal(new Set(endpoints.map(({ address }) => address)).size, 8);
  t.same(new Set(endpoints.map(({ instance }) => instance)), new Set([instanceOf(decode[0] as Pod)]));
  t.equal(prefill.flatMap((pod) => endpointsOf(pod)).length, 2);
  t.same(
    [...decode, ...prefill].map((pod) => labelOf(pod, LABEL.entry)),
    ["true", "true", undefined],
  );
  const sizes = await eventually("the sizes of both roles", async () => {
    const [map] = await cluster.api.list("/api/v1/namespaces/pd/configmaps?labelSelector=tandem.sh/owned-by");
    return map?.["data"] as Record<string, string> | undefined;
  });
  t.match(JSON.parse(sizes["decode"] ?? ""), {
    kv_connector_extra_config: { prefill: { dp_size: 2, tp_size: 8 }, decode: { dp_size: 8, tp_size: 4 } },
  });
});

t.test("a lost member replaces the whole instance by a new one", async (t) => {
  for (const [namespace, app] of [
    ["multi", MULTI],
    ["pd", DECODE],
  ] as const) {
    const before = await running(namespace, app, 2);
    const lost = before[1] as Pod;
    await cluster.must(["delete", "pod", "-n", namespace, lost.metadata.name ?? "", "--wait=false"]);
    const after = await eventually(`${app}: two others run`, async () => {
      const pods = await live(namespace, app);
      const fresh = pods.every((pod) => !uids(before).includes(pod.metadata.uid ?? "") && isRunning(pod));
      return pods.length === 2 && fresh ? byRank(pods) : undefined;
    });
    t.equal(new Set(after.map(instanceOf)).size, 1);
    t.not(instanceOf(after[0] as Pod), instanceOf(before[0] as Pod), "under a new name");
    t.same(
      after.map((pod) => labelOf(pod, LABEL.nodeRank)),
      ["0", "1"],
    );
    const services = await eventually("the old Service is gone", async () => {
      const found = await cluster.api.list(`/api/v1/namespaces/${namespace}/services?labelSelector=tandem.sh/owned-by`);
      return found.length === 1 ? found : undefined;
    });
    t.equal(labelOf(services[0] as KubeObject, LABEL.instance), instanceOf(after[0] as Pod));
    lap(`${app} replaced`);
  }
  const events = await cluster.api.list("/api/v1/namespaces/multi/events");
  const reasons = events.map((event) => event["reason"]);
  t.ok(reasons.includes("InstanceFormed") && reasons.includes("InstanceBroken"), [...new Set(reasons)].join());
});

/** The two pods of an instance, once both are ready and the controller has seen it. */
async function serving(namespace: string, app: string): Promise<Pod[]> {
  for (const pod of await running(namespace, app, 2)) await listens(cluster, pod, true);
  return eventually("both serve", async () => {
    const pods = byRank(await live(namespace, app));
    return routed(pods)[0] === true && annotationOf(pods[0] as Pod, STATUS.served) === "true" ? pods : undefined;
  });
}
const drains = (pods: readonly Pod[]): (string | undefined)[] => pods.map((pod) => annotationOf(pod, STATUS.drain));
const routed = (pods: readonly Pod[]): boolean[] =>
  endpointsOfAll(pods).map(({ ready, draining }) => ready && !draining);

t.test("a member that is not ready takes the whole instance out of routing, and in again", async (t) => {
  const pods = await serving("multi", MULTI);
  const [leader, other] = pods as [Pod, Pod];
  await listens(cluster, other, false);
  await eventually("discovery sees it", async () =>
    routed(await live("multi", MULTI))[0] === false ? true : undefined,
  );
  await eventually("both drain", async () => {
    const now = await live("multi", MULTI);
    return drains(now).every((why) => why === "instance-unready") ? now : undefined;
  });
  const out = (await live("multi", MULTI)).find(({ metadata }) => metadata.uid === leader.metadata.uid) as Pod;
  t.equal(labelOf(out, LABEL.entry), undefined, "selectors of others do not find the leader");
  await listens(cluster, other, true);
  const back = await eventually("both serve", async () => {
    const now = await live("multi", MULTI);
    return drains(now).every((why) => why === undefined) ? byRank(now) : undefined;
  });
  t.same(uids(back), uids(pods), "none of them was replaced");
  t.same(
    back.map((pod) => labelOf(pod, LABEL.entry)),
    ["true", undefined],
  );
  t.same(routed(back), [true]);
});

t.test("a rank whose container restarts takes its whole instance with it, and a new one comes", async (t) => {
  const before = await serving("multi", MULTI);
  const other = before[1] as Pod;
  await restarts(cluster, other);
  t.same(routed(await live("multi", MULTI)), [false]);
  const after = await eventually("two others run", async () => {
    const pods = await live("multi", MULTI);
    const fresh = pods.every((pod) => !uids(before).includes(pod.metadata.uid ?? "") && isRunning(pod));
    return pods.length === 2 && fresh ? byRank(pods) : undefined;
  });
  t.not(instanceOf(after[0] as Pod), instanceOf(before[0] as Pod));
  const events = await cluster.api.list("/api/v1/namespaces/multi/events");
  const told = events.map((event) => `${String(event["reason"])}: ${String(event["message"])}`);
  t.ok(
    told.some((line) => /InstanceBroken: .*was restarted under its peers; all are replaced/.test(line)),
    told.join("\n"),
  );
  for (const reason of ["InstanceUnready", "InstanceReady"]) t.ok(told.some((line) => line.startsWith(reason)));
});

t.test("replicas that make no whole instance are refused, with both numbers", async (t) => {
  const output = await cluster.kubectl(["patch", "-n", "multi", "deployment", MULTI, "-p", '{"spec":{"replicas":3}}']);
  t.not(output.code, 0);
  t.match(output.stderr, /nodes-per-instance is 2.*3 replicas.*multiple of 2/s);
});

t.test("two instances of one Deployment are scaled in one at a time, whole", async (t) => {
  await cluster.must(["scale", "-n", "multi", "deployment", MULTI, "--replicas=4"]);
  const four = await running("multi", MULTI, 4);
  t.equal(new Set(four.map(instanceOf)).size, 2);
  await cluster.must(["scale", "-n", "multi", "deployment", MULTI, "--replicas=2"]);
  const two = await running("multi", MULTI, 2);
  t.equal(new Set(two.map(instanceOf)).size, 1, "one instance stays");
  t.ok(
    two.every((pod) => uids(four).includes(pod.metadata.uid ?? "")),
    "and none of its pods was replaced",
  );
});

t.test("a rolling update replaces whole instances", async (t) => {
  const before = await running("multi", MULTI, 2);
  await cluster.must(["set", "env", "-n", "multi", "deployment", MULTI, "VLLM_LOGGING_LEVEL=INFO"]);
  const after = await eventually("two pods of the new template run", async () => {
    const pods = await live("multi", MULTI);
    const fresh = pods.every((pod) => !uids(before).includes(pod.metadata.uid ?? "") && isRunning(pod));
    return pods.length === 2 && fresh ? byRank(pods) : undefined;
  });
  t.equal(new Set(after.map(instanceOf)).size, 1);
  t.equal(new Set(after.map((pod) => labelOf(pod, "pod-template-hash"))).size, 1);
  t.not(instanceOf(after[0] as Pod), instanceOf(before[0] as Pod));
});

t.test("recovery platform: out of routing at once, and left alone", async (t) => {
  await cluster.must(["annotate", "-n", "multi", "deployment", MULTI, "tandem.sh/recovery=platform"]);
  const [leader, other] = (await running("multi", MULTI, 2)) as [Pod, Pod];
  await cluster.must(["delete", "pod", "-n", "multi", other.metadata.name ?? "", "--wait=false"]);
  const drained = await eventually("the leader drains", async () => {
    const pod = (await live("multi", MULTI)).find(({ metadata }) => metadata.uid === leader.metadata.uid);
    return pod !== undefined && annotationOf(pod, STATUS.drain) !== undefined ? pod : undefined;
  });
  t.equal(labelOf(drained, LABEL.entry), undefined);
  t.ok(endpointsOf(drained).every(({ draining }) => draining));
  const held = await eventually("its successor waits", async () =>
    (await live("multi", MULTI)).find((pod) => isGated(pod)),
  );
  t.equal(instanceOf(held), "");
  await cluster.must(["delete", "pod", "-n", "multi", leader.metadata.name ?? "", "--wait=false"]);
  const after = await running("multi", MULTI, 2);
  t.equal(new Set(after.map(instanceOf)).size, 1, "somebody else replaced it: a new instance stands");
});

t.test("a StatefulSet's ordinals are its ranks", async (t) => {
  const [deployment] = parseObjects(readFileSync(example("multidp"), "utf8"), "multidp") as [KubeObject];
  const { strategy, progressDeadlineSeconds, ...spec } = deployment["spec"] as Record<string, unknown>;
  t.ok(strategy !== undefined && progressDeadlineSeconds !== undefined);
  const set = { ...deployment, kind: "StatefulSet", spec: { ...spec, serviceName: "none" } };
  const refused = await cluster.kubectl(["apply", "-n", "held", "-f", "-"], JSON.stringify(set));
  t.match(refused.stderr, /one by one.*podManagementPolicy: Parallel/s);
  const parallel = { ...set, spec: { ...set.spec, podManagementPolicy: "Parallel" } };
  await cluster.must(["apply", "-n", "held", "-f", "-"], JSON.stringify(parallel));
  const pods = await running("held", MULTI, 2);
  t.same(
    pods.map(({ metadata }) => metadata.name),
    [`${MULTI}-0`, `${MULTI}-1`],
  );
  await cluster.must(["delete", "statefulset", "-n", "held", MULTI]);
  await eventually("its Service goes with it", async () => {
    const found = await cluster.api.list("/api/v1/namespaces/held/services?labelSelector=tandem.sh/owned-by");
    return found.length === 0 ? true : undefined;
  });
});

t.test("a LeaderWorkerSet is admitted on both templates, and its pods keep its numbers", async (t) => {
  const engine = (args: string[]): object => ({
    spec: {
      containers: [{ name: "engine", image: "ascend/vllm-ascend:v0.18.0", command: ["vllm", "serve", "m"], args }],
    },
  });
  const sizes = ["--tensor-parallel-size", "8", "--data-parallel-size", "2"];
  const set = {
    apiVersion: LWS.apiVersion,
    kind: "LeaderWorkerSet",
    metadata: {
      name: "group",
      namespace: "held",
      labels: { [LABEL.model]: "group", [LABEL.role]: "decode" },
      annotations: { "tandem.sh/accelerator": "mindcluster-910", "tandem.sh/kv-connector": "none" },
    },
    spec: {
      replicas: 1,
      leaderWorkerTemplate: {
        size: 2,
        leaderTemplate: engine(sizes),
        workerTemplate: engine([...sizes, "--headless"]),
      },
    },
  };
  await cluster.must(["apply", "--server-side", "-f", "-"], JSON.stringify(set));
  const path = `/apis/${LWS.apiVersion}/namespaces/held/leaderworkersets/group`;
  const stored = (await cluster.api.get(path)) as unknown as Workload;
  t.type(annotationOf(stored, STATUS.plan), "string");
  for (const { template } of templatesOf(stored)) {
    t.match(template.metadata?.labels, { [LABEL.model]: "group", [LABEL.role]: "decode" });
    t.match(template.spec.containers[0]?.resources?.limits, { "huawei.com/Ascend910": "8" });
  }
  await cluster.must(["apply", "--server-side", "-f", "-"], JSON.stringify(set));
  const again = (await cluster.api.get(path)) as unknown as Workload;
  t.equal(again.metadata.generation, stored.metadata.generation, "applying it again changes nothing");

  // Its controller is not here: the pods that it would make.
  for (const pod of samplePods(stored)) await cluster.api.post("/api/v1/namespaces/held/pods", pod);
  const pods = byRank(
    await eventually("the group runs", async () => {
      const found = await cluster.pods("held", `${LWS.name}=group`);
      return found.length === 2 && found.every(isRunning) ? found : undefined;
    }),
  );
  t.same(
    pods.map((pod) => [labelOf(pod, LABEL.instance), labelOf(pod, LABEL.nodeRank), labelOf(pod, LABEL.entry)]),
    [
      ["group-0", "0", "true"],
      ["group-0", "1", undefined],
    ],
  );
  t.same(
    pods.map((pod) => endpointsOf(pod).length),
    [1, 0],
  );
  const [, worker] = pods as [Pod, Pod];
  t.equal(valuesOf(argumentsOf(worker), "--data-parallel-address").at(-1), `$(${LWS.leaderEnv})`, "set by its webhook");
  t.equal(valuesOf(argumentsOf(worker), "--data-parallel-start-rank").at(-1), "1");
  await cluster.must(["label", "-n", "held", "leaderworkerset", "group", `${LABEL.model}-`, `${LABEL.role}-`]);
  const bare = (await cluster.api.get(path)) as unknown as Workload;
  t.notOk(JSON.stringify(templatesOf(bare)).includes("tandem.sh/"), "unlabelled, it is as it was");
});

t.test("tandem release frees pods that wait, also while no controller runs", async (t) => {
  await cluster.must(["delete", "deployment", "-n", "pd", "--all", "--wait=false"]);
  await eventually("room", async () => ((await cluster.pods("pd")).length === 0 ? true : undefined));
  await service.stopRole("controller");
  await cluster.must(["apply", "-n", "pd", "-f", example("pd")]);
  const held = await eventually("pods wait", async () => {
    const pods = await live("pd", DECODE);
    return pods.length === 2 && pods.every(isGated) ? pods : undefined;
  });
  t.ok(held.every((pod) => pod.spec.nodeName === undefined));
  tandem(cluster, ["release", "-n", "pd", "--settle", "2"]);
  const free = await eventually("none waits", async () => {
    const pods = await live("pd", DECODE);
    return pods.length >= 2 && pods.every((pod) => !isGated(pod) && isRunning(pod)) ? pods : undefined;
  });
  t.notOk(JSON.stringify(free.filter((pod) => !uids(held).includes(pod.metadata.uid ?? ""))).includes(GATE.rank));
  const services = await cluster.api.list("/api/v1/namespaces/pd/services?labelSelector=tandem.sh/owned-by");
  t.same(services, []);
});
