/** The steps of a plan as calls to the API server: refs and bodies, and how each is fenced. Nothing is sent here. */
import type { KubeObject, ObjectRef, Pod, Workload } from "../../kinds/kube.ts";
import { isObject } from "../../kinds/kube.ts";
import { refOf } from "../../kinds/resource.ts";
import { costAnnotations, drainAnnotations, releaseAnnotations } from "../../workload/draining.ts";
import type { Annotations } from "../../workload/draining.ts";

export interface Patch {
  readonly ref: ObjectRef;
  readonly body: unknown;
}

/**
 * Of an incarnation of a pod, as it was read. Between, the controller may have taken it out of routing; and what is taken
 * back by an old reading leaves the deletion cost that was written since, for ever.
 */
export function podPatch(what: "release" | "drain" | "mark", pod: Pod, wallClock: number): Patch {
  const { uid, resourceVersion } = pod.metadata;
  return {
    ref: refOf(pod),
    body: { metadata: { uid, resourceVersion, annotations: annotationsFor(what, pod, wallClock) } },
  };
}

function annotationsFor(what: "release" | "drain" | "mark", pod: Pod, wallClock: number): Annotations {
  if (what === "release") return releaseAnnotations(pod);
  return what === "drain" ? drainAnnotations(pod, wallClock) : costAnnotations(pod, wallClock);
}

/** Of an incarnation of a workload, as its Scale was read: who led before may wake up and write what was true for him. */
export const workloadPatch = (workload: Workload, read: KubeObject, annotations: Annotations): Patch => ({
  ref: refOf(workload),
  body: { metadata: { uid: workload.metadata.uid, resourceVersion: read.metadata.resourceVersion, annotations } },
});

export const scaleRef = (workload: Workload): ObjectRef => ({ ...refOf(workload), subresource: "scale" });

/** Fails with 409 unless the workload is still as it was read. */
export const scalePatch = (workload: Workload, read: KubeObject, replicas: number): Patch => ({
  ref: scaleRef(workload),
  body: { metadata: { resourceVersion: read.metadata.resourceVersion }, spec: { replicas } },
});

/** Replicas that a Scale asks for; none is written as an absent field. */
export function replicasOf(scale: KubeObject): number {
  const replicas = isObject(scale["spec"]) ? scale["spec"]["replicas"] : undefined;
  return typeof replicas === "number" ? replicas : 0;
}
