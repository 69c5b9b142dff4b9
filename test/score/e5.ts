/** E5: the extender is killed and comes back beside a thousand reservations, five thousand nodes and fifty thousand pods. */
import type { KubeObject, Pod } from "../../src/kinds/kube.ts";
import { LABEL, STATUS } from "../../src/kinds/names.ts";
import { placementOf } from "../../src/gang/waiting.ts";
import { callerOf } from "../bench/scheduling/calls.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { addFleet, admittedGang, createPods, inParallel } from "../e2e/cluster/fleet.ts";
import { installFleet, type FleetExtender } from "../e2e/cluster/fleet-roles.ts";
import { eventually } from "../e2e/cluster/process.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";
import { memoryOf } from "../support/usage.ts";
import { withCluster } from "./cluster.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const sizeOf = (name: string, usual: number): number => Number(process.env[`E5_${name}`] ?? usual);
const NODES = sizeOf("NODES", 5000);
const PODS = sizeOf("PODS", 50_000);
const RESERVATIONS = sizeOf("RESERVATIONS", 1000);
const REQUIRED_MS = 20_000;
const NAMESPACE = "restart";
/** Pods of each role of a gang. */
const REPLICAS = 10;

/** Bound when they are made, on the nodes in turn; every fifth holds two devices. */
const foreign = (nodes: readonly string[]): Pod[] =>
  Array.from({ length: PODS - RESERVATIONS }, (_, index) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `foreign-${index}`, labels: { app: "foreign" } },
    spec: {
      nodeName: nodes[index % nodes.length] ?? "",
      containers: [
        {
          name: "c",
          image: "c:1",
          resources: index % 5 === 0 ? { limits: { "nvidia.com/gpu": "2" } } : { requests: { cpu: "100m" } },
        },
      ],
    },
  }));

/** Let go for a node each, and not bound: no scheduler runs. */
function reserved(nodes: readonly string[]): { workloads: readonly KubeObject[]; pods: Pod[] } {
  const gangs = Array.from({ length: Math.ceil(RESERVATIONS / (2 * REPLICAS)) }, (_, index) =>
    admittedGang(
      { name: `gang-${index}`, prefill: REPLICAS, decode: REPLICAS, devices: 4 },
      { namespace: NAMESPACE, gates: false },
    ),
  );
  const pods = gangs.flatMap((one) => one.pods).slice(0, RESERVATIONS);
  const placed = pods.map((pod, index) => {
    const placement = placementOf({ node: nodes[(index * 5 + 1) % nodes.length], at: Date.now() });
    const annotations = { ...pod.metadata.annotations, [STATUS.placement]: placement };
    return { ...pod, metadata: { ...pod.metadata, annotations } };
  });
  return { workloads: gangs.flatMap((one) => one.workloads), pods: placed };
}

/** What the extender answers about every node, for pods of one to eight devices: its whole ledger, as callers see it. */
async function ledger({ answering }: FleetExtender, nodes: readonly string[]): Promise<readonly Judged[]> {
  const caller = callerOf(answering);
  try {
    const answers: Judged[] = [];
    for (let devices = 1; devices <= 8; devices++) {
      const resources = { limits: { "nvidia.com/gpu": String(devices) } };
      const asking: Pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          name: `asks-${devices}`,
          namespace: NAMESPACE,
          uid: `asks-${devices}`,
          labels: { [LABEL.model]: "asks" },
        },
        spec: { containers: [{ name: "c", resources }] },
      };
      const { text } = await caller.call("filter", JSON.stringify({ Pod: asking, Nodes: null, NodeNames: nodes }));
      answers.push(JSON.parse(text) as Judged);
      if (answers.at(-1)?.Error !== "") throw new Error(`filter: ${answers.at(-1)?.Error ?? ""}`);
    }
    return answers;
  } finally {
    caller.close();
  }
}

interface Judged {
  readonly NodeNames: readonly string[] | null;
  readonly FailedNodes: Readonly<Record<string, string>>;
  readonly FailedAndUnresolvableNodes: Readonly<Record<string, string>>;
  readonly Error: string;
}

