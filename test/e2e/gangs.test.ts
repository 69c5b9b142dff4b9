/**
 * Gangs on real parts: with room for one of two gangs, one runs whole and the other holds nothing; behind gates under
 * kube-scheduler, and by PodGroups under Volcano, whose own PodGroups place halves. Then what may befall a gang behind
 * gates: nodes that close, no room, gates of others, scaling to nothing, and processes that are killed.
 * Real kube-apiserver, controller-manager, kube-scheduler and Volcano; kwok's nodes; Tandem's webhooks and controller.
 */
import t from "tap";
import { annotationOf, type KubeObject, type Pod } from "../../src/kinds/kube.ts";
import { GATE, LABEL, OWNERSHIP, STATUS, VOLCANO } from "../../src/kinds/names.ts";
import { contest, CONTEST_NODES, nativeContest, type Contest } from "./cluster/contest.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import {
  createGangs,
  gangDeployments,
  isWhole,
  removeGang,
  scale,
  standing,
  whole,
  type GangShape,
} from "./cluster/gangs.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { startLaps } from "./cluster/laps.ts";
import { LEAF_LABEL } from "./cluster/nodes.ts";
import { eventually, type Running } from "./cluster/process.ts";
import { buildProgram } from "./cluster/tandem.ts";
import { startVolcano, type Volcano } from "./cluster/volcano-scheduler.ts";

t.setTimeout(900_000);
const RUNS = 20;
/** Which pods come first is chance; most runs end in halves. */
const MOST_NATIVE_RUNS = 20;
const GANGS = 20;

