/** Which workload made a Pod, as the Pod's controller says: a selector alone also fits Pods that others made. */
import { controllerOf, labelOf, type KubeObject, type Workload } from "../kinds/kube.ts";
import { LWS } from "../kinds/names.ts";

/** A ReplicaSet is called after its Deployment, with a hash of the template. */
const deploymentOf = (replicaSet: string): string => replicaSet.slice(0, replicaSet.lastIndexOf("-"));

/** True where the workload made the Pod. Both are of one namespace. */
export function made({ kind, metadata: { name = "" } }: Workload, pod: KubeObject): boolean {
  // Its pods are made by StatefulSets of its own, one for the leaders and one for the workers of each group.
  if (kind === "LeaderWorkerSet") return labelOf(pod, LWS.name) === name;
  const owner = controllerOf(pod);
  if (owner === undefined) return false;
  if (owner.kind === "ReplicaSet") return kind === "Deployment" && deploymentOf(owner.name) === name;
  return owner.kind === kind && owner.name === name;
}

/** `namespace/Kind/name` of the workload that made the Pod, as `made` tells; undefined for a Pod that nobody controls. */
export function makerOf(pod: KubeObject): string | undefined {
  const at = pod.metadata.namespace ?? "default";
  const set = labelOf(pod, LWS.name);
  if (set !== undefined) return `${at}/LeaderWorkerSet/${set}`;
  const owner = controllerOf(pod);
  if (owner === undefined) return undefined;
  return owner.kind === "ReplicaSet"
    ? `${at}/Deployment/${deploymentOf(owner.name)}`
    : `${at}/${owner.kind}/${owner.name}`;
}
