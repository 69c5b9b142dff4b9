/**
 * What a scale-in leaves on objects, so that whoever leads next goes on from there: on a pod since when it drains and what
 * its deletion cost was, on a workload what was asked for last. Read and written here alone; nothing is decided.
 *
 * Times are RFC 3339 in UTC. A value that nobody can read means that the time is not known, never that there is no drain.
 */
import { annotationOf, type Pod, type Workload } from "../kinds/kube.ts";
import { DRAIN_SCALE_IN, POD_DELETION_COST, AUTOSCALING_STATUS, STATUS } from "../kinds/names.ts";

/** Lowest of an int32: pods of one ReplicaSet with it are deleted before all others that are as ready. */
export const VICTIM_COST = "-2147483648";

/** Of a pod that is to be scaled in. */
export interface Draining {
  /** Milliseconds since the Unix epoch; undefined where the value cannot be read. */
  readonly since: number | undefined;
  /** Given: it has the lowest deletion cost, and had this one before; null for none. */
  readonly costBefore?: string | null;
}

const NO_COST = "none";
const FORM = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)(?: cost=(none|-?\d{1,10}))?$/;

/** Undefined for a pod that the autoscaler does not drain. */
export function drainingOf(pod: Pod): Draining | undefined {
  const text = annotationOf(pod, AUTOSCALING_STATUS.draining);
  if (text === undefined) return undefined;
  const [, time = "", cost] = FORM.exec(text) ?? [];
  const since = Date.parse(time);
  return {
    since: Number.isNaN(since) ? undefined : since,
    ...(cost === undefined ? {} : { costBefore: cost === NO_COST ? null : cost }),
  };
}

const written = (since: number, costBefore?: string | null): string =>
  `${new Date(since).toISOString()}${costBefore === undefined ? "" : ` cost=${costBefore ?? NO_COST}`}`;

export type Annotations = Readonly<Record<string, string | null>>;

/** Gets no new work. What the controller wrote for a reason of its own stands, and is not written again. */
export const drainAnnotations = (pod: Pod, now: number): Annotations => ({
  ...(drainingOf(pod) === undefined ? { [AUTOSCALING_STATUS.draining]: written(now) } : {}),
  ...(annotationOf(pod, STATUS.drain) === undefined ? { [STATUS.drain]: DRAIN_SCALE_IN } : {}),
});

/** Marked, and out of routing by our word or the controller's. */
export const isHeldBack = (pod: Pod): boolean =>
  drainingOf(pod) !== undefined && annotationOf(pod, STATUS.drain) !== undefined;

/** Deleted before others. */
export function costAnnotations(pod: Pod, now: number): Annotations {
  const before = drainingOf(pod);
  const cost = annotationOf(pod, POD_DELETION_COST) ?? null;
  const kept = before?.costBefore === undefined ? cost : before.costBefore;
  return {
    [AUTOSCALING_STATUS.draining]: written(before?.since ?? now, isCost(kept) ? kept : null),
    [POD_DELETION_COST]: VICTIM_COST,
  };
}

const isCost = (cost: string | null): boolean => cost !== null && /^-?\d{1,10}$/.test(cost);

/** As it was before: takes off what the autoscaler wrote, and nothing that somebody else wrote since. */
export function releaseAnnotations(pod: Pod): Annotations {
  const { costBefore } = drainingOf(pod) ?? {};
  const restores = costBefore !== undefined && annotationOf(pod, POD_DELETION_COST) === VICTIM_COST;
  return {
    [AUTOSCALING_STATUS.draining]: null,
    ...(annotationOf(pod, STATUS.drain) === DRAIN_SCALE_IN ? { [STATUS.drain]: null } : {}),
    ...(restores ? { [POD_DELETION_COST]: costBefore } : {}),
  };
}

/** Written before the replicas are, so that a number which is neither of both is somebody else's. */
export const lastScaleText = (from: number, to: number, at: number): string =>
  `${from} -> ${to} ${new Date(at).toISOString()}`;

export interface LastScale {
  readonly from: number;
  readonly to: number;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

const SCALED = /^(\d{1,7}) -> (\d{1,7}) (\S{20,30})$/;

/** What the autoscaler asked for last, in replicas of the workload; undefined where nothing readable stands. */
export function lastScaleOf(workload: { readonly metadata: Workload["metadata"] }): LastScale | undefined {
  const [, from, to, time = ""] = SCALED.exec(annotationOf(workload, AUTOSCALING_STATUS.lastScale) ?? "") ?? [];
  const at = Date.parse(time);
  return from === undefined || to === undefined || Number.isNaN(at)
    ? undefined
    : { from: Number(from), to: Number(to), at };
}

/** Between the two writes lie milliseconds, and a replica of the autoscaler that dies there is replaced within as long. */
const UNDECIDED_MS = 60_000;

/**
 * The replicas that Tandem stands for at `now`, in milliseconds since the epoch: what it asked for last; those before for
 * as long as the change may be on its way. Anything else in the workload is somebody else's.
 */
export function lastScaled(workload: Workload, now: number): number | undefined {
  const last = lastScaleOf(workload);
  if (last === undefined) return undefined;
  const undecided = workload.spec.replicas === last.from && now - last.at < UNDECIDED_MS;
  return undecided ? last.from : last.to;
}
