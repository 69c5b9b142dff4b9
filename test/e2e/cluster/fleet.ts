/**
 * Thousands of nodes and pods, made through the API at a bounded width: nodes that are Ready at once, in leaves below
 * spines, and pods as the templates of labelled Deployments give them.
 */
import { randomUUID } from "node:crypto";
import { admitObject, admitPod } from "../../../src/admission/admit.ts";
import { admissionSettings } from "../../../src/admission/stage.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Pod, Workload } from "../../../src/kinds/kube.ts";
import { VOLCANO } from "../../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { podFromTemplate } from "../../../src/workload/template.ts";
import type { Api } from "./api.ts";
import { gangDeployments, type GangShape } from "./gangs.ts";
import { fakeNodes, LEAF_LABEL } from "./nodes.ts";

/** Requests on their way at once: two cores answer no more, and each has a connection of its own. */
const WIDTH = 24;

/** Does the work for each item, some at a time; the first failure ends it. */
export async function inParallel<T>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      await work(items[index] as T, index);
    }
  };
  await Promise.all(Array.from({ length: WIDTH }, worker));
}

export interface FleetShape {
  readonly nodes: number;
  /** Nodes of a leaf; default 16. */
  readonly leafSize?: number;
  /** Leaves of a spine; default 16. */
  readonly spineSize?: number;
}

const CONDITIONS = [{ type: "Ready", status: "True", reason: "KubeletReady" }];

/** As kwok would make them after a while. */
const readyNode = (node: object): KubeObject => {
  const { status, ...rest } = node as KubeObject & { status: object };
  return { ...rest, status: { ...status, phase: "Running", conditions: CONDITIONS } };
};

/** HyperNodes: leaves by label (tier 1), spines over them (tier 2). */
export function spineTree({ nodes, leafSize = 16, spineSize = 16 }: FleetShape): KubeObject[] {
  const leaves = Array.from({ length: Math.ceil(nodes / leafSize) }, (_, index) => `node-leaf-${index}`);
  const spines = Map.groupBy(leaves, (_, index) => `spine-${Math.floor(index / spineSize)}`);
  const hyperNode = (name: string, tier: number, members: readonly object[]): KubeObject => ({
    apiVersion: VOLCANO.hyperNodeApiVersion,
    kind: "HyperNode",
    metadata: { name },
    spec: { tier, members },
  });
  const byLabel = (leaf: string): object => ({
    type: "Node",
    selector: { labelMatch: { matchLabels: { [LEAF_LABEL]: leaf } } },
  });
  const byName = (name: string): object => ({ type: "HyperNode", selector: { exactMatch: { name } } });
  return [
    ...leaves.map((leaf) => hyperNode(leaf, 1, [byLabel(leaf)])),
    ...[...spines].map(([spine, members]) => hyperNode(spine, 2, members.map(byName))),
  ];
}

/** Nodes of eight devices each and the tree over them, on a cluster started with `fleet`. */
export async function addFleet(api: Api, shape: FleetShape): Promise<readonly string[]> {
  const nodes = fakeNodes({ count: shape.nodes, leafSize: shape.leafSize ?? 16 }).map(readyNode);
  await inParallel(nodes, (node) => api.post("/api/v1/nodes", node));
  await inParallel(spineTree(shape), (one) => api.post(`/apis/${VOLCANO.hyperNodeApiVersion}/hypernodes`, one));
  return nodes.map(({ metadata }) => metadata.name ?? "");
}

export interface AdmittedGang {
  readonly workloads: readonly Workload[];
  readonly pods: readonly Pod[];
}

/**
 * The workloads of a gang and their pods as admission stores them, admitted here by the same code: the API server need
 * not call a webhook thousands of times. `gates`: the pods wait behind the gate of gangs.
 */
export function admittedGang(
  gang: GangShape,
  { namespace, gates }: { readonly namespace: string; readonly gates: boolean },
): AdmittedGang {
  const config = loadConfig({});
  const settings = { ...admissionSettings(config), gates: gates ? "auto" : "off" } as const;
  const deployments = gangDeployments(gang).map((one) => ({ ...one, metadata: { ...one.metadata, namespace } }));
  const snapshot = { ...EMPTY_SNAPSHOT, workloads: deployments as Workload[] };
  const workloads = deployments.map((one) => admitObject(one, { snapshot, settings }).object as Workload);
  const pods = workloads.flatMap((workload) => {
    const { name = "" } = workload.metadata;
    const controller = {
      apiVersion: "apps/v1",
      kind: "ReplicaSet",
      name: `${name}-0`,
      uid: randomUUID(),
      controller: true,
    };
    return Array.from({ length: workload.spec.replicas ?? 1 }, (_, index) => {
      const pod = podFromTemplate(workload, `${name}-${index}`);
      pod.metadata.ownerReferences = [controller];
      return admitPod(pod, { snapshot: { ...snapshot, workloads }, settings }).object as Pod;
    });
  });
  return { workloads, pods };
}

let batches = 0;

/**
 * The same pods under names that were not used before: kwok deletes by name, and late; it would take a pod that came in
 * the place of one that went.
 */
export function renamed(pods: readonly Pod[]): Pod[] {
  const batch = (batches += 1);
  return pods.map((pod) => ({ ...pod, metadata: { ...pod.metadata, name: `${pod.metadata.name ?? ""}-b${batch}` } }));
}

export const createPods = (api: Api, namespace: string, pods: readonly Pod[]): Promise<void> =>
  inParallel(pods, (pod) => api.post(`/api/v1/namespaces/${namespace}/pods`, pod));

/** Removes every pod of a namespace at once, bound or not. */
export async function removePods(api: Api, namespace: string): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  for (let left = await api.list(path); left.length > 0; left = await api.list(path))
    await inParallel(left, ({ metadata }) =>
      api.remove(`${path}/${metadata.name ?? ""}?gracePeriodSeconds=0`).catch(() => undefined),
    );
}
