/**
 * Workloads as the autoscaler sees them: what each asks for, in instances, what an instance of it costs, and who else
 * scales it. From the objects alone; what cannot be decoded is left out, for admission and controller tell of it.
 *
 * Decoding is remembered by object: a reflector keeps an object as long as it stays the same.
 */
import {
  isObject,
  labelOf,
  type KubeObject,
  type Namespace,
  type Pod,
  type PodTemplate,
  type Workload,
} from "../../kinds/kube.ts";
import { hasEnded } from "../../gang/devices.ts";
import { TEMPLATE_HASH } from "../../kinds/names.ts";
import type { Devices } from "../../profiles/devices.ts";
import { deviceRequest } from "../../profiles/devices/request.ts";
import { workloadSpec } from "../../workload/decode.ts";
import { templatesOf } from "../../workload/template.ts";
import type { ScalingSpec } from "../../workload/scaling.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { WorkloadSeen } from "../group.ts";
import type { ScalingReader } from "./reading.ts";

/** A workload with its contract. */
export interface ReadWorkload {
  readonly object: Workload;
  readonly spec: WorkloadSpec;
  readonly scaling: ScalingSpec;
  readonly acceleratorsPerInstance: number;
}

/** `namespace/group` */
export const groupKey = ({ namespace, group }: Pick<WorkloadSpec, "namespace" | "group">): string =>
  `${namespace}/${group}`;

/** `namespace/Kind/name` */
export const workloadId = ({ namespace, kind, name }: Pick<WorkloadSpec, "namespace" | "kind" | "name">): string =>
  `${namespace}/${kind}/${name}`;

export class WorkloadDecoder {
  readonly #devices: Devices;
  readonly #reader: ScalingReader;
  readonly #known = new WeakMap<
    Workload,
    { readonly namespace: Namespace | undefined; readonly read: ReadWorkload | undefined }
  >();

  constructor(devices: Devices, reader: ScalingReader) {
    this.#devices = devices;
    this.#reader = reader;
  }

  /** Undefined for a workload that is not ours, is not scaled, or cannot be decoded. */
  read(object: Workload, namespace: Namespace | undefined): ReadWorkload | undefined {
    const known = this.#known.get(object);
    if (known !== undefined && known.namespace === namespace) return known.read;
    const read = this.#decode(object, namespace);
    this.#known.set(object, { namespace, read });
    return read;
  }

  #decode(object: Workload, namespace: Namespace | undefined): ReadWorkload | undefined {
    const { spec } = workloadSpec(object, { namespace, devices: this.#devices });
    const scaling = spec && this.#reader.scaling(object, spec, namespace);
    if (spec === undefined || scaling === undefined) return undefined;
    return { object, spec, scaling, acceleratorsPerInstance: this.#accelerators(object, spec) };
  }

  /** A LeaderWorkerSet may have another template for its workers; of other kinds all pods are alike. */
  #accelerators(object: Workload, { container, nodesPerInstance, acceleratorsPerPod }: WorkloadSpec): number {
    const [first, second] = templatesOf(object).map(({ template }) => this.#requested(template, container));
    const leader = first ?? acceleratorsPerPod;
    return leader + (nodesPerInstance - 1) * (second ?? leader);
  }

  /** Devices that the template asks for; undefined where it leaves that to admission. */
  #requested({ spec }: PodTemplate, container: string): number | undefined {
    const engine = spec.containers.find(({ name }) => name === container) ?? spec.containers[0];
    return engine && deviceRequest(engine, this.#devices)?.count;
  }
}

export interface WorkloadSurroundings {
  readonly autoscalers: readonly KubeObject[];
  /** Those that it made. */
  readonly pods: readonly Pod[];
  readonly wallClock: number;
}

export function workloadSeen(
  { object, spec, scaling, acceleratorsPerInstance }: ReadWorkload,
  { autoscalers, pods, wallClock }: WorkloadSurroundings,
  reader: ScalingReader,
): WorkloadSeen {
  const contestedBy = reader.contestedBy(object, autoscalers);
  const lastScaled = reader.lastScaled(object, wallClock);
  const instances = (replicas: number): number => Math.ceil(replicas / replicasPerInstance(spec));
  return {
    id: workloadId(spec),
    role: spec.role,
    scaling,
    replicas: instances(replicasOf(object)),
    nodesPerInstance: spec.nodesPerInstance,
    replicasPerInstance: replicasPerInstance(spec),
    acceleratorsPerInstance,
    isRolling: isRolling(object, pods),
    ...(contestedBy === undefined ? {} : { contestedBy }),
    ...(lastScaled === undefined ? {} : { lastScaled: instances(lastScaled) }),
  };
}

/** Those of a LeaderWorkerSet are whole instances. */
const replicasPerInstance = ({ kind, nodesPerInstance }: Pick<WorkloadSpec, "kind" | "nodesPerInstance">): number =>
  kind === "LeaderWorkerSet" ? 1 : nodesPerInstance;

/** The API server fills in 1. */
const replicasOf = ({ spec }: Workload): number => spec.replicas ?? 1;

/**
 * Replicas are split over two templates, as the status says or the pods show: which of them a scale-in takes nobody can
 * tell. A change that its controller has not looked at yet may be one of the template.
 */
function isRolling({ kind, metadata, ...object }: Workload, pods: readonly Pod[]): boolean {
  const status = isObject(object["status"]) ? object["status"] : {};
  const [observed, all, updated] = ["observedGeneration", "replicas", "updatedReplicas"].map((key) => status[key]);
  const isUnseen = typeof observed === "number" && metadata.generation !== undefined && observed < metadata.generation;
  // Kubernetes leaves out zeros.
  const isSplit = typeof all === "number" && (typeof updated === "number" ? updated : 0) < all;
  return isUnseen || isSplit || hashesOf(kind, pods) > 1;
}

/** Templates of the pods that live. */
function hashesOf(kind: string, pods: readonly Pod[]): number {
  const key = TEMPLATE_HASH[kind] ?? "";
  const alive = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined && !hasEnded(pod));
  return new Set(alive.flatMap((pod) => labelOf(pod, key) ?? [])).size;
}
