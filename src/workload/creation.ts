/** How the controller of a kind makes pods: all at once, or each after the one before it is up; and how it replaces them. */
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

const inner = (value: unknown, key: string): unknown => (isObject(value) ? value[key] : undefined);

/** Number or percentage of the replicas, as the deployment controller resolves it. */
function resolved(value: unknown, replicas: number, round: (share: number) => number): number {
  const percent = typeof value === "string" ? /^(\d{1,9})%$/.exec(value)?.[1] : undefined;
  if (percent !== undefined) return round((Number(percent) * replicas) / 100);
  const given = Number(value);
  return Number.isInteger(given) && given >= 0 ? given : 0;
}

/** Where a Deployment says how it is updated; the one place outside of templates that admission writes to. */
export const ROLLOUT: readonly string[] = ["spec", "strategy", "rollingUpdate"];

/** What the API server fills in. */
export const DEFAULT_ROLLOUT = { maxSurge: "25%", maxUnavailable: "25%" } as const;

/** One of the steps of a rolling update. */
export const isRollout = (path: readonly unknown[]): boolean =>
  path.length === ROLLOUT.length + 1 &&
  ROLLOUT.every((step, index) => path[index] === step) &&
  Object.hasOwn(DEFAULT_ROLLOUT, String(path.at(-1)));

/** True for a Deployment of which nobody said how it is updated: the API server's default looks the same as an own one. */
export function leavesRollout(object: KubeObject): boolean {
  const strategy = inner(object["spec"], "strategy");
  const rolling = inner(strategy, "rollingUpdate");
  const given = (Object.keys(DEFAULT_ROLLOUT) as (keyof typeof DEFAULT_ROLLOUT)[]).some(
    (key) => (inner(rolling, key) ?? DEFAULT_ROLLOUT[key]) !== DEFAULT_ROLLOUT[key],
  );
  return object.kind === "Deployment" && inner(strategy, "type") !== "Recreate" && !given;
}

/** The API server's default, counted in instances and given in pods: a quarter of them, at least one of them new. */
export function rolloutOfInstances(replicas: number, nodes: number): { maxSurge: number; maxUnavailable: number } {
  const quarter = replicas / nodes / 4;
  return { maxSurge: Math.max(1, Math.ceil(quarter)) * nodes, maxUnavailable: Math.floor(quarter) * nodes };
}

/** Pods by which a rolling update of a Deployment goes above and below its replicas; undefined for no such update. */
export function rollingSteps(
  object: KubeObject,
  replicas: number,
): { readonly surge: number; readonly unavailable: number } | undefined {
  const strategy = inner(object["spec"], "strategy");
  if (object.kind !== "Deployment" || inner(strategy, "type") === "Recreate") return undefined;
  const rolling = inner(strategy, "rollingUpdate");
  const surge = resolved(inner(rolling, "maxSurge") ?? DEFAULT_ROLLOUT.maxSurge, replicas, Math.ceil);
  const unavailable = resolved(
    inner(rolling, "maxUnavailable") ?? DEFAULT_ROLLOUT.maxUnavailable,
    replicas,
    Math.floor,
  );
  // The API refuses two zeros; percentages that both round to zero are read as one unavailable pod.
  return { surge, unavailable: surge + unavailable === 0 ? 1 : unavailable };
}