const refusals = (answer: Judged | undefined): Readonly<Record<string, string>> => ({
  ...answer?.FailedNodes,
  ...answer?.FailedAndUnresolvableNodes,
});

/** Nodes that are judged otherwise, over all sizes of pods. */
function differences(before: readonly Judged[], after: readonly Judged[], nodes: readonly string[]): number {
  const verdictOf = (answer: Judged | undefined): ((node: string) => string) => {
    const [fit, refused] = [new Set(answer?.NodeNames ?? []), refusals(answer)];
    return (node) => (fit.has(node) ? "fits" : (refused[node] ?? "without a word"));
  };
  return before.reduce((sum, answer, index) => {
    const [one, other] = [verdictOf(answer), verdictOf(after[index])];
    return sum + nodes.filter((node) => one(node) !== other(node)).length;
  }, 0);
}

const refusedOf = (answers: readonly Judged[]): number =>
  answers.reduce((sum, answer) => sum + Object.keys(refusals(answer)).length, 0);

async function fill(cluster: Cluster, progress: Progress): Promise<readonly string[]> {
  const nodes = await addFleet(cluster.api, { nodes: NODES });
  progress(`${nodes.length} nodes`);
  await cluster.must(["create", "namespace", NAMESPACE]);
  const { workloads, pods } = reserved(nodes);
  await inParallel(workloads, (one) => cluster.api.post(`/apis/apps/v1/namespaces/${NAMESPACE}/deployments`, one));
  await createPods(cluster.api, NAMESPACE, pods);
  await createPods(cluster.api, NAMESPACE, foreign(nodes));
  progress(`${PODS} pods, ${pods.length} of them with a reservation`);
  await settled(cluster);
  progress("kwok has taken them all up");
  return nodes;
}

/** kwok reports 50,000 pods as running for minutes: a restart in the middle of that measures kwok. */
const settled = (cluster: Cluster): Promise<true> =>
  eventually(
    "every bound pod runs",
    async () => {
      const waiting = "/api/v1/pods?limit=1&fieldSelector=status.phase%3DPending%2Cspec.nodeName%21%3D";
      const { items } = JSON.parse((await cluster.kubectl(["get", "--raw", waiting])).stdout) as { items: unknown[] };
      return items.length === 0 ? true : undefined;
    },
    900_000,
  );

async function scene(cluster: Cluster, progress: Progress): Promise<ScoreResult> {
  const nodes = await fill(cluster, progress);
  const roles = await installFleet(cluster);
  // Its certificate is all that is wanted of it: it would give back what no scheduler binds.
  const controller = await roles.startController(["gang.bindSeconds=3600"]);
  const first = await roles.startExtender();
  await controller.running.stop();
  const before = await ledger(first, nodes);
  await first.running.kill();
  progress("killed");
  const begun = performance.now();
  const second = await roles.startExtender();
  const readyMs = Math.round(performance.now() - begun);
  try {
    const after = await ledger(second, nodes);
    const { rssMb, peakMb } = memoryOf(second.running.pid);
    const [changed, refused] = [differences(before, after, nodes), refusedOf(before)];
    const figures = { readyMs, changed, refused, memoryMb: rssMb, memoryPeakMb: peakMb };
    return { figures, met: changed === 0 && refused > 0 && readyMs <= REQUIRED_MS };
  } finally {
    await second.running.stop();
  }
}

export const row: ScoreRow = {
  id: "E5",
  fault: `the extender is killed (SIGKILL) and started again beside ${NODES} nodes, ${PODS} pods and ${RESERVATIONS} reservations on a real API server`,
  required: `ready within ${REQUIRED_MS / 1000} s, and not before all is known: every node judged as before, for pods of 1 to 8 devices`,
  run: (progress) => {
    buildProgram();
    return withCluster((cluster) => scene(cluster, progress), { fleet: true });
  },
};
