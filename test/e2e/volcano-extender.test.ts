/**
 * Tandem as the extender of the real Volcano scheduler, by the configuration that is shipped: a cell with a PodGroup for
 * each instance is bound whole or not at all, where Volcano alone binds half of it; a gang in a required domain; and what
 * happens to everybody's pods while nobody answers, or answers nothing.
 */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import type { KubeObject, Pod } from "../../src/kinds/kube.ts";
import { VOLCANO } from "../../src/kinds/names.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { createGangs, DEVICE, removeGang, standing, whole, type GangShape } from "./cluster/gangs.ts";
import { startLaps } from "./cluster/laps.ts";
import { leaves, type NodeOptions } from "./cluster/nodes.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually } from "./cluster/process.ts";
import { startRelay, type Relay } from "./cluster/relay.ts";
import { buildProgram, startTandem, type Tandem } from "./cluster/tandem.ts";
import { startVolcano, type Volcano } from "./cluster/volcano-scheduler.ts";
import { freePorts } from "../support/ports.ts";

t.setTimeout(600_000);
const SHIPPED = join(REPOSITORY, "manifests", "components", "volcano-extender", "volcano-scheduler.conf");
const ASCEND = "huawei.com/Ascend910";
const NPUS: NodeOptions = { prefix: "npu", count: 2, resource: ASCEND };
const GPUS: NodeOptions = { prefix: "gpu", count: 4, leafSize: 2 };
const NAMESPACE = "volcano";

let cluster: Cluster;
let tandem: Tandem;
let volcano: Volcano;
let relay: Relay;
const lap = startLaps(t);

/** A busy machine runs all of this some ten times slower. */
const soon = <T>(what: string, check: () => Promise<T | undefined>): Promise<T> => eventually(what, check, 90_000);

interface Plugin {
  readonly name: string;
  readonly arguments?: Record<string, unknown>;
}

interface SchedulerConf {
  actions: string;
  tiers: { plugins: Plugin[] }[];
}

const pluginOf = ({ tiers }: SchedulerConf): Plugin | undefined =>
  tiers.flatMap(({ plugins }) => plugins).find(({ name }) => name === "extender");

/** The shipped configuration, with the address of the relay, and more verbs where a test wants them. */
function configuration(verbs: readonly string[] = []): SchedulerConf {
  const conf = parse(readFileSync(SHIPPED, "utf8")) as SchedulerConf;
  const more = Object.fromEntries(verbs.map((verb) => [`extender.${verb}Verb`, verb]));
  Object.assign(pluginOf(conf)?.arguments as object, { "extender.urlPrefix": relay.url, ...more });
  return conf;
}

/** Resolves once the scheduler runs by it: it reads the file a second or two later. */
async function reconfigure(
  conf: SchedulerConf,
  shows: (verbs: ReadonlySet<string>) => boolean = () => true,
): Promise<void> {
  volcano.configure(conf);
  await soon("sessions of the new configuration", async () => {
    relay.clear();
    await sleep(1200);
    const verbs = new Set(relay.calls().map(({ verb }) => verb));
    return verbs.has("onSessionClose") && shows(verbs) ? true : undefined;
  });
  relay.clear();
}

const meanOf = <T>(all: readonly T[], of: (one: T) => number): number =>
  all.reduce((sum, one) => sum + of(one), 0) / all.length;

/** What the calls cost since the last `clear`. */
function costs(): string {
  const byVerb = [...Map.groupBy(relay.calls(), ({ verb }) => verb)].sort(([a], [b]) => (a < b ? -1 : 1));
  return byVerb
    .map(([verb, calls]) => {
      const [kilobytes, ms] = [meanOf(calls, ({ bytes }) => bytes / 1000), meanOf(calls, ({ ms }) => ms)];
      return `${verb} ${calls.length} x ${kilobytes.toFixed(1)} kB, ${ms.toFixed(1)} ms`;
    })
    .join("; ");
}

const podPath = `/api/v1/namespaces/${NAMESPACE}/pods`;

/** Somebody else's pod: bound already, or left to Volcano. */
const foreign = (name: string, resource: string, more: { nodeName?: string; devices?: number } = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: {
    ...(more.nodeName === undefined ? { schedulerName: VOLCANO.schedulerName } : { nodeName: more.nodeName }),
    terminationGracePeriodSeconds: 0,
    containers: [{ name: "c", image: "i", resources: { limits: { [resource]: String(more.devices ?? 8) } } }],
  },
});

