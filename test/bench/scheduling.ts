/**
 * What the extender and the gates cost at scale: `npm run bench:scheduling [-- --nodes N --gangs N --rounds N --json]`.
 *
 * Real etcd, kube-apiserver and kube-scheduler, kwok for the nodes, Tandem's controller and extender as processes of
 * their own. Workloads and pods are made through the API as admission would store them (the same code, run here): the
 * controllers of Deployments, at their 20 requests a second, would be what is measured. Nodes send heartbeats every five
 * minutes and have no leases, which a control plane on two cores could not serve beside the rest.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { withCluster } from "../score/cluster.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import {
  addFleet,
  admittedGang,
  createPods,
  inParallel,
  removePods,
  renamed,
  type AdmittedGang,
} from "../e2e/cluster/fleet.ts";
import { installFleet, type FleetExtender, type FleetRole } from "../e2e/cluster/fleet-roles.ts";
import { shippedConfiguration } from "../e2e/cluster/shipped.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import { memoryOf, quantile, rounded } from "../support/usage.ts";
import { ask, callerOf } from "./scheduling/calls.ts";
import { run, watchBindings, type Run } from "./scheduling/run.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `Pods bound per second with and without the extender, latency of its calls, gangs placed, memory.

  --nodes N   nodes of 8 devices each (5000)
  --gangs N   gangs of 10 prefill and 10 decode pods (100)
  --rounds N  runs of each, alternating; medians are shown (2)
  --calls N   pods asked for over one connection (200)
  --json      machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:scheduling -- --nodes 1000 --gangs 20 --rounds 1`;

const OPTIONS = {
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
  nodes: { type: "string", default: "5000" },
  gangs: { type: "string", default: "100" },
  rounds: { type: "string", default: "2" },
  calls: { type: "string", default: "200" },
} as const;
const { values } = parsed({ options: OPTIONS });

const numberOf = (name: "nodes" | "gangs" | "rounds" | "calls"): number => {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} ${values[name]}: give a number`);
  return value;
};

const NAMESPACE = "fleet";
const QPS = 5000;
/**
 * Between two pods whose calls are timed one by one: API server, kwok and three processes take the last binding in, and on
 * two cores they, not the calls, would be measured. Back to back the calls are in the pods bound per second.
 */
const PAUSE_MS = 200;
/** Of each role of a gang; four devices for each. */
const REPLICAS = 10;

const begun = performance.now();
const tell = (line: string): void => console.error(`${Math.round((performance.now() - begun) / 1000)} s: ${line}`);

interface Row {
  readonly measure: string;
  readonly value: number;
  readonly unit: string;
  /** What is required, where something is. */
  readonly target: string;
  readonly detail: string;
}

interface Scene {
  readonly cluster: Cluster;
  readonly nodes: readonly string[];
  readonly token: string;
  readonly gangs: number;
}

const gangs = ({ gangs }: Scene, gates: boolean): readonly AdmittedGang[] =>
  Array.from({ length: gangs }, (_, index) =>
    admittedGang(
      { name: `gang-${index}`, prefill: REPLICAS, decode: REPLICAS, devices: 4 },
      { namespace: NAMESPACE, gates },
    ),
  );

/** The token of the administrator, as the harness wrote it. */
const tokenOf = ({ kubeconfig }: Cluster): string => {
  const { users } = JSON.parse(readFileSync(kubeconfig, "utf8")) as { users: { user: { token: string } }[] };
  return users[0]?.user.token ?? "";
};

/** Pids of the children of this process, by the name of their program. */
function programs(tandem: Readonly<Record<string, number>>): Record<string, number> {
  const wanted = ["etcd", "kube-apiserver", "kwok"];
  const found = readdirSync(`/proc/${process.pid}/task/${process.pid}`).includes("children")
    ? readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ")
    : [];
  const named = found.map((pid) => [readFileSync(`/proc/${pid}/comm`, "utf8").trim(), Number(pid)] as const);
  return { ...Object.fromEntries(named.filter(([name]) => wanted.includes(name))), ...tandem };
}

