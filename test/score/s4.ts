/** S4: the leader sleeps through its Lease and wakes up in the middle of what it was about to write. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AUTOSCALING } from "../../src/kinds/names.ts";
import { auditEvents, credentialIn, credentialOf, lastAuditEvents } from "../e2e/cluster/audit.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { labelledDeployment } from "../e2e/cluster/load.ts";
import { render, withoutPods } from "../e2e/cluster/manifests.ts";
import { eventually, type Running } from "../e2e/cluster/process.ts";
import { buildProgram, configurationOf, startRole } from "../e2e/cluster/tandem.ts";
import { skewed } from "../support/skewed-clock.ts";
import { withCluster } from "./cluster.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";
import { judge, type Judged } from "./stale-writes.ts";
import { SHORT_TIMES, shortLeaseOf, stopLeaders } from "./stopped-leaders.ts";

const sizeOf = (name: string, usual: number): number => Number(process.env[`S4_${name}`] ?? usual);
const RUNS = sizeOf("RUNS", 500);
const TEAMS = sizeOf("TEAMS", 4);
const LEASES = sizeOf("LEASES", 3);
const REAL_RUNS = sizeOf("REAL_RUNS", 1);
const STOP_MS = 60_000;
const SKEW_MS = 600_000;
const SEED = 4;
const TOLD_EVERY = 50;
const REAL = "real";
const REAL_LEASE = "tandem-autoscaler";
/** More than five writes a second can serve: some always wait. */
const REAL_DEPLOYMENTS = 20;

interface Replica {
  readonly running: Running;
  readonly credential: string;
}

/** Three replicas as the manifests run them, whose clocks are ten minutes apart. */
async function startReplicas(cluster: Cluster, file: string): Promise<readonly Replica[]> {
  const replicas: Replica[] = [];
  for (const ms of [-SKEW_MS, 0, SKEW_MS]) {
    const role = { role: "autoscaler", roles: "autoscaler", file, environment: skewed(ms) } as const;
    const { running, kubeconfig } = await startRole(cluster, { ...role, set: ["autoscaler.intervalMs=1000"] });
    replicas.push({ running, credential: credentialIn(kubeconfig) });
  }
  return replicas;
}

const DEPLOYMENTS = `/apis/apps/v1/namespaces/${REAL}/deployments`;
const nameOf = (index: number): string => `deployment-${index}`;
const bounds = (count: number): Record<string, string> => ({
  [AUTOSCALING.mode]: "auto",
  [AUTOSCALING.minReplicas]: String(count),
  [AUTOSCALING.maxReplicas]: String(count),
});

async function addDeployments(cluster: Cluster): Promise<void> {
  await cluster.must(["create", "namespace", REAL]);
  for (let index = 0; index < REAL_DEPLOYMENTS; index++) {
    const labels = { "tandem.sh/model": nameOf(index), "tandem.sh/role": "decode" };
    const made = labelledDeployment(nameOf(index), labels) as { metadata: object };
    const metadata = { ...made.metadata, annotations: bounds(1) };
    await cluster.api.post(DEPLOYMENTS, { ...made, metadata });
  }
}

/** The number that each Deployment is to have goes to and fro, so that there is always something to write. */
function alternate(cluster: Cluster): () => Promise<void> {
  const ending = new AbortController();
  const running = (async () => {
    for (let turn = 0; !ending.signal.aborted; turn++) {
      const index = turn % REAL_DEPLOYMENTS;
      const annotations = bounds(1 + ((Math.floor(turn / REAL_DEPLOYMENTS) + index) % 2));
      await cluster.api.patch(`${DEPLOYMENTS}/${nameOf(index)}`, "merge-patch", { metadata: { annotations } });
      await sleep(100);
    }
  })();
  return () => {
    ending.abort();
    return running;
  };
}

const judged = (cluster: Cluster): Judged =>
  judge(auditEvents(cluster.folder), ({ namespace, name = "" }) =>
    namespace === REAL ? REAL_LEASE : shortLeaseOf(name),
  );

const WRITE_MS = 1000;