const isBound = async (name: string): Promise<true | undefined> => {
  const { spec } = (await cluster.api.get(`${podPath}/${name}`)) as Pod;
  return spec.nodeName === undefined ? undefined : true;
};

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes(NPUS);
  await cluster.addNodes(GPUS);
  await cluster.must(["create", "namespace", NAMESPACE]);
  const [port = 0] = await freePorts(1);
  tandem = await startTandem(cluster, [`extender.volcanoListen=127.0.0.1:${port}`]);
  relay = await startRelay(port);
  volcano = await startVolcano(cluster);
  lap("cluster, Tandem and Volcano");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${tandem.logs()}\n${volcano.logs()}`);
  await volcano.stop();
  await relay.stop();
  await tandem.stop();
  await cluster.stop();
});

/**
 * A cell of two instances is let go for two nodes while Volcano looks away, and before it looks again somebody else's pod
 * is on one of them.
 */
async function robbed(name: string): Promise<GangShape> {
  const gang: GangShape = {
    ...{ name, prefill: 1, decode: 1, resource: ASCEND },
    annotations: { "tandem.sh/scheduler": "volcano", "tandem.sh/accelerator": "mindcluster-910" },
  };
  process.kill(volcano.scheduler.pid, "SIGSTOP");
  try {
    await createGangs(cluster, NAMESPACE, [gang]);
    await soon("both pods are let go", async () => {
      const { pods, held } = await standing(cluster, NAMESPACE, name);
      if (pods.length !== 2 || held > 0) throw new Error(`${held} of ${pods.length} are held`);
      return true;
    });
    await cluster.api.post(podPath, foreign("robber", ASCEND, { nodeName: "npu-01" }));
  } finally {
    process.kill(volcano.scheduler.pid, "SIGCONT");
  }
  return gang;
}

t.test("Volcano alone binds half of a cell with a PodGroup for each instance", async (t) => {
  const { name } = await robbed("alone");
  await soon("one of two is bound", async () =>
    (await standing(cluster, NAMESPACE, name)).bound.length === 1 ? true : undefined,
  );
  await removeGang(cluster, NAMESPACE, name);
  await cluster.api.remove(`${podPath}/robber`);
  lap("half a cell");
  t.pass();
});

t.test("jobReady: nothing of the cell is bound before all of it has room", async (t) => {
  await reconfigure(configuration());
  const gang = await robbed("vetoed");
  const vetoes = (): number => relay.calls("jobReady").filter(({ reply }) => reply === '{"status":false}').length;
  const sessions = (): number => relay.calls("onSessionClose").length;
  await soon("three sessions with a veto", () => Promise.resolve(vetoes() > 0 && sessions() >= 4 ? true : undefined));
  t.equal((await standing(cluster, NAMESPACE, gang.name)).bound.length, 0, "not even the half that has room");
  await cluster.api.remove(`${podPath}/robber`);
  const from = performance.now();
  await whole(cluster, NAMESPACE, gang, 90_000);
  lap(`${vetoes()} vetoes; whole ${(performance.now() - from).toFixed(0)} ms after there was room`);
  const metrics = await (await fetch(tandem.metrics.admission)).text();
  t.match(metrics, /tandem_extender_verdicts_total\{[^}]*verb="volcano\/jobReady",reason="GangNotAllocated"\} [1-9]/);
  t.match(metrics, /tandem_extender_verdicts_total\{[^}]*verb="volcano\/jobReady",reason="GangAllocated"\} [1-9]/);
  t.same([...new Set(relay.calls().map(({ status }) => status))], [200]);
  await removeGang(cluster, NAMESPACE, gang.name);
});

t.test("predicate and prioritize: a gang in a required domain is placed whole inside it", async (t) => {
  const more = ["predicate", "prioritize", "jobEnqueueable", "onSessionOpen", "queueOverused", "allocateFunc"];
  const conf = configuration(more);
  // Volcano that knows nothing of domains: what keeps the gang together is the predicate alone.
  for (const tier of conf.tiers) tier.plugins = tier.plugins.filter(({ name }) => name !== "network-topology-aware");
  await reconfigure(conf, (verbs) => verbs.has("onSessionOpen"));
  // The first leaf has two nodes, and room on one: the second is the only one for the gang.
  const [, second = []] = [...leaves(GPUS).values()];
  await cluster.api.post(podPath, foreign("tenant", DEVICE, { nodeName: "gpu-00" }));
  const gang: GangShape = {
    ...{ name: "close", prefill: 1, decode: 1 },
    annotations: {
      "tandem.sh/scheduler": "volcano",
      "tandem.sh/topology": "required",
      "tandem.sh/topology-tier": "1",
    },
  };
  await createGangs(cluster, NAMESPACE, [gang]);
  const { bound } = await whole(cluster, NAMESPACE, gang, 90_000);
  t.same(bound.map(({ spec }) => spec.nodeName).sort(), [...second].sort());
  const refused = relay.calls("predicate").filter(({ reply }) => !reply.includes('"code":0'));
  t.same([...new Set(refused.map(({ reply }) => reply.replace(/.*"status":"(\w+):.*/, "$1")))], ["NodeOutsideDomain"]);
  t.ok(relay.calls("prioritize").length > 0);
  t.same([...new Set(relay.calls().map(({ status }) => status))], [200]);
  t.comment(costs());
  lap("a required domain");
});

t.test("preemptable: a gang that serves is not taken below its minimum viable set", async (t) => {
  const priority = { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name: "urgent" } };
  await cluster.apply([{ ...priority, value: 1000 }]);
  await cluster.api.post(podPath, foreign("filler", DEVICE, { nodeName: "gpu-01" }));
  const before = await standing(cluster, NAMESPACE, "close");
  const annotations = { "volcano.sh/preemptable": "true" };
  for (const { metadata } of before.pods)
    await cluster.api.patch(`${podPath}/${metadata.name ?? ""}`, "merge-patch", { metadata: { annotations } });
  const conf = { ...configuration(), actions: "enqueue, allocate, preempt, backfill" };
  await reconfigure(conf);
  // Half a node: Volcano queues nobody beyond 1.2 times what the cluster has.
  const urgent = foreign("urgent", DEVICE, { devices: 4 });
  Object.assign(urgent["spec"] as object, { priorityClassName: "urgent" });
  await cluster.api.post(podPath, urgent);
  await soon("asked three times", () => Promise.resolve(relay.calls("preemptable").length >= 3 ? true : undefined));
  t.ok(relay.calls("preemptable").some(({ reply }) => reply === '{"status":1,"victims":[]}'));
  const uids = ({ bound }: typeof before): (string | undefined)[] => bound.map(({ metadata }) => metadata.uid).sort();
  t.same(uids(await standing(cluster, NAMESPACE, "close")), uids(before), "both are where they were");
  lap("urgent pods are refused the gang's nodes");
  for (const verb of ["preemptable", "reclaimable"]) delete pluginOf(conf)?.arguments?.[`extender.${verb}Verb`];
  volcano.configure(conf);
  await soon("without the verb Volcano takes one", () => isBound("urgent"));
  await removeGang(cluster, NAMESPACE, "close");
  for (const name of ["tenant", "filler", "urgent"]) await cluster.api.remove(`${podPath}/${name}`);
  lap("and given one without the verb");
});

t.test("without an answer Volcano goes on by itself; each call that hangs costs its timeout", async (t) => {
  await reconfigure(configuration());
  const took = async (name: string): Promise<number> => {
    const from = performance.now();
    await cluster.api.post(podPath, foreign(name, DEVICE, { devices: 1 }));
    await soon(`${name} is bound`, () => isBound(name));
    return performance.now() - from;
  };
  const figures: string[] = [];
  for (const mode of ["pass", "refuse", "hang"] as const) {
    relay.become(mode);
    figures.push(`${mode} ${Math.round(await took(mode))} ms`);
    if (mode !== "pass") continue;
    relay.clear();
    await soon("sessions", () => Promise.resolve(relay.calls("onSessionClose").length >= 3 ? true : undefined));
    t.comment(`three sessions with one job that stands: ${costs()}`);
  }
  t.comment(`another's pod, from its making to its binding: ${figures.join("; ")}`);
  relay.become("refuse");
  const gang: GangShape = {
    ...{ name: "orphan", prefill: 1, decode: 1, devices: 4 },
    annotations: { "tandem.sh/scheduler": "volcano" },
  };
  await createGangs(cluster, NAMESPACE, [gang]);
  const { bound } = await whole(cluster, NAMESPACE, gang, 90_000);
  t.equal(bound.length, 2, "a gang of one PodGroup is Volcano's own");
  lap("without an extender");
});
