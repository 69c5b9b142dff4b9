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
 * Of an incarnation of a pod. What is marked is marked as it was read: between, the controller may have taken the pod out
 * of routing. What is taken back is taken back however the pod has changed; only our own values go.
 */
export function podPatch(what: "release" | "drain" | "mark", pod: Pod, wallClock: number): Patch {
  const { uid, resourceVersion } = pod.metadata;
  const fence = what === "release" ? { uid } : { uid, resourceVersion };
  return { ref: refOf(pod), body: { metadata: { ...fence, annotations: annotationsFor(what, pod, wallClock) } } };
}

function annotationsFor(what: "release" | "drain" | "mark", pod: Pod, wallClock: number): Annotations {
  if (what === "release") return releaseAnnotations(pod);
  return what === "drain" ? drainAnnotations(pod, wallClock) : costAnnotations(pod, wallClock);
}

export const workloadPatch = (workload: Workload, annotations: Annotations): Patch => ({
  ref: refOf(workload),
  body: { metadata: { uid: workload.metadata.uid, annotations } },
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