async function prepare(cluster: Cluster): Promise<Scene> {
  const count = numberOf("nodes");
  tell(`making ${count} nodes`);
  const nodes = await addFleet(cluster.api, { nodes: count });
  await cluster.must(["create", "namespace", NAMESPACE]);
  return { cluster, nodes, token: tokenOf(cluster), gangs: numberOf("gangs") };
}

/** One backlog of all gangs, scheduled with or without the extender. */
async function backlog(scene: Scene, given: readonly Pod[], extender: FleetExtender | undefined): Promise<Run> {
  const { cluster, token } = scene;
  const pods = renamed(given);
  await createPods(cluster.api, NAMESPACE, pods);
  const answering = extender?.answering;
  const result = await run({
    ...{ cluster, token, namespace: NAMESPACE, pods: pods.length },
    configure: (kubeconfig) => shippedConfiguration({ kubeconfig, extender: answering, qps: QPS }),
    programs: programs(extender === undefined ? {} : { tandem: extender.running.pid }),
  });
  const { boundPerSecond, cpuMsPerPod } = result;
  const cpu = Object.entries(cpuMsPerPod).map(([name, ms]) => `${name} ${ms.toFixed(1)}`);
  const name = extender === undefined ? "without" : "with";
  tell(`${name} the extender: ${boundPerSecond.toFixed(1)} pods/s; CPU ms a pod: ${cpu.join(", ")}`);
  await removePods(cluster.api, NAMESPACE);
  return result;
}

/** Of an even number the mean of the middle two. */
function medianOf(runs: readonly Run[], of: (run: Run) => number): number {
  const sorted = runs.map(of).sort((one, other) => one - other);
  const middle = sorted.slice(Math.ceil(sorted.length / 2) - 1, Math.floor(sorted.length / 2) + 1);
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}

async function throughput(scene: Scene, extender: FleetExtender): Promise<Row[]> {
  const pods = gangs(scene, false).flatMap((one) => one.pods);
  const [plain, ours]: [Run[], Run[]] = [[], []];
  for (let round = 0; round < numberOf("rounds"); round++) {
    plain.push(await backlog(scene, pods, undefined));
    ours.push(await backlog(scene, pods, extender));
  }
  const [a, b] = [medianOf(plain, (one) => one.boundPerSecond), medianOf(ours, (one) => one.boundPerSecond)];
  const cpu = (runs: readonly Run[]): string =>
    `CPU ms a pod: ${Object.keys(runs[0]?.cpuMsPerPod ?? {})
      .map((name) => `${name} ${medianOf(runs, (one) => one.cpuMsPerPod[name] ?? 0).toFixed(1)}`)
      .join(", ")}`;
  const { rssMb, peakMb } = memoryOf(extender.running.pid);
  return [
    row("bound, no extender", a, { unit: "pods/s", detail: cpu(plain) }),
    row("bound, extender", b, { unit: "pods/s", detail: cpu(ours) }),
    row("ratio", b / a, { target: ">= 0.5", detail: `${pods.length} pods, ${scene.nodes.length} nodes` }),
    row("extender memory", peakMb, { unit: "MB", detail: `peak; ${rssMb} MB at the end` }),
  ];
}

interface Told {
  readonly unit?: string;
  readonly target?: string;
  readonly detail?: string;
}

const row = (measure: string, value: number, { unit = "", target = "", detail = "" }: Told): Row => ({
  ...{ measure, value: rounded(value, 2), unit, target, detail },
});

