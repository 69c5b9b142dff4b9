/** What `tandem place` is given, before anything is made of it. */
import { keyOf, type KubeObject } from "../../kinds/kube.ts";

/** Kinds that make pods by rules that are not played here. */
const MAKERS: ReadonlySet<string> = new Set(["CronJob", "DaemonSet", "Job", "ReplicaSet", "ReplicationController"]);

/** What of the input will not count, or leaves nothing to place on. */
export function unplaceable(objects: readonly KubeObject[]): readonly string[] {
  const makers = objects.filter(({ kind }) => MAKERS.has(kind));
  return [
    ...makers.map((object) => `${object.kind} ${keyOf(object)} is left out; give its pods as Pods`),
    ...(objects.some(({ kind }) => kind === "Node") ? [] : ["no Node was given, so nothing can be placed"]),
  ];
}
