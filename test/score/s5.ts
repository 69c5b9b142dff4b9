/** S5: the API server is in trouble while numbers change, and pods do not come to their end. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { annotationOf, type Pod, type Workload } from "../../src/kinds/kube.ts";
import { AUTOSCALING, AUTOSCALING_STATUS } from "../../src/kinds/names.ts";
import type { Random } from "../../src/ports.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { startFaultProxy, type Fault, type FaultProxy, type ProxiedCall } from "../e2e/cluster/fault-proxy.ts";
import { labelledDeployment } from "../e2e/cluster/load.ts";
import { render, withoutPods } from "../e2e/cluster/manifests.ts";
import { eventually, type Running } from "../e2e/cluster/process.ts";
import { buildProgram, configurationOf, startRole } from "../e2e/cluster/tandem.ts";
import { withCluster } from "./cluster.ts";
import type { Figures, Progress, ScoreResult, ScoreRow } from "./row.ts";

const STORM_MS = Number(process.env["S5_STORM_MS"] ?? 120_000);
const CONVERGE_MS = 60_000;
const MOST_PER_SECOND = 5;
const SEED = 5;
const DEPLOYMENTS = 20;
/** Every third has pods that never come to their end. */
const STUCK_EVERY = 3;
const STRAYS = 6;
const MOST_REPLICAS = 4;
const REPLICAS_OF_TANDEM = 2;
const NAMESPACE = "storm";
const PATH = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;
/** Each number changes so often, mean. */
const CHANGE_MS = 8000;
/** Share of the writes that fail, by turns. */
const SHARES = [0.5, 0.7, 0.9, 1] as const;
const TURN_MS = 5000;
const LEASE_SHARE = 0.3;
const READ_SHARE = 0.15;

const nameOf = (index: number): string => `deployment-${index}`;
const isStuck = (index: number): boolean => index % STUCK_EVERY === 0;
const STRAY = "stray";

const bounds = (count: number): Record<string, string> => ({
  [AUTOSCALING.mode]: "auto",
  [AUTOSCALING.minReplicas]: String(count),
  [AUTOSCALING.maxReplicas]: String(count),
});

interface Shape {
  readonly replicas: number;
  readonly annotations: Record<string, string>;
  /** Of its pods. */
  readonly template: object;
}

/** Its pods stay unready: they serve nobody, and none of them must drain. */
async function addDeployment(cluster: Cluster, name: string, shape: Shape): Promise<void> {
  const labels = { "tandem.sh/model": name, "tandem.sh/role": "decode" };
  const { metadata, spec, ...rest } = labelledDeployment(name, labels) as Workload;
  const template = { ...spec.template, metadata: { labels: { app: name, ...labels }, ...shape.template } };
  await cluster.api.post(PATH, {
    ...rest,
    metadata: { ...metadata, annotations: shape.annotations },
    spec: { ...spec, replicas: shape.replicas, template },
  });
}

async function fill(cluster: Cluster): Promise<void> {
  await cluster.addNodes({ count: 4, tree: false });
  await cluster.startScheduler();
  await cluster.must(["create", "namespace", NAMESPACE]);
  for (let index = 0; index < DEPLOYMENTS; index++) {
    const template = isStuck(index) ? { finalizers: ["harness.test/stuck"] } : {};
    await addDeployment(cluster, nameOf(index), { replicas: 2, annotations: bounds(2), template });
  }
  // Marked by an autoscaler that was, of a workload that none scales: to be taken back.
  const annotations = { [AUTOSCALING_STATUS.draining]: new Date().toISOString() };
  await addDeployment(cluster, STRAY, { replicas: STRAYS, annotations: {}, template: { annotations } });
  const stuck = Array.from({ length: DEPLOYMENTS }, (_, index) => index).filter(isStuck);
  for (const index of stuck) await stick(cluster, nameOf(index));
}

