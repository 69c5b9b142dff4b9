/** `tandem place`: a node for each pod of the given workloads, or the reason why not. Nothing is sent anywhere. */
import { placePods, type PlacementPlan } from "../gang/place.ts";
import type { KubeObject, Node, Pod } from "../kinds/kube.ts";
import { isWarned } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { LocalCluster, type Admitted, type LocalConfig } from "../simulator/cluster.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { groupByCell } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import type { Register } from "./index.ts";
import { checkShape } from "./shapes.ts";
import { collect, readConfig, readObjects, UsageError } from "./input.ts";
import { unplaceable } from "./place/given.ts";
import { complaints, placeJson, placeTable } from "./place/report.ts";

interface PlaceOptions {
  readonly filename?: readonly string[];
  readonly output: string;
  readonly config?: string;
  readonly set?: readonly string[];
}

/** What the command found out. */
export interface PlaceResult {
  readonly plan: PlacementPlan;
  readonly tree: TopologyTree;
  /** Workloads and pods that admission refused. */
  readonly refused: readonly Admitted[];
  /** Workloads of which admission warns: misspelt keys are placed by what they do not say. */
  readonly warned: readonly Admitted[];
  /** Pods that were bound already. */
  readonly bound: readonly Pod[];
  readonly nodes: readonly Node[];
}

const EXAMPLE = `
Example:
  tandem place -f manifests/examples/cluster-16-nodes.yaml -f manifests/examples/qwen3-32b-nvidia.yaml

Exit codes: 0 every pod has a node, 1 some pod has none or was refused by admission, 2 bad usage or unreadable input.`;

export { placeJson } from "./place/report.ts";

export const registerPlace: Register = (program, exit) => {
  program
    .command("place")
    .description("Placement offline: workloads, Nodes, HyperNodes and existing Pods in, a node for each pod out.")
    .option("-f, --filename <file>", "file or folder of objects, - for stdin; repeatable", collect)
    .option("-o, --output <format>", "table or json", "table")
    .option("-c, --config <file>", "configuration file")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action((options: PlaceOptions) => exit(place(options)));
};

function place(options: PlaceOptions): number {
  const { filename = [], output } = options;
  if (filename.length === 0) throw new UsageError("give at least one file: -f FILE");
  if (output !== "table" && output !== "json") throw new UsageError(`-o ${output}: accepted are table, json`);
  const objects = readObjects(filename);
  for (const object of objects) checkShape(object);
  for (const line of unplaceable(objects)) process.stderr.write(`warning: ${line}\n`);
  const result = placeObjects(objects, readConfig(options));
  process.stdout.write(output === "json" ? `${JSON.stringify(placeJson(result), null, 2)}\n` : placeTable(result));
  process.stderr.write(complaints(result));
  return result.refused.length === 0 && result.plan.pods.every(({ node }) => node !== null) ? 0 : 1;
}

/** Admits the workloads, makes their pods and plans them. */
export function placeObjects(objects: readonly KubeObject[], config: LocalConfig): PlaceResult {
  const cluster = new LocalCluster(objects, config);
  const decided = cluster.admitWorkloads();
  const admitted = [...decided, ...cluster.createPods()];
  const { nodes, pods, workloads, namespaces } = cluster.snapshot();
  const tree = cluster.tree();
  const specs = workloads.flatMap((workload) => {
    const namespace = namespaces.find(({ metadata }) => metadata.name === workload.metadata.namespace);
    const defaults = { devices: configuredDevices(config.admission) };
    return workloadSpec(workload, { ...defaults, ...(namespace === undefined ? {} : { namespace }) }).spec ?? [];
  });
  return {
    plan: placePods({ nodes, tree, pods, cells: [...groupByCell(specs).values()] }),
    tree,
    nodes,
    refused: admitted.filter(({ stored }) => !stored),
    warned: decided.filter(({ verdicts }) => verdicts.some(isWarned)),
    bound: pods.filter(({ spec }) => (spec.nodeName ?? "") !== ""),
  };
}