/** Who of those was heard to write within the last second. */
const writingNow = (cluster: Cluster, among: readonly Replica[]): Promise<Replica> =>
  eventually(
    "one of the replicas writes",
    async () => {
      await sleep(WRITE_MS);
      const since = new Date(Date.now() - WRITE_MS).toISOString();
      const late = lastAuditEvents(cluster.folder).filter(
        ({ objectRef, requestReceivedTimestamp: at }) => objectRef.namespace === REAL && at > since,
      );
      return among.find(({ credential }) => late.some((event) => credentialOf(event) === credential));
    },
    90_000,
  );

/** The leader of the default times is stopped for a minute, while another one takes over and writes. */
async function realRun(cluster: Cluster, replicas: readonly Replica[], progress: Progress): Promise<void> {
  const leader = await writingNow(cluster, replicas);
  process.kill(leader.running.pid, "SIGSTOP");
  const until = performance.now() + STOP_MS;
  progress(`the leader of three replicas is stopped for ${STOP_MS / 1000} s`);
  await writingNow(
    cluster,
    replicas.filter((one) => one !== leader),
  );
  progress("another one writes");
  await sleep(until - performance.now());
  process.kill(leader.running.pid, "SIGCONT");
  await sleep(15_000);
  progress("the old one runs again since 15 s");
}

async function realRuns(cluster: Cluster, file: string, progress: Progress): Promise<void> {
  await addDeployments(cluster);
  const replicas = await startReplicas(cluster, file);
  const stop = alternate(cluster);
  try {
    for (let run = 0; run < REAL_RUNS; run++) await realRun(cluster, replicas, progress);
  } finally {
    await stop();
    for (const { running } of replicas) await running.kill();
  }
}

async function scene(cluster: Cluster, progress: Progress): Promise<ScoreResult> {
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  const file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  let told = 0;
  const onRuns = (runs: number): void => {
    if (runs < told + TOLD_EVERY) return;
    told = runs;
    progress(`${runs} of ${RUNS} runs, ${judged(cluster).stale.length} stale writes`);
  };
  const teams = { teams: TEAMS, leases: LEASES, runs: RUNS, skewMs: [-SKEW_MS, SKEW_MS], seed: SEED, onRuns };
  const [short] = await Promise.all([stopLeaders(cluster, teams), realRuns(cluster, file, progress)]);
  const { stale, ...counts } = judged(cluster);
  for (const { objectRef, verb, stageTimestamp } of stale.slice(0, 10))
    progress(`stale: ${verb} ${objectRef.resource} ${objectRef.name ?? ""} at ${stageTimestamp}`);
  const figures = {
    ...{ runs: short.runs, stops: short.stops, aimedStops: short.aimed, real60sRuns: REAL_RUNS },
    ...{ staleWrites: stale.length, staleRenewals: counts.staleRenewals, takeovers: counts.takeovers },
    ...{ inFlightAtStop: short.inFlight, withheldAtTheWire: short.withheld, readingAtStop: short.reading },
    ...{ refusedByFences: counts.refused, writes: counts.writes },
    ...{ skewSeconds: (2 * SKEW_MS) / 1000, shortLeaseMs: SHORT_TIMES.durationMs },
  };
  const wasBusy = short.inFlight > 0 && counts.refused > 0 && counts.takeovers >= RUNS;
  return { figures, met: wasBusy && short.runs >= RUNS && stale.length + counts.staleRenewals === 0 };
}

export const row: ScoreRow = {
  id: "S4",
  fault: `${RUNS} times the leader is stopped (SIGSTOP) until another one has taken over, and goes on: ${TEAMS} pairs of processes with Leases of ${SHORT_TIMES.durationMs / 1000} s, half of the stops right after a check; ${REAL_RUNS} time of ${STOP_MS / 1000} s with three replicas as shipped; clocks ${(2 * SKEW_MS) / 60_000} min apart, a real API server`,
  required: `0 writes by one that has lost the Lease in ${RUNS} runs`,
  run: (progress) => {
    buildProgram();
    return withCluster((cluster) => scene(cluster, progress), { fleet: true, audit: true });
  },
};
