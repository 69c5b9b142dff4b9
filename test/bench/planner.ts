/**
 * What planning one gang costs: `node test/bench/planner.ts [--nodes N] [--json]`.
 *
 * A cluster in racks of 16 with 20 bound pods a node, every third of its nodes half used. One gang of 64 pods (32 prefill,
 * 32 decode, 4 devices each) is planned, each round from the free devices as they are after one more binding. `ground`
 * is what is worked out once for a change of nodes: topology tree, free devices, counts.
 */
import { performance } from "node:perf_hooks";
import { placeCell } from "../../src/gang/cell-plan.ts";
import { DeviceLedger, Trial } from "../../src/gang/devices.ts";
import { Patterns, type Task } from "../../src/gang/pack.ts";
import { Tallies } from "../../src/gang/tally.ts";
import { keyOf, type Pod } from "../../src/kinds/kube.ts";
import { topologyTree } from "../../src/topology/tree.ts";
import { fabric, pod } from "../support/placement.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `What planning one gang of 64 pods costs at 1000 and 5000 nodes.

  --nodes N  only this many nodes
  --json     machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:planner -- --nodes 1000 --json`;

const { values } = parsed({
  options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" }, nodes: { type: "string" } },
});

const RACK = 16;
const PODS_PER_NODE = 20;
const GANG = 64;
const RESOURCE = "nvidia.com/gpu";
const ROUNDS = 60;
const WARMUP = 10;

const selector = { labelSelector: { matchLabels: { "tandem.sh/model": "m" } } };
const HOST = "kubernetes.io/hostname";
/** What the pods of the gang demand of one another. */
const DEMANDS: Readonly<Record<string, Partial<Pod["spec"]>>> = {
  none: {},
  "anti-affinity": {
    affinity: {
      podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ ...selector, topologyKey: HOST }] },
    },
  },
  spread: {
    topologySpreadConstraints: [{ ...selector, maxSkew: 2, topologyKey: HOST, whenUnsatisfiable: "DoNotSchedule" }],
  },
  "host ports": { hostNetwork: true },
};

interface Row {
  readonly demands: string;
  readonly nodes: number;
  readonly pods: number;
  readonly placed: number;
  readonly rounds: number;
  readonly groundMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Median of the processor time, which other load on the machine does not stretch. */
  readonly cpuMs: number;
}

const round = (value: number): number => Math.round(value * 1000) / 1000;

function measure(count: number, demands: string): Row {
  const cluster = fabric(Math.ceil(count / RACK), RACK);
  const nodes = cluster.nodes.slice(0, count);
  let pods: Pod[] = nodes.flatMap(({ metadata: { name = "" } }, node) =>
    Array.from({ length: PODS_PER_NODE }, (_, index) =>
      bound(`${name}-${index}`, name, index === 0 && node % 3 === 0 ? "4" : "0"),
    ),
  );
  const started = performance.now();
  const ledger = new DeviceLedger();
  ledger.update(nodes, pods);
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes: cluster.hyperNodes });
  const [patterns, tallies] = [new Patterns(nodes), new Tallies(tree, ledger)];
  const times: number[] = [];
  const spent: number[] = [];
  let [ground, placed] = [0, 0];
  for (let index = 0; index < ROUNDS + WARMUP; index++) {
    const tasks = Array.from({ length: GANG }, (_, one) => taskOf(one, demands, { ledger, patterns }));
    pods = [...pods, bound(`bound-${index}`, nodes[index * 7]?.metadata.name ?? "", "1")];
    const start = performance.now();
    const before = process.cpuUsage();
    tallies.refresh(ledger.update(nodes, pods));
    const outcome = placeCell(
      {
        name: "m",
        tasks,
        minimum: (["prefill", "decode"] as const).map((role) => ({
          role,
          pods: 32,
          instances: 32,
          spec: undefined as never,
        })),
        bound: [],
        boundRoles: [],
        policy: { mode: "preferred", tier: undefined, asked: undefined },
      },
      { tree, room: new Trial(ledger), resource: RESOURCE, tallies },
    );
    const end = performance.now();
    const { user, system } = process.cpuUsage(before);
    if (index === 0) ground = end - started;
    if (index >= WARMUP) {
      times.push(end - start);
      spent.push((user + system) / 1000);
    }
    placed = outcome.nodes.size;
  }
  const at = (list: readonly number[], share: number): number => {
    const sorted = list.toSorted((a, b) => a - b);
    return round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  };
  const rest = {
    rounds: ROUNDS,
    groundMs: round(ground),
    p50Ms: at(times, 0.5),
    p99Ms: at(times, 0.99),
    cpuMs: at(spent, 0.5),
  };
  return { demands, nodes: count, pods: pods.length, placed, ...rest };
}

const bound = (name: string, nodeName: string, devices: string): Pod =>
  pod(name, {
    model: null,
    nodeName,
    spec: { containers: [{ name: "c", resources: { requests: { cpu: "100m", [RESOURCE]: devices } } }] },
  });

function taskOf(
  index: number,
  demands: string,
  { ledger, patterns }: { ledger: DeviceLedger; patterns: Patterns },
): Task {
  const role = index % 2 === 0 ? "prefill" : "decode";
  const made = pod(`m-${index}`, { role, gpus: 4, spec: DEMANDS[demands] ?? {} });
  if (demands === "host ports")
    made.spec.containers = made.spec.containers.map((one) => ({ ...one, ports: [{ containerPort: 8000 }] }));
  return { pod: made, key: keyOf(made), role, pattern: patterns.of(made, ledger.demand(made)) };
}

function main(): void {
  const sizes = values.nodes === undefined ? [1000, 5000] : [Number(values.nodes)];
  if (!sizes.every((size) => Number.isInteger(size) && size > 0))
    throw new Error(`--nodes ${values.nodes ?? ""}: give a number`);
  const rows = sizes.flatMap((nodes) => Object.keys(DEMANDS).map((demands) => measure(nodes, demands)));
  if (values.json === true) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

if (values.help === true) console.log(HELP);
else main();
