/**
 * What an extender call costs: `node test/bench/extender.ts [--nodes N] [--json]`.
 *
 * A cluster in racks of 16 with 20 bound pods a node and 16 cells being rolled out. Each round changes the snapshot by
 * one binding, as kube-scheduler does, then asks filter and prioritize for all nodes, JSON in and out included.
 */
import { performance } from "node:perf_hooks";
import { filterNodes, prioritizeNodes } from "../../src/extender/decide.ts";
import { ExtenderMemo } from "../../src/extender/view.ts";
import { decodeArgs, encodeFilterResult, encodePriorities } from "../../src/extender/kube/wire.ts";
import { deployment, fabric, pod, snapshotOf } from "../support/placement.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import { BUILT_IN } from "../../src/profiles/devices.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `What an extender call costs at 1000 and 5000 nodes.

  --nodes N  only this many nodes
  --json     machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:extender -- --nodes 1000 --json`;

const { values } = parsed({
  options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" }, nodes: { type: "string" } },
});

const RACK = 16;
const PODS_PER_NODE = 20;
const CELLS = 16;
const ROUNDS = 120;
const WARMUP = 20;

interface Row {
  readonly verb: string;
  readonly nodes: number;
  readonly pods: number;
  readonly topology: string;
  readonly rounds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p50UsPerNode: number;
}

function measure(nodes: number, topology: string): Row[] {
  const racks = Math.ceil(nodes / RACK);
  const cluster = fabric(racks, RACK);
  const names = cluster.nodes.slice(0, nodes).map(({ metadata }) => metadata.name ?? "");
  const annotations = { "tandem.sh/topology": topology };
  const workloads = Array.from({ length: CELLS }, (_, cell) => [
    deployment(`p${cell}`, { model: `m${cell}`, replicas: 8, annotations }),
    deployment(`d${cell}`, { model: `m${cell}`, replicas: 8, role: "decode", annotations }),
  ]).flat();
  let pods: Pod[] = names.flatMap((name) =>
    Array.from({ length: PODS_PER_NODE }, (_, index) =>
      pod(`${name}-${index}`, {
        model: null,
        gpus: 0,
        nodeName: name,
        labels: { app: "other" },
        spec: { containers: [{ name: "c", resources: { requests: { cpu: "100m" } } }] },
      }),
    ),
  );
  const memo = new ExtenderMemo({
    topology: { source: "hypernodes", preset: "", levels: [] },
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
  });
  const base = snapshotOf({ nodes: cluster.nodes.slice(0, nodes), hyperNodes: cluster.hyperNodes, workloads });
  memo.view({ ...base, pods });
  const times: Record<"filter" | "prioritize", number[]> = { filter: [], prioritize: [] };
  for (let round = 0; round < ROUNDS + WARMUP; round++) {
    const asked = pod(`p${round}`, { model: `m${round % CELLS}`, role: round % 32 < CELLS ? "prefill" : "decode" });
    const body = JSON.stringify({ Pod: asked, Nodes: null, NodeNames: names });
    const snapshot = { ...base, pods };
    const start = performance.now();
    const args = decodeArgs(JSON.parse(body));
    const filtered = filterNodes(args.pod, args.nodeNames, memo.view(snapshot));
    encodeFilterResult(filtered);
    const middle = performance.now();
    const again = decodeArgs(JSON.parse(body));
    const scores = prioritizeNodes(again.pod, again.nodeNames, memo.view(snapshot));
    encodePriorities(scores);
    const end = performance.now();
    const fit = new Set(filtered.fit);
    const best = scores.filter(({ host }) => fit.has(host)).reduce((a, b) => (b.score > a.score ? b : a));
    pods = [...pods, { ...asked, spec: { ...asked.spec, nodeName: best.host } }];
    if (round < WARMUP) continue;
    times.filter.push(middle - start);
    times.prioritize.push(end - middle);
  }
  return (["filter", "prioritize"] as const).map((verb) => {
    const sorted = times[verb].toSorted((a, b) => a - b);
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
    const round = (value: number): number => Math.round(value * 1000) / 1000;
    return {
      verb,
      nodes,
      pods: pods.length,
      topology,
      rounds: ROUNDS,
      p50Ms: round(at(0.5)),
      p99Ms: round(at(0.99)),
      p50UsPerNode: round((at(0.5) * 1000) / nodes),
    };
  });
}

function main(): void {
  const sizes = values.nodes === undefined ? [1000, 5000] : [Number(values.nodes)];
  if (!sizes.every((size) => Number.isInteger(size) && size > 0))
    throw new Error(`--nodes ${values.nodes ?? ""}: give a number`);
  const rows = sizes.flatMap((nodes) => ["preferred", "required"].flatMap((topology) => measure(nodes, topology)));
  if (values.json === true) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

if (values.help === true) console.log(HELP);
else main();
