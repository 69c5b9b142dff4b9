/**
 * A cluster for the autoscaler's actions: workloads whose replicas can be scaled, their pods made and deleted as
 * Kubernetes' own controllers do, and engines that tell what they run. Writes are fenced as the API server fences them;
 * any of them can be made to fail, or to be the last one of the process that sends it.
 */
import {
  startAutoscaler,
  type Autoscaler,
  type Decider,
  type Observed,
  type Observer,
} from "../../src/autoscaler/loop.ts";
import type { Decision, EngineSeen, InstanceSeen, Observation, WorkloadSeen } from "../../src/autoscaler/group.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Role } from "../../src/kinds/endpoint.ts";
import { KubeError } from "../../src/kinds/kube-error.ts";
import type { KubeObject, ObjectRef, Pod, Workload } from "../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS, LWS, POD_DELETION_COST } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { changed, type Verdict } from "../../src/kinds/verdict.ts";
import type { KubeReader, KubeWriter } from "../../src/ports.ts";
import { VirtualTime } from "../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { lapsed } from "./instances.ts";
import { GROUP_SCALING, SCALING, type ScalingSpec } from "../../src/workload/scaling.ts";

/** 2026-01-01; the monotonic clock of the tests starts here, too. */
export const EPOCH = Date.UTC(2026, 0, 1);

export interface WorkloadOptions {
  readonly kind?: "Deployment" | "StatefulSet" | "LeaderWorkerSet";
  readonly role?: Role;
  readonly replicas: number;
  readonly nodes?: number;
  readonly scaling?: Partial<ScalingSpec>;
}

export interface Write {
  readonly at: number;
  /** `release`, `drain`, `mark`, `annotate`, `scale`, `event` */
  readonly what: string;
  readonly name: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly by: string;
}

interface Known extends Required<Omit<WorkloadOptions, "replicas" | "scaling">> {
  readonly scaling: ScalingSpec;
  isRolling: boolean;
}

/** `last`: it is carried out, and nothing after it; `lost`: not even it. */
export type Refusal = "pass" | { readonly status: number } | "last" | "lost";

export class ScalingCluster {
  readonly time = new VirtualTime(EPOCH);
  readonly writes: Write[] = [];
  readonly events: (Verdict & { readonly about: string })[] = [];
  readonly targets = new Map<string, number>();
  readonly engines = new Map<string, Partial<EngineSeen>>();
  readonly deleted: string[] = [];
  budgets: KubeObject[] = [];
  /** Asked before each write that would be carried out. */
  refuse: (write: Omit<Write, "at">) => Refusal = () => "pass";
  /** Kubernetes' controllers stand still. */
  paused = false;
  /** What pods take from their making until they are ready. */
  startMs = 3000;
  readonly #workloads = new Map<string, Workload>();
  readonly #known = new Map<string, Known>();
  readonly #pods = new Map<string, Pod>();
  readonly #dead = new Set<string>();
  #version = 1;
  #serial = 0;
  #snapshot: ClusterSnapshot | undefined;
  #frozen: { readonly snapshot: ClusterSnapshot; readonly observation: Observation } | undefined;

