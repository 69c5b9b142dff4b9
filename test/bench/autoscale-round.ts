/** What one decision round of the autoscaler costs with many groups. `npm run bench:autoscale-round -- --help`. */
import { createMemory, decide, type GroupMemory } from "../../src/autoscaler/decide.ts";
import { Observer, type Readings } from "../../src/autoscaler/observe/observe.ts";
import type { RouterSeen } from "../../src/autoscaler/group.ts";
import { integerOf } from "../../src/cli/numbers.ts";
import { SCALING_READER } from "../../src/cli/roles/scaling-reader.ts";
import type { EngineStats } from "../../src/kinds/endpoint.ts";
import type { Pod, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { UNCONFIGURED } from "../../src/profiles/devices.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `One decision round of the autoscaler: pods, engines' pages and routers' words -> decisions, with the real code.

  --groups N   of a prefill and a decode Deployment each (200)
  --pods N     of each Deployment (10)
  --rounds N   five seconds apart, of which the last half are measured (720: an hour)
  --json       machine-readable rows (docs/reference/benchmarks.md)

One pod in a hundred has changed in each round.

Example:
  npm run --silent bench:autoscale-round -- --rounds 120`;

const text = { type: "string" } as const;
const { values } = parsed({
  options: {
    groups: { ...text, default: "200" },
    pods: { ...text, default: "10" },
    rounds: { ...text, default: "720" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const groups = integerOf("--groups", values.groups, 1, 10_000);
const podsEach = integerOf("--pods", values.pods, 1, 1000);
const rounds = integerOf("--rounds", values.rounds, 2, 100_000);

const ROUND_MS = 5000;
const BEGUN = Date.parse("2026-03-01T12:00:00Z");
const ROLES = ["prefill", "decode"] as const;
/** Requests a second of a group, each of 1000 uncached tokens and 100 answered ones. */
const RATE = 40;

const labels = (group: number, role: string): Record<string, string> => ({
  "tandem.sh/model": `model-${group}`,
  "tandem.sh/role": role,
});
const container = {
  name: "engine",
  image: "vllm/vllm-openai:v0.11.0",
  args: ["--model", "served/m", "--max-num-seqs", "256"],
  resources: { limits: { "nvidia.com/gpu": "1" } },
};

const workloadOf = (group: number, role: string): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    ...{
      name: `g${group}-${role}`,
      namespace: "n",
      uid: `w-${group}-${role}`,
      labels: labels(group, role),
      generation: 1,
    },
    annotations: { "autoscaling.tandem.sh/mode": "auto", "autoscaling.tandem.sh/max-replicas": "20" },
  },
  spec: {
    replicas: podsEach,
    template: { metadata: { labels: labels(group, role) }, spec: { containers: [container] } },
  },
  status: { replicas: podsEach, updatedReplicas: podsEach, readyReplicas: podsEach, observedGeneration: 1 },
});

const podOf = (group: number, role: string, index: number): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...{ name: `g${group}-${role}-abc-${index}`, namespace: "n", uid: `p-${group}-${role}-${index}` },
    ...{ labels: labels(group, role), annotations: {}, creationTimestamp: new Date(BEGUN - 900_000).toISOString() },
    ownerReferences: [
      { apiVersion: "apps/v1", kind: "ReplicaSet", name: `g${group}-${role}-abc`, uid: "r", controller: true },
    ],
  },
  spec: { nodeName: "a", containers: [container] },
  status: {
    phase: "Running",
    podIP: `10.${group % 250}.${role === "prefill" ? 0 : 1}.${index % 250}`,
    conditions: [{ type: "Ready", status: "True", lastTransitionTime: new Date(BEGUN - 600_000).toISOString() }],
  },
});

const names = Array.from({ length: groups }, (_, group) => group);
const pods = names.flatMap((group) =>
  ROLES.flatMap((role) => Array.from({ length: podsEach }, (_, index) => podOf(group, role, index))),
);
const workloads = names.flatMap((group) => ROLES.map((role) => workloadOf(group, role)));

/** As at a change: another snapshot, most of whose objects are the same. */
function snapshotAt(round: number): ClusterSnapshot {
  for (let changed = round % 100; changed < pods.length; changed += 100) {
    const pod = pods[changed] as Pod;
    pods[changed] = { ...pod, metadata: { ...pod.metadata, resourceVersion: String(round) } };
  }
  return { ...EMPTY_SNAPSHOT, workloads, pods: [...pods] };
}

function readingsAt(round: number): Readings {
  const at = (round + 1) * ROUND_MS;
  const requests = (RATE * at) / 1000;
  const engine: EngineStats = {
    ...{ at, running: round % 2, waiting: 0, kvUsage: 0.3, blockSize: 16, blocks: 16_000, kvTokens: 256_000 },
    ...{ promptTokens: (1000 * requests) / podsEach, generatedTokens: (100 * requests) / podsEach },
  };
  const router: RouterSeen = {
    ...{
      id: "router",
      at,
      requests,
      answers: requests,
      promptTokens: 1000 * requests,
      generatedTokens: 100 * requests,
    },
    ...{ backlogTokens: 0, backlogRequests: 0, heldRequests: 0 },
    ttft: Array.from({ length: 52 }, (_, bucket) => (bucket < 25 ? requests / 25 : 0)),
    tpot: Array.from({ length: 52 }, (_, bucket) => (bucket < 15 ? requests / 15 : 0)),
  };
  return {
    snapshot: snapshotAt(round),
    scraped: () => ({ stats: engine, models: ["served/m"] }),
    routers: new Map(names.map((group) => [`n/model-${group}`, [router]])),
    now: { monotonic: at, wall: BEGUN + at },
  };
}

const observer = new Observer({ devices: UNCONFIGURED, reader: SCALING_READER, optIn: "" });
const memories = new Map<string, GroupMemory>();
const costs: number[] = [];
let decided = 0;
for (let round = 0; round < rounds; round++) {
  const readings = readingsAt(round);
  const begun = process.cpuUsage();
  for (const { key, observation } of observer.observe(readings)) {
    const memory = memories.get(key) ?? createMemory();
    memories.set(key, memory);
    decided += decide(memory, observation).workloads.length;
  }
  const { user, system } = process.cpuUsage(begun);
  if (round >= rounds / 2) costs.push((user + system) / 1000);
}
costs.sort((a, b) => a - b);
const at = (share: number): number => Math.round(10 * (costs[Math.floor(share * (costs.length - 1))] ?? 0)) / 10;
const rows = [
  { measure: "workloads decided on in a round", value: decided / rounds, unit: "workloads", target: "" },
  { measure: "a round, median of processor time", value: at(0.5), unit: "ms", target: "< 200" },
  { measure: "a round, p99 of processor time", value: at(0.99), unit: "ms", target: "" },
  { measure: "resident memory", value: Math.round(process.memoryUsage.rss() / 2 ** 20), unit: "MiB", target: "< 300" },
];
if (values.json) console.log(JSON.stringify({ rows }));
else console.table(rows);
