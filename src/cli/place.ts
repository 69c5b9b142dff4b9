/** `tandem place`: a node for each pod of the given workloads, or the reason why not. Nothing is sent anywhere. */
import { cellName } from "../gang/members.ts";
import { placePods, type Placement, type PlacementPlan } from "../gang/place.ts";
import { isObject, keyOf, type KubeObject } from "../kinds/kube.ts";
import { isDenied, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { LocalCluster, topologyPicture, type Admitted, type LocalConfig } from "../simulator/cluster.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { groupByCell } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import { isTemplate } from "../workload/template.ts";
import type { Register } from "./index.ts";
import { collect, readConfig, readObjects, UsageError } from "./input.ts";
import { columns } from "./table.ts";

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
  /** Pods that were bound already. */
  readonly bound: readonly KubeObject[];
}

const EXAMPLE = `
Example:
  tandem place -f manifests/examples/cluster-16-nodes.yaml -f manifests/examples/qwen3-32b-nvidia.yaml

Exit codes: 0 every pod has a node, 1 some pod has none or was refused by admission, 2 bad usage or unreadable input.`;

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
  const result = placeObjects(objects, readConfig(options));
  process.stdout.write(output === "json" ? `${JSON.stringify(placeJson(result), null, 2)}\n` : placeTable(result));
  process.stderr.write(complaints(result));
  return result.refused.length === 0 && result.plan.pods.every(({ node }) => node !== null) ? 0 : 1;
}

interface Shape {
  readonly needs: string;
  readonly holds: (object: KubeObject) => boolean;
}

/** Pods of one workload; each is made and placed. */
const MOST_REPLICAS = 10_000;

const WORKLOAD: Shape = {
  needs: `spec.template, or spec.replicas from 0 to ${MOST_REPLICAS},`,
  holds: ({ spec }) => isObject(spec) && isTemplate(spec["template"]) && isCount(spec["replicas"] ?? 1),
};

const isCount = (value: unknown): boolean =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MOST_REPLICAS;

const listOrNone = (part: unknown, field: string): boolean =>
  !isObject(part) || part[field] === undefined || Array.isArray(part[field]);

const SHAPES: Readonly<Record<string, Shape>> = {
  HyperNode: {
    needs: "spec.tier and spec.members",
    holds: ({ spec }) => isObject(spec) && typeof spec["tier"] === "number" && Array.isArray(spec["members"]),
  },
  Node: {
    needs: "a list as status.conditions or spec.taints",
    holds: ({ spec, status }) => listOrNone(status, "conditions") && listOrNone(spec, "taints"),
  },
  Pod: { needs: "spec.containers with names", holds: isTemplate },
  Deployment: WORKLOAD,
  StatefulSet: WORKLOAD,
};

function checkShape(object: KubeObject): void {
  const shape = Object.hasOwn(SHAPES, object.kind) ? SHAPES[object.kind] : undefined;
  if (shape !== undefined && !shape.holds(object))
    throw new UsageError(`${object.kind} ${keyOf(object)}: ${shape.needs} is missing or wrong`);
}

/** Admits the workloads, makes their pods and plans them. */
export function placeObjects(objects: readonly KubeObject[], config: LocalConfig): PlaceResult {
  const cluster = new LocalCluster(objects, config);
  const admitted = [...cluster.admitWorkloads(), ...cluster.createPods()];
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
    refused: admitted.filter(({ stored }) => !stored),
    bound: pods.filter(({ spec }) => (spec.nodeName ?? "") !== ""),
  };
}

const reasonOf = ({ reason, message }: Verdict): string => `${reason}: ${message}`;

interface PlaceJson {
  readonly pods: readonly Readonly<Record<"name" | "namespace" | "node" | "domain" | "tier" | "reason", unknown>>[];
  readonly gangs: readonly Readonly<Record<"group" | "namespace" | "placed" | "reason", unknown>>[];
}

/** The stable form of `-o json`. `domain` is the smallest that holds the pod's whole cell. */
export const placeJson = ({ plan }: PlaceResult): PlaceJson => ({
  pods: plan.pods.map(({ pod, node, domain, tier, verdict }) => ({
    name: pod.metadata.name ?? "",
    namespace: pod.metadata.namespace ?? "default",
    ...{ node, domain, tier },
    reason: reasonOf(verdict),
  })),
  gangs: plan.gangs.map((gang) => ({
    group: cellName(gang),
    namespace: gang.key.split("/")[0] ?? "",
    placed: gang.placed,
    reason: reasonOf(gang.verdict),
  })),
});

function placeTable({ plan, tree, bound }: PlaceResult): string {
  const rows = plan.pods.map((placement) => [
    keyOf(placement.pod),
    placement.node ?? "-",
    placement.domain ?? "-",
    placement.tier === null ? "-" : String(placement.tier),
    reasonOf(placement.verdict),
  ]);
  const placed = plan.pods.flatMap(withNode);
  return [
    columns([["POD", "NODE", "DOMAIN", "TIER", "REASON"], ...rows]),
    ...plan.gangs.map(
      (gang) => `gang ${cellName(gang)}: ${gang.placed ? "placed" : "not placed"}. ${gang.verdict.message}`,
    ),
    "",
    topologyPicture(tree, [...(bound as Placement["pod"][]), ...placed]),
    "",
  ].join("\n");
}

const withNode = ({ pod, node }: Placement): Placement["pod"][] =>
  node === null ? [] : [{ ...pod, spec: { ...pod.spec, nodeName: node } }];

function complaints({ tree, refused }: PlaceResult): string {
  const lines = [
    ...tree.verdicts.map((verdict) => `warning: ${reasonOf(verdict)}`),
    ...refused.flatMap(({ before, verdicts }) =>
      verdicts.filter(isDenied).map((verdict) => `${before.kind} ${keyOf(before)}: ${reasonOf(verdict)}`),
    ),
  ];
  return lines.map((line) => `${line}\n`).join("");
}