  add(name: string, options: WorkloadOptions): string {
    const { kind = "Deployment", role = "decode", replicas, nodes = 1, scaling = {} } = options;
    const apiVersion = kind === "LeaderWorkerSet" ? LWS.apiVersion : "apps/v1";
    const metadata = { name, namespace: "a", uid: `w-${name}`, resourceVersion: this.#bump(), annotations: {} };
    const labels = { "tandem.sh/model": "m", "tandem.sh/role": role };
    const spec = {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels }, spec: { containers: [] } },
    };
    const id = `a/${kind}/${name}`;
    this.#workloads.set(id, { apiVersion, kind, metadata, spec });
    const of = { ...SCALING, mode: "auto" as const, maxReplicas: 100, ...scaling };
    this.#known.set(id, { kind, role, nodes, scaling: of, isRolling: false });
    this.targets.set(id, kind === "LeaderWorkerSet" ? replicas : replicas / nodes);
    this.settle();
    for (const pod of this.pods(id)) this.ready(pod);
    return id;
  }

  workload(id: string): Workload {
    const found = this.#workloads.get(id);
    if (found === undefined) throw new Error(`no workload ${id}`);
    return found;
  }

  roll(id: string, isRolling: boolean): void {
    const known = this.#known.get(id);
    if (known !== undefined) known.isRolling = isRolling;
  }

  /** Its mode, from now on. */
  rescale(id: string, scaling: Partial<ScalingSpec>): void {
    const known = this.#known.get(id);
    if (known !== undefined) this.#known.set(id, { ...known, scaling: { ...known.scaling, ...scaling } });
  }

  /** Scaled by nobody any more; its pods stay. */
  forget(id: string): void {
    this.#known.delete(id);
  }

  replicas(id: string): number {
    return this.workload(id).spec.replicas ?? 1;
  }

  /** In the order of their making. */
  pods(id: string): Pod[] {
    return [...this.#pods.values()].filter(({ metadata }) => metadata.labels?.["workload"] === id);
  }

  annotations(pod: Pod): Record<string, string> {
    return this.#pods.get(pod.metadata.uid ?? "")?.metadata.annotations ?? {};
  }

  annotate(pod: Pod, annotations: Record<string, string>): void {
    this.#put(pod, (copy) => (copy.metadata.annotations = { ...copy.metadata.annotations, ...annotations }));
  }

  ready(pod: Pod, ready = true): void {
    this.#put(pod, (copy) => {
      copy.spec.nodeName = "node";
      copy.status = { phase: "Running", conditions: [{ type: "Ready", status: ready ? "True" : "False" }] };
    });
    if (!this.engines.has(pod.metadata.uid ?? "")) this.run(pod, 0);
  }

  /** Its readiness is gone while its engine runs on: nobody reads its page. */
  lapse(pod: Pod): void {
    this.#put(pod, (copy) => (copy.status = lapsed(pod, new Date(this.time.now() + 1))));
    this.engines.delete(pod.metadata.uid ?? "");
  }

  /** What its engine runs, from now on. */
  run(pod: Pod, running: number, more: Partial<EngineSeen> = {}): void {
    this.engines.set(pod.metadata.uid ?? "", { running, waiting: 0, kvUsage: 0, ...more });
  }

  /** Begins to be deleted, and stays so. */
  terminate(pod: Pod): void {
    this.#put(pod, (copy) => (copy.metadata.deletionTimestamp = new Date(this.time.now()).toISOString()));
  }

  /** Kubernetes' controllers do what the replicas ask for; pods become ready in time. */
  settle(): void {
    if (this.paused) return;
    for (const [id, workload] of this.#workloads) this.#reconcile(id, workload);
    const isDue = ({ status, metadata }: Pod): boolean =>
      status === undefined && this.time.now() - Date.parse(metadata.creationTimestamp ?? "") >= this.startMs;
    for (const pod of this.#pods.values()) if (isDue(pod)) this.ready(pod);
  }

  #reconcile(id: string, workload: Workload): void {
    const nodes = workload.kind === "LeaderWorkerSet" ? this.#nodes(id) : 1;
    const active = this.pods(id).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    const wanted = (workload.spec.replicas ?? 1) * nodes;
    for (let at = active.length; at < wanted; at += 1) this.#make(id, workload, active);
    const surplus = Math.max(0, active.length - wanted);
    for (const pod of this.#deletable(workload, active).slice(0, surplus)) this.#delete(pod);
  }

  #nodes(id: string): number {
    return this.#known.get(id)?.nodes ?? 1;
  }

  /** Lets time pass, in steps of a quarter of a second. */
  async pass(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 250) {
      this.time.advance(250);
      for (let turn = 0; turn < 60; turn += 1) await Promise.resolve();
      this.settle();
    }
  }

  /** Watches fall behind until `thaw`: what is seen is what there is now. */
  freeze(): void {
    this.#frozen ??= { snapshot: this.snapshot(), observation: this.observation() };
  }

  thaw(): void {
    this.#frozen = undefined;
  }

  snapshot(): ClusterSnapshot {
    if (this.#frozen !== undefined) return this.#frozen.snapshot;
    this.#snapshot ??= {
      ...EMPTY_SNAPSHOT,
      workloads: [...this.#workloads.values()],
      pods: [...this.#pods.values()],
      budgets: this.budgets,
    };
    return this.#snapshot;
  }

  /** One group of all workloads. */
  observation(): Observation {
    if (this.#frozen !== undefined) return this.#frozen.observation;
    const at = this.time.monotonic();
    return {
      at,
      wallClock: this.time.now(),
      scaling: GROUP_SCALING,
      workloads: [...this.#known].map(([id, known]) => this.#seen(id, known)),
      instances: [...this.#known.keys()].flatMap((id) => this.pods(id).map((pod) => this.#instance(id, pod))),
      routers: [],
    };
  }

  observer(): Observer & { wake: (group: string) => void } {
    let listener: (group: string) => void = () => undefined;
    return {
      observe: (): readonly Observed[] => [{ group: "a/m", observation: this.observation() }],
      onWake: (heard) => {
        listener = heard;
        return () => (listener = () => undefined);
      },
      wake: (group) => listener(group),
    };
  }

  /** Decides what `targets` says. */
  decider(): Decider<object> {
    return {
      createMemory: () => ({}),
      decide: (_, { at, workloads }): Decision => ({
        at,
        workloads: workloads.map(({ id, replicas }) => {
          const to = this.targets.get(id) ?? replicas;
          const chain = [changed("ScaledOut", `demand ${to * 10} / 10 = ${to}`)];
          return { workload: id, from: replicas, to, recommended: to, chain };
        }),
        roles: [],
        verdicts: [],
      }),
    };
  }

  /** The API server, for one process; after its `last` write nothing of it arrives any more. */
  client(by: string): Pick<KubeReader, "get"> & Pick<KubeWriter, "patch" | "event"> {
    return {
      get: async (ref) => {
        this.#alive(by);
        return Promise.resolve(this.#read(ref));
      },
      patch: async (ref, type, body) => {
        if (type !== "merge") throw new Error(`unexpected ${type}`);
        const patch = body as { metadata: Record<string, unknown>; spec?: { replicas: number } };
        this.#judge({ what: whatOf(ref, patch), name: ref.name, body: patch, by });
        return Promise.resolve(this.#patch(ref, patch));
      },
      event: async (about, verdict) => {
        this.#judge({ what: "event", name: about.metadata.name ?? "", body: {}, by });
        this.events.push({ ...verdict, about: about.metadata.name ?? "" });
        return Promise.resolve();
      },
    };
  }

  whatWas(what: string): Write[] {
    return this.writes.filter((write) => write.what === what);
  }

  #alive(by: string): void {
    if (this.#dead.has(by)) throw new KubeError({ status: 0, reason: "Unreachable", message: "gone" });
  }

  #judge(write: Omit<Write, "at">): void {
    this.#alive(write.by);
    const verdict = this.refuse(write);
    this.writes.push({ ...write, at: this.time.now() });
    if (verdict === "last" || verdict === "lost") this.#dead.add(write.by);
    if (verdict === "lost") this.#alive(write.by);
    if (typeof verdict === "object")
      throw new KubeError({ status: verdict.status, reason: "Refused", message: `status ${verdict.status}` });
  }

  #read(ref: ObjectRef): KubeObject | undefined {
    const found = [...this.#workloads.values()].find(({ metadata }) => metadata.name === ref.name);
    if (found === undefined) return undefined;
    const { name, namespace, resourceVersion, uid } = found.metadata;
    return {
      apiVersion: "autoscaling/v1",
      kind: "Scale",
      metadata: defined({ name, namespace, resourceVersion, uid }),
      spec: { replicas: found.spec.replicas },
    };
  }

  #patch(ref: ObjectRef, patch: { metadata: Record<string, unknown>; spec?: { replicas: number } }): KubeObject {
    const objects: Map<string, KubeObject> = ref.plural === "pods" ? this.#pods : this.#workloads;
    const found = [...objects].find(([, { metadata }]) => metadata.name === ref.name);
    if (found === undefined) throw new KubeError({ status: 404, reason: "NotFound", message: ref.name });
    const [key, object] = found;
    const { uid, resourceVersion, annotations } = patch.metadata;
    if (uid !== undefined && uid !== object.metadata.uid) throw conflict();
    if (resourceVersion !== undefined && resourceVersion !== object.metadata.resourceVersion) throw conflict();
    const merged = { ...object.metadata.annotations, ...(annotations as Record<string, string | null> | undefined) };
    const kept = Object.entries(merged).filter((each): each is [string, string] => each[1] !== null);
    const metadata = { ...object.metadata, annotations: Object.fromEntries(kept), resourceVersion: this.#bump() };
    const spec = patch.spec === undefined ? {} : { spec: { ...(object["spec"] as object), ...patch.spec } };
    const next: KubeObject = { ...object, ...spec, metadata };
    objects.set(key, next);
    return next;
  }

  #put(pod: Pod, change: (copy: Pod) => void): void {
    const copy = structuredClone(this.#pods.get(pod.metadata.uid ?? "") ?? pod);
    change(copy);
    copy.metadata.resourceVersion = this.#bump();
    this.#pods.set(copy.metadata.uid ?? "", copy);
  }

  #bump(): string {
    this.#snapshot = undefined;
    this.#version += 1;
    return String(this.#version);
  }

  #make(id: string, workload: Workload, active: Pod[]): void {
    this.#serial += 1;
    const index = firstFree(active);
    const made = podOf(workload, { id, index, serial: this.#serial, nodes: this.#nodes(id) });
    made.metadata.creationTimestamp = new Date(this.time.now()).toISOString();
    active.push(made);
    this.#put(made, () => undefined);
  }

  /** The order in which controllers delete. */
  #deletable({ kind }: Workload, active: readonly Pod[]): readonly Pod[] {
    const index = (pod: Pod): number => Number(pod.metadata.labels?.["index"]);
    if (kind !== "Deployment") return active.toSorted((a, b) => index(b) - index(a));
    const key = (pod: Pod): number[] => [
      pod.spec.nodeName === undefined ? 0 : 1,
      pod.status?.phase === "Running" ? 1 : 0,
      pod.status?.conditions?.some(({ status }) => status === "True") === true ? 1 : 0,
      Number(pod.metadata.annotations?.[POD_DELETION_COST] ?? 0),
      -Date.parse(pod.metadata.creationTimestamp ?? ""),
      -index(pod),
    ];
    return active.toSorted((a, b) => {
      const [x, y] = [key(a), key(b)];
      const at = x.findIndex((value, place) => value !== y[place]);
      return at === -1 ? 0 : (x[at] ?? 0) - (y[at] ?? 0);
    });
  }

  #delete(pod: Pod): void {
    this.deleted.push(pod.metadata.uid ?? "");
    this.#pods.delete(pod.metadata.uid ?? "");
    this.#bump();
  }

  #seen(id: string, { kind, role, nodes, scaling, isRolling }: Known): WorkloadSeen {
    const each = kind === "LeaderWorkerSet" ? 1 : nodes;
    const replicas = Math.ceil(this.replicas(id) / each);
    const sizes = { nodesPerInstance: nodes, replicasPerInstance: each, acceleratorsPerInstance: 1 };
    return { id, role, scaling, replicas, ...sizes, isRolling };
  }

  #instance(id: string, { metadata, status }: Pod): InstanceSeen {
    const engine = this.engines.get(metadata.uid ?? "");
    const at = this.time.monotonic();
    return {
      id: metadata.uid ?? "",
      workload: id,
      state: status === undefined ? "pending" : "ready",
      createdAt: Date.parse(metadata.creationTimestamp ?? ""),
      ...(engine === undefined ? {} : { engine: { at, running: 0, waiting: 0, kvUsage: 0, ...engine } }),
    };
  }
}

/** A process that runs the loop over the cluster, with whom it calls itself. */
export function runLoop(
  cluster: ScalingCluster,
  by: string,
  isLeader: () => boolean = () => true,
  flags: Readonly<Record<string, string>> = {},
): Autoscaler {
  const client = cluster.client(by);
  return startAutoscaler({
    config: loadConfig({ flags }).autoscaler,
    observer: cluster.observer(),
    decider: cluster.decider(),
    snapshot: () => cluster.snapshot(),
    synced: () => true,
    isLeader,
    ...{ reader: client, writer: client },
    clock: cluster.time,
    timers: cluster.time,
    random: { next: () => 0.5, id: () => "" },
    log: SILENT_LOG,
    metrics: createMetrics(),
  });
}

const defined = (fields: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(fields).filter((each): each is [string, string] => each[1] !== undefined));

const conflict = (): KubeError => new KubeError({ status: 409, reason: "Conflict", message: "changed" });

const firstFree = (active: readonly Pod[]): number => {
  const taken = new Set(active.map(({ metadata }) => Number(metadata.labels?.["index"])));
  let index = 0;
  while (taken.has(index)) index += 1;
  return index;
};

interface Place {
  readonly id: string;
  readonly index: number;
  readonly serial: number;
  readonly nodes: number;
}

function podOf(workload: Workload, place: Place): Pod {
  const { name = "" } = workload.metadata;
  const owner =
    workload.kind === "Deployment" ? { kind: "ReplicaSet", name: `${name}-5f` } : { kind: workload.kind, name };
  const labels = { workload: place.id, app: name, index: String(place.index), ...instanceLabels(workload, place) };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: podName(workload, place),
      namespace: "a",
      uid: `u-${String(place.serial).padStart(4, "0")}`,
      annotations: {},
      labels,
      ownerReferences: [{ apiVersion: "apps/v1", uid: "", ...owner, controller: true }],
    },
    spec: { containers: [] },
  };
}

