/**
 * Drains on real parts: `kubectl drain` of nodes that host members of a gang, while pods take a while to become ready.
 * The service stays at its minimum viable set or above it the whole time, or the eviction is refused.
 * Real kube-apiserver, controller-manager (disruption budgets) and kube-scheduler; kwok's nodes; Tandem's webhooks and
 * controller.
 */
import t from "tap";
import { setTimeout as sleep } from "node:timers/promises";
import { labelOf, type KubeObject, type Pod } from "../../src/kinds/kube.ts";
import { LABEL } from "../../src/kinds/names.ts";
import { podRole } from "../../src/gang/members.ts";
import { ApiError } from "./cluster/api.ts";
import { isReady, startCluster, type Cluster } from "./cluster/control-plane.ts";
import { followPods, type EngineFleet, type Stoppable } from "./cluster/engines.ts";
import { createGangs, gangDeployments, removeGang, scale, standing, type GangShape } from "./cluster/gangs.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { startLaps } from "./cluster/laps.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram } from "./cluster/tandem.ts";

t.setTimeout(300_000);
const NAMESPACE = "drains";
/** From running to ready: time in which a second eviction would break the gang. */
const LOADING_MS = 500;
const SAMPLE_MS = 25;

let cluster: Cluster;
let tandem: Installation;
let fleet: EngineFleet<Stoppable>;
const lap = startLaps(t);

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes({ count: 4, leafSize: 2 });
  tandem = await install(cluster);
  await cluster.startScheduler();
  await cluster.must(["create", "namespace", NAMESPACE]);
  const start = async (): Promise<Stoppable> => {
    await sleep(LOADING_MS);
    return { stop: () => Promise.resolve() };
  };
  fleet = followPods(cluster, { namespace: NAMESPACE, selector: "app", start });
  lap("cluster and Tandem");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${tandem.logs()}`);
  await fleet.stop().finally(async () => {
    await tandem.stop();
    await cluster.stop();
  });
});

const asked = { "tandem.sh/disruption": "budget" };
const live = async (name: string): Promise<readonly Pod[]> => (await standing(cluster, NAMESPACE, name)).pods;
const readyOf = (pods: readonly Pod[], role: string): Pod[] =>
  pods.filter((pod) => isReady(pod) && podRole(pod) === role);
const ready = (name: string, prefill: number, decode: number): Promise<readonly Pod[]> =>
  eventually(`${name}: ${prefill} prefill and ${decode} decode pods are ready`, async () => {
    const pods = await live(name);
    const counts = [readyOf(pods, "prefill").length, readyOf(pods, "decode").length];
    if (pods.length === prefill + decode && counts[0] === prefill && counts[1] === decode) return pods;
    throw new Error(`${counts.join(" and ")} of ${pods.length}`);
  });

interface Budget {
  readonly spec: { readonly minAvailable?: number };
  readonly status?: { readonly disruptionsAllowed: number; readonly observedGeneration: number };
}

/** The budget of a Deployment, once the disruption controller has seen that so many must stay and so many may go. */
const budget = (name: string, stay: number, may: number): Promise<KubeObject> =>
  eventually(`${name}: ${stay} pods must stay, ${may} may go`, async () => {
    const all = await cluster.api.list(`/apis/policy/v1/namespaces/${NAMESPACE}/poddisruptionbudgets`);
    const found = all.find(({ metadata }) => metadata.ownerReferences?.[0]?.name === name);
    const { spec, status } = found as unknown as Budget;
    if (spec.minAvailable === stay && status?.disruptionsAllowed === may) return found;
    throw new Error(JSON.stringify({ spec, status }));
  });

/** Fewest ready pods of each role that were seen while something went on. */
async function fewest<T>(
  name: string,
  during: () => Promise<T>,
): Promise<{ prefill: number; decode: number; result: T }> {
  const seen = { prefill: Infinity, decode: Infinity };
  const stop = new AbortController();
  const look = (async () => {
    while (!stop.signal.aborted) {
      const pods = await live(name);
      for (const role of ["prefill", "decode"] as const) seen[role] = Math.min(seen[role], readyOf(pods, role).length);
      await sleep(SAMPLE_MS);
    }
  })();
  const result = await during().finally(() => stop.abort());
  await look;
  return { ...seen, result };
}

/** Shared memory of engines is an emptyDir, of which nothing is lost. */
const drain = (node: string, seconds: number): ReturnType<Cluster["kubectl"]> =>
  cluster.kubectl(["drain", node, "--delete-emptydir-data", `--timeout=${seconds}s`]);
/** 201, or the status of the refusal. */
const evict = async (pod: Pod): Promise<number> => {
  const { name = "" } = pod.metadata;
  const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace: NAMESPACE } };
  return cluster.api.post(`/api/v1/namespaces/${NAMESPACE}/pods/${name}/eviction`, body).then(
    () => 201,
    (error: unknown) => (error instanceof ApiError ? error.status : 0),
  );
};
const nodeOf = (pod: Pod | undefined): string => pod?.spec.nodeName ?? "";

t.test("above the minimum every node can be drained, and the service never falls below it", async (t) => {
  const annotations = { ...asked, "tandem.sh/gang": "prefill=1,decode=1" };
  await createGangs(cluster, NAMESPACE, [{ name: "roomy", prefill: 2, decode: 2, devices: 4, annotations }]);
  const pods = await ready("roomy", 2, 2);
  await budget("roomy-prefill", 1, 1);
  await budget("roomy-decode", 1, 1);
  const nodes = [...new Set(pods.map(nodeOf))];
  for (const node of nodes) {
    const seen = await fewest("roomy", async () => {
      const drained = await drain(node, 30);
      await ready("roomy", 2, 2);
      return drained;
    });
    t.equal(seen.result.code, 0, seen.result.stderr);
    t.ok(
      seen.prefill >= 1 && seen.decode >= 1,
      `${node}: at least ${seen.prefill} prefill, ${seen.decode} decode pods`,
    );
    await cluster.must(["uncordon", node]);
  }
  const before = new Set(pods.map(({ metadata }) => metadata.uid));
  t.notOk(
    (await live("roomy")).some(({ metadata }) => before.has(metadata.uid)),
    "all have moved",
  );
  lap(`${nodes.length} nodes drained`);
});

t.test("at the minimum an eviction is refused; the number follows the replicas", async (t) => {
  await scale(cluster, NAMESPACE, "roomy-prefill", 1);
  const pods = await ready("roomy", 1, 2);
  await budget("roomy-prefill", 1, 0);
  const [last] = readyOf(pods, "prefill") as [Pod];
  t.equal(await evict(last), 429);
  const seen = await fewest("roomy", () => drain(nodeOf(last), 3));
  t.not(seen.result.code, 0);
  t.match(seen.result.stderr, /violate the pod's disruption budget/);
  t.ok(seen.prefill === 1 && seen.decode >= 1, "nothing below the minimum");
  t.ok((await live("roomy")).some(({ metadata }) => metadata.uid === last.metadata.uid));

  await scale(cluster, NAMESPACE, "roomy-prefill", 2);
  await ready("roomy", 2, 2);
  await budget("roomy-prefill", 1, 1);
  const later = await fewest("roomy", () => drain(nodeOf(last), 30));
  t.equal(later.result.code, 0, later.result.stderr);
  t.ok(later.prefill >= 1 && later.decode >= 1);
  await cluster.must(["uncordon", nodeOf(last)]);
  await removeGang(cluster, NAMESPACE, "roomy");
  lap("refused, and let through after a scale-out");
});

t.test("a pod that is not ready may go, even at the minimum: it serves nobody", async (t) => {
  const gang: GangShape = { name: "sick", prefill: 1, decode: 1, devices: 4, annotations: asked };
  await createGangs(cluster, NAMESPACE, [gang]);
  const pods = await ready("sick", 1, 1);
  await budget("sick-decode", 1, 0);
  const [decode] = readyOf(pods, "decode") as [Pod];
  t.equal(await evict(decode), 429);
  await cluster.setListening(decode, false);
  await eventually("it may go", async () => ((await evict(decode)) === 201 ? true : undefined));
  await ready("sick", 1, 1);
  await removeGang(cluster, NAMESPACE, "sick");
  lap("not ready");
});

t.test(
  "instances over two pods: of two evictions at once one is let through, for it takes its instance along",
  async (t) => {
    const gang: GangShape = {
      name: "ranked",
      prefill: 4,
      decode: 1,
      devices: 4,
      annotations: { ...asked, "tandem.sh/gang": "prefill=1,decode=1" },
    };
    const [prefill, decode] = gangDeployments(gang) as [KubeObject, KubeObject];
    prefill.metadata.annotations = { ...prefill.metadata.annotations, "tandem.sh/nodes-per-instance": "2" };
    for (const object of [prefill, decode])
      await cluster.api.post(`/apis/apps/v1/namespaces/${NAMESPACE}/deployments`, object);
    const pods = await ready("ranked", 4, 1);
    await budget("ranked-prefill", 3, 1);
    const instances = Map.groupBy(readyOf(pods, "prefill"), (pod) => labelOf(pod, LABEL.instance));
    t.equal(instances.size, 2);
    const firsts = [...instances.values()].map(([pod]) => pod as Pod);
    const seen = await fewest("ranked", async () => {
      const answers = await Promise.all(firsts.map(evict));
      await eventually("its instance is replaced", async () => {
        const there = new Set((await live("ranked")).map(({ metadata }) => metadata.uid));
        const gone = [...instances.values()].filter((pods) => pods.every(({ metadata }) => !there.has(metadata.uid)));
        return gone.length === 1 ? true : undefined;
      });
      await ready("ranked", 4, 1);
      return answers;
    });
    t.same(seen.result.sort(), [201, 429]);
    t.equal(seen.prefill, 2, "one instance served all the time");
    await removeGang(cluster, NAMESPACE, "ranked");
    lap("instances");
  },
);
