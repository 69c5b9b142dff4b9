/**
 * A model of a cluster around gates: owners keep replicas, a scheduler binds what may go wherever affinity and devices
 * allow, and the controller's actions are carried out. Nothing in it knows of gangs.
 */
import { createGates, type Gates } from "../../src/controller/gates.ts";
import type { Action } from "../../src/controller/action.ts";
import { contractsOf } from "../../src/controller/contracts.ts";
import { loadConfig } from "../../src/config/load.ts";
import { DeviceLedger, isBound, lacking } from "../../src/gang/devices.ts";
import { unfit } from "../../src/gang/fit.ts";
import { keyOf, type HyperNode, type KubeObject, type Node, type Pod, type Workload } from "../../src/kinds/kube.ts";
import { GATE, STATUS } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { hyperNode, node } from "./placement.ts";
import { merged } from "../../src/simulator/instances.ts";

export const DEVICE = "nvidia.com/gpu";
const config = loadConfig({ text: "gang: { bindSeconds: 10, liftAfterSeconds: 0 }" });

export interface CellShape {
  readonly name: string;
  readonly prefill: number;
  readonly decode: number;
  /** Devices of each pod. */
  readonly devices: number;
  readonly topology?: "required" | "preferred";
}

export interface World {
  now: number;
  gates: Gates;
  readonly nodes: readonly Node[];
  readonly hyperNodes: readonly HyperNode[];
  readonly workloads: readonly Workload[];
  pods: Pod[];
  configMaps: KubeObject[];
  /** Pods made so far: each gets a uid of its own. */
  made: number;
}

const rackOf = (rack: string): HyperNode =>
  hyperNode(rack, 1, [{ type: "Node", selector: { labelMatch: { matchLabels: { rack } } } }]);

function workload({ name, devices, topology }: CellShape, role: "prefill" | "decode", replicas: number): Workload {
  const app = `${name}-${role}`;
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: app,
      namespace: "a",
      uid: `uid-${app}`,
      labels: { "tandem.sh/model": name, "tandem.sh/role": role },
      annotations: {
        "tandem.sh/gang": `prefill=1,decode=1`,
        "tandem.sh/topology": topology ?? "preferred",
      },
    },
    spec: {
      replicas,
      selector: { matchLabels: { app } },
      template: {
        metadata: { labels: { app } },
        spec: {
          containers: [
            { name: "e", image: "vllm/vllm-openai:v0.15.0", resources: { limits: { [DEVICE]: String(devices) } } },
          ],
        },
      },
    },
  };
}

/** Racks of nodes with eight devices each. */
export function worldOf(racks: number, perRack: number, cells: readonly CellShape[]): World {
  const names = Array.from({ length: racks }, (_, index) => `rack-${index}`);
  return {
    now: Date.parse("2026-01-01T00:00:00Z"),
    gates: () => [],
    nodes: names.flatMap((rack) =>
      Array.from({ length: perRack }, (_, index) => node(`${rack}-${index}`, { labels: { rack } })),
    ),
    hyperNodes: names.map(rackOf),
    workloads: cells.flatMap((cell) => [
      workload(cell, "prefill", cell.prefill),
      workload(cell, "decode", cell.decode),
    ]),
    pods: [],
    configMaps: [],
    made: 0,
  };
}

/** A controller that remembers nothing. */
export function restart(world: World): void {
  world.gates = createGates(config, () => world.now);
}

const snapshotOf = ({ nodes, hyperNodes, workloads, pods, configMaps }: World): ClusterSnapshot => ({
  ...EMPTY_SNAPSHOT,
  ...{ nodes, hyperNodes, workloads, pods, configMaps },
});

export function plan(world: World): readonly Action[] {
  const snapshot = snapshotOf(world);
  return world.gates(contractsOf(snapshot, { config, acts: () => true }), snapshot);
}

export const podsOf = (world: World, owner: string): readonly Pod[] =>
  world.pods.filter(({ metadata }) => metadata.labels?.["app"] === owner && metadata.deletionTimestamp === undefined);

