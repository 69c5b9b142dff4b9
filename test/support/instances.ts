/** A model of what Kubernetes does around instances over several pods: owners keep replicas, actions are carried out. */
import { controllerPlan } from "../../src/controller/plan.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Action } from "../../src/controller/action.ts";
import { keyOf, type KubeObject, type Pod, type Workload } from "../../src/kinds/kube.ts";
import { GATE, STATUS } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { merged } from "../../src/simulator/instances.ts";

const config = loadConfig();
export const NAMESPACE = "a";

export interface Shape {
  readonly kind?: "Deployment" | "StatefulSet";
  readonly name?: string;
  readonly replicas?: number;
  readonly nodes?: number;
  readonly role?: string;
  readonly annotations?: Record<string, string>;
  readonly hostNetwork?: boolean;
  readonly args?: string[];
}

const ARGS = ["--data-parallel-size", "4", "--data-parallel-size-local", "2"];

export function workloadOf(shape: Shape = {}): Workload {
  const name = shape.name ?? "w";
  return {
    apiVersion: "apps/v1",
    kind: shape.kind ?? "Deployment",
    metadata: {
      name,
      namespace: NAMESPACE,
      uid: `uid-${name}`,
      labels: { "tandem.sh/model": "m", "tandem.sh/role": shape.role ?? "decode" },
      annotations: { "tandem.sh/nodes-per-instance": String(shape.nodes ?? 2), ...shape.annotations },
    },
    spec: {
      replicas: shape.replicas ?? 4,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          containers: [{ name: "e", image: "vllm/vllm-openai:v0.15.0", args: shape.args ?? ARGS }],
          ...(shape.hostNetwork === true ? { hostNetwork: true } : {}),
        },
      },
    },
  };
}

/** A waiting pod as admission leaves it. */
export function podOf(shape: Shape, index: number, hash = "h1"): Pod {
  const workload = workloadOf(shape);
  const { name = "" } = workload.metadata;
  const ordinal = workload.kind === "StatefulSet";
  const owner = ordinal ? { kind: "StatefulSet", name } : { kind: "ReplicaSet", name: `${name}-${hash}` };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: ordinal ? `${name}-${index}` : `${name}-${hash}-${index}`,
      namespace: NAMESPACE,
      uid: `${name}-${hash}-${index}-uid`,
      resourceVersion: "1",
      creationTimestamp: `2026-01-01T00:00:${String(index % 60).padStart(2, "0")}Z`,
      labels: {
        ...workload.metadata.labels,
        app: name,
        [ordinal ? "controller-revision-hash" : "pod-template-hash"]: hash,
      },
      annotations: {
        [STATUS.intent]: JSON.stringify(workload.metadata.annotations),
        // Admitted: pods without it were missed.
        [STATUS.endpoint]: "{}",
      },
      ownerReferences: [{ apiVersion: "apps/v1", ...owner, uid: `${owner.kind}-${owner.name}`, controller: true }],
    },
    spec: {
      ...structuredClone(workload.spec.template.spec),
      schedulingGates: [{ name: GATE.rank }, { name: "kueue" }],
    },
    status: { phase: "Pending" },
  };
}

/** What is stored. */
export interface World {
  readonly workloads: readonly Workload[];
  pods: Pod[];
  services: KubeObject[];
}

/** `now`: milliseconds since the epoch; no time passes without it. */
export const planFor = ({ workloads, pods, services }: World, now?: number): readonly Action[] =>
  controllerPlan(
    { ...EMPTY_SNAPSHOT, workloads, pods, services },
    { config, acts: () => true, ...(now === undefined ? {} : { now }) },
  );

let versions = 1;

/** Does what the controller asks, as the API server would; false for a conflict. */
export function perform(world: World, action: Action): boolean {
  if (action.do === "apply") {
    const uid = `svc-${keyOf(action.object)}`;
    const stored = { ...action.object, metadata: { ...action.object.metadata, uid } };
    world.services = [...world.services.filter((one) => keyOf(one) !== keyOf(stored)), stored];
    return true;
  }
  if (action.do === "remove") {
    const goes = (one: KubeObject): boolean => one.kind === action.kind && one.metadata.uid === action.uid;
    world.pods = world.pods.filter((pod) => !goes(pod));
    world.services = world.services.filter((service) => !goes(service));
    return true;
  }
  return action.do === "tell" || patched(world, action);
}

function patched(world: World, action: Extract<Action, { do: "patch" }>): boolean {
  const index = world.pods.findIndex((pod) => pod.metadata.name === action.ref.name);
  const pod = world.pods[index];
  const { uid, resourceVersion } = (action.body as { metadata: { uid?: string; resourceVersion?: string } }).metadata;
  if (pod === undefined || (uid ?? pod.metadata.uid) !== pod.metadata.uid) return false;
  if (resourceVersion !== undefined && resourceVersion !== pod.metadata.resourceVersion) return false;
  const next = merged(pod, action.body) as Pod;
  world.pods = world.pods.with(index, {
    ...next,
    metadata: { ...next.metadata, resourceVersion: String((versions += 1)) },
  });
  return true;
}

/** Passes until nothing is asked for but Events; fails where that takes too long. */
export function settle(world: World, passes = 20): void {
  for (let pass = 0; pass < passes; pass++) {
    const writes = planFor(world).filter((action) => action.do !== "tell");
    if (writes.length === 0) return;
    for (const action of writes) perform(world, action);
  }
  throw new Error(
    `still asked for after ${passes} passes: ${planFor(world)
      .map(({ key }) => key)
      .join(", ")}`,
  );
}

/** The kubelet's word on a pod that was ready until then, and whose engine runs on. */
export const lapsed = ({ metadata: { creationTimestamp: startedAt } }: Pod, at: Date): NonNullable<Pod["status"]> => ({
  phase: "Running",
  conditions: [{ type: "Ready", status: "False", lastTransitionTime: at.toISOString() }],
  containerStatuses: [{ name: "engine", ready: false, restartCount: 0, state: { running: { startedAt } } }],
});