let cluster: Cluster;
let tandem: Installation;
let scheduler: Running;
let volcano: Volcano | undefined;
const lap = startLaps(t);

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes({ count: CONTEST_NODES });
  tandem = await install(cluster);
  scheduler = await cluster.startScheduler();
  for (const name of ["gates", "volcano", "native", "fate", "many"]) await cluster.must(["create", "namespace", name]);
  lap("cluster and Tandem");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${tandem.logs()}\n${volcano?.logs() ?? ""}`);
  await volcano?.stop();
  await tandem.stop();
  await cluster.stop();
});

async function contests(path: "gates" | "volcano"): Promise<readonly Contest[]> {
  const results: Contest[] = [];
  for (let run = 1; run <= RUNS; run++) results.push(await contest(cluster, { namespace: path, run, path }));
  const times = results.map(({ wonAfterMs }) => wonAfterMs).sort((a, b) => a - b);
  lap(`${RUNS} contests (${path}; whole after ${times[RUNS / 2]} ms in the middle, ${times.at(-1)} ms at most)`);
  return results;
}

t.test(`gates: room for one of two gangs, ${RUNS} times`, async (t) => {
  const results = await contests("gates");
  t.equal(results.length, RUNS);
  const held = results.filter(({ loserBound }) => loserBound > 0);
  t.same(held, [], "the loser never holds anything");
  const remade = results.filter(({ loserRemade }) => loserRemade > 0);
  t.same(remade, [], "nothing had to be given back");
});

t.test(`Volcano: room for one of two gangs, ${RUNS} times`, async (t) => {
  volcano = await startVolcano(cluster);
  const results = await contests("volcano");
  t.equal(results.length, RUNS);
  const held = results.filter(({ loserBound }) => loserBound > 0);
  t.same(held, [], "the loser never holds anything");
});

t.test("Volcano's own PodGroups, one for each ReplicaSet, place halves", async (t) => {
  const results: number[][] = [];
  const isHalf = (bound: readonly number[]): boolean => bound.every((count) => count > 0);
  while (results.length < MOST_NATIVE_RUNS && !results.some(isHalf))
    results.push(await nativeContest(cluster, { namespace: "native", run: results.length + 1 }));
  lap(`contests of ReplicaSets (bound of each: ${results.map((bound) => bound.join("+")).join(", ")})`);
  t.ok(results.some(isHalf), "both services hold some of what neither can use");
});

t.test("Volcano: minimums follow the replicas, and a PodGroup that somebody edits is put back", async (t) => {
  volcano ??= await startVolcano(cluster);
  const gang: GangShape = {
    name: "kept",
    prefill: 1,
    decode: 2,
    devices: 2,
    annotations: { "tandem.sh/scheduler": "volcano" },
  };
  type Spec = { readonly minMember: number; readonly minTaskMember: Record<string, number>; readonly queue: string };
  const path = `/apis/${VOLCANO.podGroupApiVersion}/namespaces/volcano/podgroups`;
  const minimum = (decode: number): Promise<KubeObject> =>
    eventually(`a PodGroup that asks for ${decode} decode pods`, async () => {
      const [found] = await cluster.api.list(path);
      const spec = found?.["spec"] as Spec | undefined;
      return spec?.minTaskMember["decode"] === decode && spec.minMember === decode + 1 ? found : undefined;
    });
  await createGangs(cluster, "volcano", [gang]);
  await whole(cluster, "volcano", gang);
  const made = await minimum(2);
  await scale(cluster, "volcano", "kept-decode", 1);
  await minimum(1);
  await scale(cluster, "volcano", "kept-decode", 2);
  await whole(cluster, "volcano", gang);
  await minimum(2);
  const { name = "", uid } = made.metadata;
  await cluster.api.patch(`${path}/${name}`, "merge-patch", { spec: { minMember: 9, minTaskMember: { decode: 8 } } });
  const back = await minimum(2);
  t.equal(back.metadata.uid, uid, "it was mended, not made anew");
  t.ok(back["status"], "the status is Volcano's, and is still there");
  await removeGang(cluster, "volcano", "kept");
  lap("minimums");
});

t.test("Volcano: instances over two nodes are subgroups, counted whole", async (t) => {
  const shape = {
    prefill: 2,
    decode: 1,
    annotations: { "tandem.sh/scheduler": "volcano", "tandem.sh/gang": "prefill=1,decode=1" },
  };
  const gang: GangShape = { name: "ranked", ...shape };
  const [prefill, decode] = gangDeployments(gang) as [KubeObject, KubeObject];
  prefill.metadata.annotations = { ...prefill.metadata.annotations, "tandem.sh/nodes-per-instance": "2" };
  // Pods of an instance are exchanged together.
  Object.assign(prefill["spec"] as object, { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 2 } } });
  for (const object of [prefill, decode])
    await cluster.api.post("/apis/apps/v1/namespaces/volcano/deployments", object);
  const { bound } = await whole(cluster, "volcano", gang);
  t.equal(bound.length, 3);
  const [group] = await cluster.api.list(`/apis/${VOLCANO.podGroupApiVersion}/namespaces/volcano/podgroups`);
  t.match(group?.["spec"], {
    minTaskMember: { prefill: 2, decode: 1 },
    subGroupPolicy: [{ name: "prefill", matchLabelKeys: [LABEL.instance], subGroupSize: 2, minSubGroups: 1 }],
  });
  await removeGang(cluster, "volcano", "ranked");
  lap("subgroups");
});

t.test("Volcano with a PodGroup for each instance: gates hold the cell, and every pod joins its own", async (t) => {
  const ASCEND = "huawei.com/Ascend910";
  await cluster.addNodes({ prefix: "npu", count: 3, resource: ASCEND });
  const gang = (name: string): GangShape => ({
    name,
    prefill: 1,
    decode: 2,
    resource: ASCEND,
    annotations: { "tandem.sh/scheduler": "volcano", "tandem.sh/accelerator": "mindcluster-910" },
  });
  const gangs = [gang("north"), gang("south")];
  await createGangs(cluster, "volcano", gangs);
  const seen = await eventually("one of two gangs runs whole, the other waits", async () => {
    const both = await Promise.all(gangs.map(({ name }) => standing(cluster, "volcano", name)));
    const won = both.find((one, index) => isWhole(one, gangs[index] as GangShape));
    const lost = both.find((one) => one !== won);
    if (won === undefined || lost === undefined) throw new Error(both.map(({ bound }) => bound.length).join(", "));
    return lost.pods.length === 3 ? { won, lost } : undefined;
  });
  t.equal(seen.lost.bound.length, 0);
  t.equal(seen.lost.held, 3);
  const groups = new Set(seen.won.bound.map((pod) => annotationOf(pod, VOLCANO.groupName)));
  t.equal(groups.size, 3, "one for each");
  const stored = await cluster.api.list(`/apis/${VOLCANO.podGroupApiVersion}/namespaces/volcano/podgroups`);
  for (const { spec } of stored.filter(({ metadata }) => groups.has(metadata.name)))
    t.equal((spec as { minMember: number }).minMember, 1);
  for (const { name } of gangs) await removeGang(cluster, "volcano", name);
  await cluster.must(["delete", "nodes", "npu-00", "npu-01", "npu-02"]);
  lap("a PodGroup for each instance");
  await volcano?.stop();
  volcano = undefined;
});

/** Two leaves of two nodes, each with room for one gang of a prefill and a decode pod. */
const PAIR = { prefill: 1, decode: 1 };
const live = async (name: string): Promise<readonly Pod[]> => (await standing(cluster, "fate", name)).pods;
const leafOf = async (pods: readonly Pod[]): Promise<string[]> => {
  const nodes = await cluster.api.list("/api/v1/nodes");
  const leaf = new Map(nodes.map(({ metadata }) => [metadata.name ?? "", metadata.labels?.[LEAF_LABEL] ?? ""]));
  return [...new Set(pods.map(({ spec }) => leaf.get(spec.nodeName ?? "") ?? "nowhere"))];
};
const gatesOf = (pod: Pod): string[] => (pod.spec.schedulingGates ?? []).map(({ name }) => name);
const placementOf = (pod: Pod): string | undefined => annotationOf(pod, STATUS.placement);
/** What went by the gate: a pod that never had one carries no placement. */
const wentByGate = (pods: readonly Pod[]): boolean => pods.every((pod) => placementOf(pod) !== undefined);
const restart = (...settings: string[]): Promise<void> => tandem.restartController({ settings });

t.test("what cannot be bound where it was planned is given back and placed elsewhere", async (t) => {
  await cluster.must(["delete", "nodes", "--all"]);
  await cluster.addNodes({ prefix: "two", count: 4, leafSize: 2 });
  await restart("gang.bindSeconds=2", "gang.liftAfterSeconds=0");
  await scheduler.stop();
  const gang: GangShape = { name: "closed", ...PAIR, annotations: { "tandem.sh/topology": "required" } };
  await createGangs(cluster, "fate", [gang]);
  const lifted = await eventually("the gang is let go", async () => {
    const pods = await live("closed");
    return pods.length === 2 && wentByGate(pods) ? pods : undefined;
  });
  const planned = lifted.map((pod) => (JSON.parse(placementOf(pod) ?? "{}") as { node: string }).node);
  t.equal(new Set(planned).size, 2);
  for (const node of planned) await cluster.must(["cordon", node]);
  scheduler = await cluster.startScheduler();
  const { bound } = await whole(cluster, "fate", gang, 60_000);
  const before = new Set(lifted.map(({ metadata }) => metadata.uid));
  t.notOk(
    bound.some(({ metadata }) => before.has(metadata.uid)),
    "others took their place",
  );
  t.notOk(bound.some(({ spec }) => planned.includes(spec.nodeName ?? "")));
  t.equal((await leafOf(bound)).length, 1);
  for (const node of planned) await cluster.must(["uncordon", node]);
  await removeGang(cluster, "fate", "closed");
  lap("given back");
});

t.test("a gang without room is let go in the end, for a node autoscaler to see", async (t) => {
  await restart("gang.bindSeconds=2", "gang.liftAfterSeconds=2");
  const gang: GangShape = { name: "wide", prefill: 1, decode: 4, annotations: { "tandem.sh/topology": "off" } };
  await createGangs(cluster, "fate", [gang]);
  await eventually("the scheduler says that it finds no node", async () => {
    const pods = await live("wide");
    const seen = pods.filter(({ status }) => status?.conditions?.some(({ reason }) => reason === "Unschedulable"));
    return seen.length > 0 ? true : undefined;
  });
  await cluster.addNodes({ prefix: "more", count: 1, leafSize: 1 });
  const { bound } = await whole(cluster, "fate", gang, 60_000);
  t.equal(bound.length, 5, "it runs on what the autoscaler added");
  await removeGang(cluster, "fate", "wide");
  await cluster.must(["delete", "node", "more-00"]);
  await restart();
  lap("let go without room");
});

t.test("a gate of another's on one member: ours are lifted last, and what it injected is honoured", async (t) => {
  const KUEUE = "kueue.x-k8s.io/admission";
  const gang: GangShape = { name: "queued", ...PAIR, annotations: { "tandem.sh/topology": "required" } };
  await createGangs(cluster, "fate", [{ ...gang, podSpec: { schedulingGates: [{ name: KUEUE }] } }]);
  const pods = await eventually("both pods wait", async () => {
    const pods = await live("queued");
    return pods.length === 2 ? pods : undefined;
  });
  for (const pod of pods) t.same(gatesOf(pod).sort(), [KUEUE, GATE.gang].sort());
  const [first, last] = pods.map(({ metadata }) => metadata.name ?? "") as [string, string];
  // As Kueue does: its gate goes in the same write in which the flavor's selector comes.
  const admit = (name: string): Promise<KubeObject> =>
    cluster.api.patch(`/api/v1/namespaces/fate/pods/${name}`, "merge-patch", {
      spec: { schedulingGates: [{ name: GATE.gang }], nodeSelector: { [LEAF_LABEL]: "two-leaf-1" } },
    });
  await admit(first);
  await eventually("the controller says that the other gate still holds it", async () => {
    const events = await cluster.api.list("/api/v1/namespaces/fate/events");
    return events.some(({ message }) => String(message).includes(KUEUE)) || undefined;
  });
  t.ok(
    (await live("queued")).every((pod) => gatesOf(pod).includes(GATE.gang)),
    "no member has gone ahead",
  );
  await admit(last);
  const { bound } = await whole(cluster, "fate", gang);
  t.same(await leafOf(bound), ["two-leaf-1"]);
  await removeGang(cluster, "fate", "queued");
  lap("another's gate");
});

t.test("followers go into the cell's domain without a gate; after a scale to 0 there are gates again", async (t) => {
  const gang: GangShape = {
    name: "grown",
    ...PAIR,
    devices: 2,
    annotations: { "tandem.sh/topology": "required", "tandem.sh/gang": "prefill=1,decode=1" },
  };
  const records = async (): Promise<KubeObject[]> =>
    cluster.api.list(
      `/api/v1/namespaces/fate/configmaps?labelSelector=${encodeURIComponent(`${OWNERSHIP.label}=${OWNERSHIP.value}`)}`,
    );
  const recorded = (count: number): Promise<KubeObject[]> =>
    eventually(`${count} records`, async () => {
      const found = await records();
      return found.length === count ? found : undefined;
    });
  await createGangs(cluster, "fate", [gang]);
  const first = await whole(cluster, "fate", gang);
  const [record] = await recorded(1);
  const [leaf = ""] = await leafOf(first.bound);
  t.match((record?.["data"] as { domain: string }).domain, leaf);

  await scale(cluster, "fate", "grown-decode", 3);
  const grown = await whole(cluster, "fate", { ...gang, decode: 3 });
  const known = new Set(first.pods.map(({ metadata }) => metadata.uid));
  const followers = grown.bound.filter(({ metadata }) => !known.has(metadata.uid));
  t.equal(followers.length, 2);
  t.notOk(
    followers.some((pod) => wentByGate([pod])),
    "they waited for nobody",
  );
  t.same(await leafOf(followers), [leaf]);
  for (const { spec } of followers) t.match(JSON.stringify(spec.affinity), leaf);

  for (const role of ["prefill", "decode"]) await scale(cluster, "fate", `grown-${role}`, 0);
  await eventually("no pods", async () => ((await live("grown")).length === 0 ? true : undefined));
  await recorded(0);
  for (const role of ["prefill", "decode"]) await scale(cluster, "fate", `grown-${role}`, 1);
  const again = await whole(cluster, "fate", gang);
  t.ok(wentByGate(again.bound), "held until there was room for all");
  await recorded(1);
  await removeGang(cluster, "fate", "grown");
  lap("grown, gone and back");
});

t.test(`controller and admission killed while ${GANGS} gangs are placed: all whole, none doubled`, async (t) => {
  await cluster.must(["delete", "nodes", "--all"]);
  // Exactly the room that they need: whatever were held twice would leave another without.
  await cluster.addNodes({ prefix: "many", count: 15, leafSize: 3 });
  const gangs = Array.from({ length: GANGS }, (_, index): GangShape => ({
    name: `gang-${String(index).padStart(2, "0")}`,
    prefill: 1,
    decode: 2,
    devices: 2,
  }));
  const [first] = tandem.replicas;
  const created = createGangs(cluster, "many", gangs);
  if (first !== undefined) await tandem.end(first, "SIGKILL");
  await tandem.startReplica();
  await created;
  const survey = async (): Promise<{ bound: number; whole: number }> => {
    const all = await Promise.all(gangs.map(({ name }) => standing(cluster, "many", name)));
    return {
      bound: all.reduce((sum, one) => sum + one.bound.length, 0),
      whole: all.filter((one, index) => isWhole(one, gangs[index] as GangShape)).length,
    };
  };
  const kills: string[] = [];
  for (const least of [1, 20]) {
    const { bound } = await eventually(`${least} pods are bound`, async () => {
      const seen = await survey();
      return seen.bound >= least ? seen : undefined;
    });
    kills.push(`${bound} bound`);
    await tandem.restartController({ signal: "SIGKILL" });
  }
  await eventually(
    "all gangs run whole",
    async () => {
      const seen = await survey();
      if (seen.whole < GANGS) throw new Error(`${seen.whole} whole, ${seen.bound} pods bound`);
      return true;
    },
    120_000,
  );
  const all = await cluster.pods("many");
  t.equal(all.length, GANGS * 3, "no pod twice");
  const perNode = Map.groupBy(all, ({ spec }) => spec.nodeName);
  t.ok(
    [...perNode.values()].every((pods) => pods.length === 4),
    "every device is used once",
  );
  lap(`${GANGS} gangs with the controller killed at ${kills.join(" and ")}`);
});
