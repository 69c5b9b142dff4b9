/** What a check of one object is: a pure function from the decoded contract and the user's template to objections. */
import type { KubeObject, PodTemplate } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Inferred } from "../../workload/infer.ts";
import type { ScalingSpec } from "../../workload/scaling.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { Settings } from "../stage.ts";

export interface Facts {
  readonly spec: WorkloadSpec;
  /** Absent for Pods. */
  readonly scaling?: ScalingSpec | undefined;
  /** The pod template, without what Tandem injected. */
  readonly template: PodTemplate;
  readonly inferred: Inferred;
  /** The workload, or the Pod itself, without what Tandem injected. */
  readonly object: KubeObject;
  readonly snapshot: ClusterSnapshot;
  /** Where admission writes: with `pod`, the workload stays as it is. */
  readonly target: Settings["target"];
  /** The other workloads of its group. */
  readonly others: readonly WorkloadSpec[];
}

/** A check of one object; nothing where it has no objection. Denials stop the object, warnings go to the user. */
export type Check = (facts: Facts) => readonly Verdict[];

/** A number with its noun, for messages: `1 new pod`, `2 new pods`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;
