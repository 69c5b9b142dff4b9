/**
 * The replicas of an autoscaled workload: an update that brings others keeps those that live.
 *
 * A manifest is applied again and again with the number it was written with; that would undo what the autoscaler did,
 * and kill engines that serve. Nothing is recorded: the kept number is the object's own. The scale subresource never
 * comes here, so `kubectl scale`, HPAs and the autoscaler itself write as they like.
 */
import { isObject, type KubeObject } from "../kinds/kube.ts";
import { AUTOSCALING } from "../kinds/names.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
import { replicasPerInstance } from "../workload/scaling-decode.ts";
import { setsReplicas, type ScalingSpec } from "../workload/scaling.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { replaceAt, type Path } from "./value.ts";

export const REPLICAS_PATH: Path = ["spec", "replicas"];

/** The replicas that an object asks for; 1 where it says nothing, or nothing that is a number. */
export const replicasOf = (object: KubeObject): number => {
  const spec = object["spec"];
  return isObject(spec) && typeof spec["replicas"] === "number" ? spec["replicas"] : 1;
};

export interface Scaled {
  readonly spec: WorkloadSpec;
  readonly scaling: ScalingSpec;
}

const isKept = ({ spec, scaling }: Scaled): boolean =>
  setsReplicas(scaling) && !scaling.forceReplicas && !spec.skip.includes("replicas");

/** The live replicas where they are to stay instead of those given; undefined where the given ones stand. */
export function liveReplicas(object: KubeObject, previous: KubeObject | undefined, scaled: Scaled): number | undefined {
  if (previous === undefined || !isKept(scaled)) return undefined;
  const live = replicasOf(previous);
  // A new size of instances needs a new number: the old one would be denied.
  const fits = Number.isInteger(live) && live >= 0 && live % replicasPerInstance(scaled.spec) === 0;
  return fits && live !== replicasOf(object) ? live : undefined;
}

export const withReplicas = (object: KubeObject, replicas: number): KubeObject =>
  replaceAt(object, REPLICAS_PATH, () => replicas) as KubeObject;

/** Told to whoever brought the other number. */
export const replicasKept = (object: KubeObject, live: number, { mode }: ScalingSpec): Verdict =>
  warned(
    "ReplicasKept",
    `replicas stay ${live}, not ${replicasOf(object)}: ${AUTOSCALING.mode} is ${mode}; use kubectl scale`,
    { subject: "replicas", numbers: { live, given: replicasOf(object) } },
  );
