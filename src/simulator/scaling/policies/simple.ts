/** Static pools, and Kubernetes' own HPA v2 on two metrics (pkg/controller/podautoscaler/replica_calculator.go). */
import { WindowMaximum } from "../../../autoscaler/windows.ts";
import {
  metricsOf,
  REPLICA_SET,
  within,
  type Limits,
  type PodMetrics,
  type ScalingPolicy,
  type View,
} from "../policy.ts";
import type { PoolRole } from "../world.ts";

/** As large as the shapes need at their peaks. */
const STATIC = { prefill: 12, decode: 7 } as const;

export const fixed = (limits: Limits): ScalingPolicy => ({
  ...{ intervalMs: 60_000, scrapeMs: 60_000, shrinking: REPLICA_SET },
  decide: () => ({
    prefill: within(STATIC.prefill, "prefill", limits),
    decode: within(STATIC.decode, "decode", limits),
  }),
});

/** What a pod should have on average: waiting requests of prefill, share of the KV cache of decode. */
export interface Targets {
  readonly waiting: number;
  readonly kv: number;
}

const SYNC_MS = 15_000;
const TOLERANCE = 0.1;
/** Default behaviour: up the more of 100 % and 4 pods in 15 s, at once; down to the most that was wanted within five minutes. */
const DOWN_WINDOW_MS = 300_000;

export const metricOf = (role: PoolRole, { waiting, kvUsage }: PodMetrics): number =>
  role === "prefill" ? waiting : kvUsage;
export const targetOf = (role: PoolRole, { waiting, kv }: Targets): number => (role === "prefill" ? waiting : kv);

/**
 * What an HPA reads of a prefill pod: what waits, as guides have it; or all requests that are in it, which is nobody's guide,
 * and much better, since it shows how busy a pod is before anything waits.
 */
export type PrefillMetric = "waiting" | "requests";

export interface HpaOptions {
  readonly targets: Targets;
  readonly limits: Limits;
  readonly prefillMetric?: PrefillMetric;
}

/** Means over a minute, as recording rules give them. */
const SMOOTHED = 4;

export function hpa({ targets, limits, prefillMetric = "waiting" }: HpaOptions): ScalingPolicy {
  const windows = { prefill: new WindowMaximum(), decode: new WindowMaximum() };
  const heard: Record<PoolRole, number[]> = { prefill: [], decode: [] };
  const size = (view: View, role: PoolRole): number => {
    const current = view.asked[role];
    const metrics = metricsOf(view, role);
    // The controller's first recommendation is what it finds: nothing is taken away within the first window.
    if (windows[role].since(-Infinity) === undefined) windows[role].add(view.now, current);
    if (metrics.length === 0) return current;
    const extra = (each: PodMetrics): number => (role === "prefill" && prefillMetric === "requests" ? each.running : 0);
    heard[role].push(mean(metrics.map((each) => metricOf(role, each) + extra(each))));
    if (heard[role].length > SMOOTHED) heard[role].shift();
    const wanted = recommend(mean(heard[role]) / targetOf(role, targets), metrics.length, current);
    windows[role].add(view.now, wanted);
    const held = Math.max(wanted, Math.min(current, windows[role].since(view.now - DOWN_WINDOW_MS + 1) ?? wanted));
    return within(Math.min(held, Math.max(2 * current, current + 4)), role, limits);
  };
  return {
    ...{ intervalMs: SYNC_MS, scrapeMs: SYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => ({ prefill: size(view, "prefill"), decode: size(view, "decode") }),
  };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * Pods metrics. Pods without any count as empty on the way up and as on target on the way down; where they turn the answer
 * around, nothing happens.
 */
function recommend(ratio: number, ready: number, current: number): number {
  const missing = Math.max(0, current - ready);
  const counted = ratio * (current - missing) + (ratio < 1 ? missing : 0);
  const credited = counted / current;
  if (Math.abs(credited - 1) <= TOLERANCE || credited < 1 !== ratio < 1) return current;
  return Math.ceil(counted);
}
