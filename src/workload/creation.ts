/** How the controller of a kind makes pods: all at once, or each after the one before it is up. */
import { annotationOf, entry, isObject, type KubeObject } from "../kinds/kube.ts";

const LWS_EXCLUSIVE = "leaderworkerset.sigs.k8s.io/exclusive-topology";

/** Why the pods of this workload come one by one, in words; undefined where all are made at once. */
export function oneByOne(object: KubeObject): string | undefined {
  const spec = isObject(object["spec"]) ? object["spec"] : {};
  if (object.kind === "StatefulSet" && spec["podManagementPolicy"] !== "Parallel")
    return "podManagementPolicy OrderedReady makes each pod after the one before it is ready";
  if (object.kind !== "LeaderWorkerSet") return undefined;
  if (spec["startupPolicy"] === "LeaderReady")
    return "startupPolicy LeaderReady makes workers after their leader is ready";
  return annotationOf(object, LWS_EXCLUSIVE) === undefined
    ? undefined
    : "exclusive topology makes workers after their leader is scheduled";
}

/** Kueue admits pods one by one: a gang of ours on top of it would wait for members that it holds back. */
const KUEUE_QUEUE = "kueue.x-k8s.io/queue-name";

export const isUnderKueue = (object: KubeObject): boolean => entry(object.metadata.labels, KUEUE_QUEUE) !== undefined;