/** One of its pods begins to be deleted, and never comes to its end. */
async function stick(cluster: Cluster, name: string): Promise<void> {
  const [pod] = await eventually(`pods of ${name}`, async () => {
    const pods = await cluster.pods(NAMESPACE, `app=${name}`);
    return pods.length > 0 ? pods : undefined;
  });
  await cluster.api.remove(`/api/v1/namespaces/${NAMESPACE}/pods/${pod?.metadata.name ?? ""}`);
}

/** Seeded; the share that fails changes every few seconds. */
function storm({ next }: Random): (call: Omit<ProxiedCall, "fault">) => Fault | undefined {
  const begun = performance.now();
  const turns = Array.from({ length: 1000 }, () => SHARES[Math.floor(next() * SHARES.length)] ?? 1);
  const faults = (): Fault =>
    [
      { status: 409 } as const,
      { status: 429, retryAfter: 1 + Math.floor(next() * 4) } as const,
      { status: 500 } as const,
      { status: 500, carriedOut: true } as const,
    ][Math.floor(next() * 4)] as Fault;
  return (call) => {
    const share = isLease(call)
      ? LEASE_SHARE
      : isWrite(call)
        ? (turns[Math.floor((call.at - begun) / TURN_MS)] ?? 1)
        : READ_SHARE;
    if (next() >= share) return undefined;
    return call.method === "GET" ? { status: 500 } : faults();
  };
}

const isLease = ({ path }: Pick<ProxiedCall, "path">): boolean => path.includes("/leases");
const isWrite = (call: Pick<ProxiedCall, "method" | "path">): boolean => call.method !== "GET" && !isLease(call);

/** Numbers change at random until the end; gives those that they came to. */
async function change(cluster: Cluster, { next }: Random, until: number): Promise<ReadonlyMap<string, number>> {
  const wanted = new Map(Array.from({ length: DEPLOYMENTS }, (_, index) => [nameOf(index), 2]));
  while (performance.now() < until) {
    const name = nameOf(Math.floor(next() * DEPLOYMENTS));
    const count = 1 + Math.floor(next() * MOST_REPLICAS);
    await cluster.api.patch(`${PATH}/${name}`, "merge-patch", { metadata: { annotations: bounds(count) } });
    wanted.set(name, count);
    await sleep((2 * next() * CHANGE_MS) / DEPLOYMENTS);
  }
  return wanted;
}

/** Resolves when every number is as it is wanted, and so are the pods that are not on their way out. */
async function converged(cluster: Cluster, wanted: ReadonlyMap<string, number>): Promise<void> {
  await eventually(
    "all numbers are as they are wanted",
    async () => {
      const all = (await cluster.api.list(PATH)) as unknown as Workload[];
      const live = (await cluster.pods(NAMESPACE)).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
      const podsOf = (name: string): Pod[] => live.filter(({ metadata }) => metadata.labels?.["app"] === name);
      const wrong = all.filter(({ metadata: { name = "" }, spec }) => {
        const count = wanted.get(name);
        return count !== undefined && (spec.replicas !== count || podsOf(name).length !== count);
      });
      const marked = live.filter((pod) => annotationOf(pod, AUTOSCALING_STATUS.draining) !== undefined);
      if (wrong.length + marked.length === 0) return true;
      throw new Error(`${wrong.length} workloads are not, ${marked.length} strays are marked`);
    },
    2 * CONVERGE_MS,
  );
}

/** Most calls within any second. */
function worstPerSecond(calls: readonly ProxiedCall[]): number {
  let [first, worst] = [0, 0];
  for (const [index, { at }] of calls.entries()) {
    while (at - (calls[first]?.at ?? at) >= 1000) first += 1;
    worst = Math.max(worst, index - first + 1);
  }
  return worst;
}

const workloadIn = ({ path }: ProxiedCall): string | undefined => /\/deployments\/([^/]+)/.exec(path)?.[1];

/** Writes of a workload before the time was over for which the server had asked. */
const tooEarly = (writes: readonly ProxiedCall[]): number =>
  [...Map.groupBy(writes.filter(workloadIn), workloadIn).values()].reduce((sum, each) => {
    const early = each.filter((call, index) => {
      const { at = 0, fault } = each[index - 1] ?? {};
      return fault?.retryAfter !== undefined && call.at - at < fault.retryAfter * 1000;
    });
    return sum + early.length;
  }, 0);

