/** What `tandem place` is given, before anything is made of it. */
import { keyOf, type KubeObject } from "../../kinds/kube.ts";

/** Objects given several times, as by two files of one cluster: the last counts, as with kubectl. */
export function onlyLast(objects: readonly KubeObject[]): { objects: readonly KubeObject[]; twice: readonly string[] } {
  const byName = new Map<string, KubeObject>();
  const twice = new Set<string>();
  for (const [index, object] of objects.entries()) {
    const { namespace = "default", name } = object.metadata;
    // Without a name it is like no other.
    const key = `${object.kind} ${namespace}/${name ?? String(index)}`;
    if (byName.has(key)) twice.add(`${object.kind} ${keyOf(object)} was given twice; the last one counts`);
    byName.set(key, object);
  }
  return { objects: [...byName.values()], twice: [...twice] };
}

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
