/**
 * An engine over several pods serves whole or not at all: what its pods' own statuses say of it. One rule for discovery,
 * which sends it nothing while a member is missing or not ready, and for the controller, which replaces it.
 *
 * A node that is lost needs no look at nodes: the node controller sets its pods to not ready. Nothing is remembered.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import { annotationOf, isObject, labelOf, type Pod } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import { endpointsOf, engineStatus, isReady } from "./endpoint.ts";
import { groupSize } from "./instance.ts";

/** The endpoints of all pods; those of an instance of which a member fails are not ready. */
export function endpointsOfAll(pods: readonly Pod[]): readonly Endpoint[] {
  const instances = Map.groupBy(pods.filter(isShared), instanceKey);
  const failing = new Set([...instances].flatMap(([key, members]) => (servesWhole(members) ? [] : [key])));
  return pods.flatMap((pod) => {
    const endpoints = endpointsOf(pod);
    return isShared(pod) && failing.has(instanceKey(pod))
      ? endpoints.map((endpoint) => ({ ...endpoint, ready: false }))
      : endpoints;
  });
}

const instanceKey = (pod: Pod): string => `${pod.metadata.namespace ?? ""}/${labelOf(pod, LABEL.instance) ?? ""}`;

/** Pods of the instance, as it is recorded on each of them; 1 where nothing is. */
const sizeOf = (pod: Pod): number => annotationOf(pod, STATUS.members)?.split(",").length ?? groupSize(pod) ?? 1;

const isShared = (pod: Pod): boolean => labelOf(pod, LABEL.instance) !== undefined && sizeOf(pod) > 1;

/** Old and new pods of a LeaderWorkerSet share a name while one group is replaced: those on their way out do not count. */
function servesWhole(pods: readonly Pod[]): boolean {
  const alive = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const [first] = alive;
  if (first === undefined || alive.length < sizeOf(first) || !alive.every(isReady)) return false;
  // Who runs a LeaderWorkerSet replaces its groups, and may have restarted the whole one in place.
  return annotationOf(first, STATUS.members) === undefined || restarted(alive) === undefined;
}

/**
 * A member whose engine ended while that of another ran, and was begun anew: the other still talks to the one that ended.
 * One that fails before its peers begin costs nothing but time. Undefined where there is none.
 */
export function restarted(members: readonly Pod[]): Pod | undefined {
  const runs = members.map((pod) => ({ pod, ...runOf(pod) }));
  return runs.find(
    ({ pod, restarts, ended }) =>
      restarts > 0 &&
      runs.some((other) => other.pod !== pod && other.began !== undefined && (ended === "" || other.began <= ended)),
  )?.pod;
}

interface Run {
  readonly restarts: number;
  /** When the present process began; undefined while none runs. RFC 3339 in UTC, which sorts as text. */
  readonly began: string | undefined;
  /** When the one before it ended, empty where nobody says. */
  readonly ended: string;
}

function runOf(pod: Pod): Run {
  const status = engineStatus(pod);
  const running = part(status?.["state"], "running");
  const began = running?.["startedAt"];
  const ended = part(status?.["lastState"], "terminated")?.["finishedAt"];
  return {
    restarts: status?.restartCount ?? 0,
    began: running === undefined ? undefined : typeof began === "string" ? began : "",
    ended: typeof ended === "string" ? ended : "",
  };
}

function part(value: unknown, key: string): Record<string, unknown> | undefined {
  const found = isObject(value) ? value[key] : undefined;
  return isObject(found) ? found : undefined;
}

/** Milliseconds since the epoch at which the pod ceased to be ready, Infinity where nobody says; undefined if it is ready. */
export function unreadySince(pod: Pod): number | undefined {
  const condition = pod.status?.conditions?.find(({ type }) => type === "Ready");
  if (condition === undefined || condition.status === "True") return undefined;
  const since = condition["lastTransitionTime"];
  const at = typeof since === "string" ? Date.parse(since) : NaN;
  return Number.isNaN(at) ? Infinity : at;
}