function figuresOf(calls: readonly ProxiedCall[], stormEnd: number): Figures {
  const writes = calls.filter(isWrite);
  const during = writes.filter(({ at }) => at < stormEnd);
  const status = (wanted: number): number => during.filter(({ fault }) => fault?.status === wanted).length;
  const leases = calls.filter((call) => isLease(call) && call.method !== "GET");
  return {
    worstWritesPerSecond: worstPerSecond(writes),
    writes: writes.length,
    writesInStorm: during.length,
    ...{ refused409: status(409), refused429: status(429), refused500: status(500) },
    carriedOutYetRefused: during.filter(({ fault }) => fault?.carriedOut === true).length,
    beforeRetryAfter: tooEarly(writes),
    leaseWrites: leases.length,
    leaseWritesRefused: leases.filter(({ fault }) => fault !== undefined).length,
    readsRefused: calls.filter(({ method, fault }) => method === "GET" && fault !== undefined).length,
  };
}

async function startReplicas(cluster: Cluster, proxy: FaultProxy): Promise<readonly Running[]> {
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  const file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  const role = { role: "autoscaler", roles: "autoscaler", file, set: [], kubeconfigOf: proxy.before } as const;
  const starting = Array.from({ length: REPLICAS_OF_TANDEM }, () => startRole(cluster, role));
  return (await Promise.all(starting)).map(({ running }) => running);
}

async function scene(cluster: Cluster, proxy: FaultProxy, progress: Progress): Promise<ScoreResult> {
  await fill(cluster);
  const replicas = await startReplicas(cluster, proxy);
  try {
    progress(`${STORM_MS / 1000} s of storm begin`);
    proxy.become(storm(seededRandom(SEED)));
    const wanted = await change(cluster, seededRandom(SEED + 1), performance.now() + STORM_MS);
    const stormEnd = performance.now();
    proxy.become(() => undefined);
    progress("the storm is over");
    const missing = await converged(cluster, wanted).then(
      () => "",
      (error: unknown) => (error as Error).message,
    );
    const convergedMs = Math.round(performance.now() - stormEnd);
    const all = await cluster.pods(NAMESPACE);
    const stuck = all.filter(({ metadata }) => metadata.deletionTimestamp !== undefined).length;
    const outcome = missing === "" ? { convergedMs } : { missing };
    const figures = { ...outcome, stuckPods: stuck, ...figuresOf(proxy.calls, stormEnd) };
    const { worstWritesPerSecond, writesInStorm, beforeRetryAfter } = figures as typeof figures & Counts;
    const isInTime = missing === "" && convergedMs <= CONVERGE_MS;
    const calm = worstWritesPerSecond <= MOST_PER_SECOND && beforeRetryAfter === 0;
    return {
      figures,
      met: calm && isInTime && stuck >= DEPLOYMENTS / STUCK_EVERY && writesInStorm >= DEPLOYMENTS,
    };
  } finally {
    for (const running of replicas) await running.kill();
  }
}

type Counts = Readonly<Record<"worstWritesPerSecond" | "writesInStorm" | "beforeRetryAfter", number>>;

export const row: ScoreRow = {
  id: "S5",
  fault: `fault proxy before a real API server: 409, 429 and 500 to half and up to all of the writes for ${STORM_MS / 1000} s, to a third of the Lease's and to some reads, while the numbers of ${DEPLOYMENTS} Deployments change and the pods of every third stay in their end`,
  required: `never more than ${MOST_PER_SECOND} writes within any second, none before Retry-After is over, and every number as it is wanted within ${CONVERGE_MS / 1000} s`,
  run: (progress) => {
    buildProgram();
    return withCluster(async (cluster) => {
      const proxy = await startFaultProxy(cluster.server);
      try {
        return await scene(cluster, proxy, progress);
      } finally {
        await proxy.stop();
      }
    });
  },
};