/** A cell is scaled to zero: its pods are on their way out, and hold their devices until `swept`. */
export function scaleToZero(world: World, model: string): void {
  const deletionTimestamp = new Date(world.now).toISOString();
  world.pods = world.pods.map((pod) =>
    pod.metadata.labels?.["tandem.sh/model"] === model
      ? { ...pod, metadata: { ...pod.metadata, deletionTimestamp } }
      : pod,
  );
}

/** Pods on their way out are gone. */
export function swept(world: World): void {
  world.pods = world.pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

/** Owners make the pods that are missing, behind the gate unless their cell stands, as admission would. */
export function replicate(world: World): void {
  for (const { metadata, spec } of world.workloads) {
    const name = metadata.name ?? "";
    for (let have = podsOf(world, name).length; have < (spec.replicas ?? 0); have++) {
      const id = `${name}-${(world.made += 1)}`;
      const stands = world.configMaps.some(
        (one) => one.metadata.labels?.["tandem.sh/model"] === metadata.labels?.["tandem.sh/model"],
      );
      world.pods.push({
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          name: id,
          namespace: "a",
          uid: id,
          resourceVersion: "1",
          labels: { ...metadata.labels, app: name },
          ...(stands ? { annotations: { [STATUS.follows]: "record" } } : {}),
        },
        spec: {
          ...structuredClone(spec.template.spec),
          ...(stands ? {} : { schedulingGates: [{ name: GATE.gang }] }),
        },
        status: { phase: "Pending" },
      });
    }
  }
}

/** A pod that is not ours takes a whole node, if it is free. */
export function occupy(world: World, name: string): void {
  const id = `foreign-${(world.made += 1)}`;
  if (world.pods.some(({ spec }) => spec.nodeName === name)) return;
  world.pods.push({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: id, namespace: "b", uid: id, resourceVersion: "1", labels: {} },
    spec: { nodeName: name, containers: [{ name: "e", resources: { requests: { [DEVICE]: "8" } } }] },
    status: { phase: "Running" },
  });
}

/** Each pod that may go gets a node that `choose` picks among those with room, or is found unschedulable. */
export function schedule(world: World, choose: (count: number) => number): void {
  const ledger = new DeviceLedger();
  world.pods = world.pods.map((pod, index) => {
    if (isBound(pod) || (pod.spec.schedulingGates ?? []).length > 0) return pod;
    ledger.update(world.nodes, world.pods);
    const fits = world.nodes.filter(
      (one) =>
        unfit(pod, one) === undefined && lacking(ledger, one.metadata.name ?? "", ledger.demand(pod)) === undefined,
    );
    const found = fits[choose(fits.length)]?.metadata.name;
    const next: Pod =
      found === undefined
        ? { ...pod, status: { ...pod.status, conditions: [UNSCHEDULABLE] } }
        : { ...pod, spec: { ...pod.spec, nodeName: found }, status: { phase: "Running" } };
    world.pods = world.pods.with(index, next);
    return next;
  });
}

const UNSCHEDULABLE = { type: "PodScheduled", status: "False", reason: "Unschedulable" };

let versions = 1;

/** Does what the controller asks, as the API server would. */
export function perform(world: World, action: Action): void {
  if (action.do === "apply")
    world.configMaps = [...world.configMaps.filter((one) => keyOf(one) !== keyOf(action.object)), action.object];
  if (action.do === "remove" && action.kind === "Pod")
    world.pods = world.pods.filter(
      ({ metadata: { uid, resourceVersion } }) =>
        uid !== action.uid || resourceVersion !== (action.version ?? resourceVersion),
    );
  if (action.do === "remove" && action.kind === "ConfigMap")
    world.configMaps = world.configMaps.filter(({ metadata }) => metadata.name !== action.ref.name);
  if (action.do === "patch") patch(world, action);
}

function patch(world: World, { ref, body }: Extract<Action, { do: "patch" }>): void {
  world.pods = world.pods.map((pod) => {
    if (pod.metadata.name !== ref.name) return pod;
    const { resourceVersion } = (body as { metadata: { resourceVersion?: string } }).metadata;
    if (resourceVersion !== undefined && resourceVersion !== pod.metadata.resourceVersion) return pod;
    const next = merged(pod, body) as Pod;
    return { ...next, metadata: { ...next.metadata, resourceVersion: String((versions += 1)) } };
  });
}
