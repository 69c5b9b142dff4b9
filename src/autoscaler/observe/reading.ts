/** What is read off objects by the contract's own room, and the moment at which it is read. */
import type { Role } from "../../kinds/endpoint.ts";
import type { KubeObject, Namespace, Pod, Workload } from "../../kinds/kube.ts";
import type { GroupScaling, ScalingSpec } from "../../workload/scaling.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";

/** One moment on both clocks. Times of objects are of the wall clock, all others of the monotonic one. */
export interface Moment {
  readonly monotonic: number;
  /** Milliseconds since the Unix epoch, as near to the API server's as it is known. */
  readonly wall: number;
}

/** A time of an object on the monotonic clock: one that lies ahead, because clocks differ, is now. */
export const monotonicOf = (wall: number, now: Moment): number => now.monotonic - Math.max(0, now.wall - wall);

/** Decoders of annotations. All are pure, and give the same for the same objects. */
export interface ScalingReader {
  /** Undefined where the workload is not scaled, or says what cannot be. */
  readonly scaling: (
    workload: Workload,
    spec: WorkloadSpec,
    namespace: Namespace | undefined,
  ) => ScalingSpec | undefined;
  /** `name` is of the form `Kind name`. */
  readonly group: (
    workloads: readonly { readonly name: string; readonly role: Role; readonly scaling: ScalingSpec }[],
  ) => GroupScaling;
  /** Who else writes the replicas of the workload. */
  readonly contestedBy: (workload: Workload, autoscalers: readonly KubeObject[]) => string | undefined;
  /** Replicas that Tandem wrote last; `now` in milliseconds since the Unix epoch. */
  readonly lastScaled: (workload: Workload, now: number) => number | undefined;
  /** The pod is marked to be scaled in. */
  readonly isDraining: (pod: Pod) => boolean;
}