function podName({ kind, metadata: { name = "" } }: Workload, { index, serial, nodes }: Place): string {
  if (kind === "Deployment") return `${name}-5f-${serial}`;
  if (kind === "StatefulSet") return `${name}-${index}`;
  const worker = index % nodes;
  return `${name}-${Math.floor(index / nodes)}${worker === 0 ? "" : `-${worker}`}`;
}

function instanceLabels({ kind, metadata }: Workload, { index, nodes }: Place): Record<string, string> {
  const group = String(Math.floor(index / nodes));
  if (kind === "Deployment" && nodes > 1) return { "tandem.sh/instance": `i-${group}` };
  if (kind !== "LeaderWorkerSet") return {};
  const worker = String(index % nodes);
  return { [LWS.name]: metadata.name ?? "", [LWS.groupIndex]: group, [LWS.workerIndex]: worker };
}

function whatOf(ref: ObjectRef, { metadata, spec }: { metadata: Record<string, unknown>; spec?: unknown }): string {
  if (spec !== undefined) return "scale";
  if (ref.plural !== "pods") return "annotate";
  const annotations = metadata["annotations"] as Record<string, string | null>;
  if (annotations[AUTOSCALING_STATUS.draining] === null) return "release";
  return annotations[POD_DELETION_COST] === undefined ? "drain" : "mark";
}