/** Every call judges all nodes; each pod is bound where the answers say, so that the cluster changes between them. */
async function latency({ cluster, nodes, ...scene }: Scene, extender: FleetExtender): Promise<Row[]> {
  const all = gangs({ cluster, nodes, ...scene }, false).flatMap((one) => one.pods);
  const pods = renamed(all.slice(0, numberOf("calls")));
  await createPods(cluster.api, NAMESPACE, pods);
  const caller = callerOf(extender.answering);
  const [filter, prioritize]: [number[], number[]] = [[], []];
  try {
    for (const pod of pods) {
      const name = pod.metadata.name ?? "";
      const asked = await ask(caller, pod, nodes);
      filter.push(asked.filterMs);
      prioritize.push(asked.prioritizeMs);
      const target = { apiVersion: "v1", kind: "Node", name: asked.node };
      const binding = { apiVersion: "v1", kind: "Binding", metadata: { name }, target };
      await cluster.api.post(`/api/v1/namespaces/${NAMESPACE}/pods/${name}/binding`, binding);
      await sleep(PAUSE_MS);
    }
  } finally {
    caller.close();
  }
  await removePods(cluster.api, NAMESPACE);
  // The first calls compile the code.
  const both = filter.map((ms, index) => ms + (prioritize[index] ?? 0)).slice(20);
  const detail = `filter p50 ${rounded(quantile(filter, 0.5))}, prioritize p50 ${rounded(quantile(prioritize, 0.5))} ms`;
  tell(
    `filter + prioritize: p50 ${rounded(quantile(both, 0.5))} ms, p99 ${rounded(quantile(both, 0.99))} ms; ${detail}`,
  );
  return [
    row("filter + prioritize p50", quantile(both, 0.5), { unit: "ms", target: "< 15", detail }),
    row("filter + prioritize p99", quantile(both, 0.99), { unit: "ms", target: "< 50", detail: `${both.length} pods` }),
  ];
}

/** All pods come gated; the controller places every gang, and kube-scheduler binds them. */
async function gated(scene: Scene, controller: FleetRole, extender: FleetExtender): Promise<Row[]> {
  const { cluster, token } = scene;
  const pods = renamed(gangs(scene, true).flatMap((one) => one.pods));
  const configure = (kubeconfig: string): ReturnType<typeof shippedConfiguration> =>
    shippedConfiguration({ kubeconfig, extender: extender.answering, qps: QPS });
  const scheduler = await cluster.startScheduler({ configure });
  const bindings = watchBindings(cluster, NAMESPACE, token);
  const started = performance.now();
  await createPods(cluster.api, NAMESPACE, pods);
  const created = performance.now();
  await bindings.reached(pods.length, 1_800_000);
  const done = performance.now();
  await scheduler.stop();
  await bindings.stop();
  const { rssMb, peakMb } = memoryOf(controller.running.pid);
  tell(`${scene.gangs} gangs in ${rounded((done - started) / 1000)} s, controller ${peakMb} MB`);
  const records = await cluster.api.list(`/api/v1/namespaces/${NAMESPACE}/configmaps`);
  const standing = records.filter(({ metadata }) => metadata.name?.endsWith("-standing")).length;
  return [
    row("gangs placed and bound", (done - started) / 1000, {
      unit: "s",
      detail: `created in ${rounded((created - started) / 1000)} s`,
    }),
    row("gangs that stand", standing, { target: String(scene.gangs), detail: "when the last pod was bound" }),
    row("controller memory", peakMb, { unit: "MB", target: "< 400", detail: `peak; ${rssMb} MB at the end` }),
  ];
}

async function measure(cluster: Cluster): Promise<Row[]> {
  const scene = await prepare(cluster);
  const roles = await installFleet(cluster);
  const workloads = gangs(scene, false).flatMap((one) => one.workloads);
  await inParallel(workloads, (one) => cluster.api.post(`/apis/apps/v1/namespaces/${NAMESPACE}/deployments`, one));
  const controller = await roles.startController();
  const extender = await roles.startExtender();
  try {
    tell("calls over one connection");
    const calls = await latency(scene, extender);
    const bound = await throughput(scene, extender);
    tell("gangs behind gates");
    return [...bound, ...calls, ...(await gated(scene, controller, extender))];
  } finally {
    await extender.running.stop();
    await controller.running.stop();
  }
}

async function main(): Promise<void> {
  buildProgram();
  const rows = await withCluster(measure, { fleet: true });
  if (values.json === true) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

if (values.help === true) console.log(HELP);
else await main();
