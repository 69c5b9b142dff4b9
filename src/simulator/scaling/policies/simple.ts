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

export function hpa(targets: Targets, limits: Limits): ScalingPolicy {
  const windows = { prefill: new WindowMaximum(), decode: new WindowMaximum() };
  const size = (view: View, role: PoolRole): number => {
    const current = view.asked[role];
    const wanted = recommend(view, role, targetOf(role, targets));
    windows[role].add(view.now, wanted);
    const held = Math.max(wanted, Math.min(current, windows[role].since(view.now - DOWN_WINDOW_MS) ?? wanted));
    return within(Math.min(held, Math.max(2 * current, current + 4)), role, limits);
  };
  return {
    ...{ intervalMs: SYNC_MS, scrapeMs: SYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => ({ prefill: size(view, "prefill"), decode: size(view, "decode") }),
  };
}

/** Pods metrics: unready ones count nothing on the way up; where they turn the answer around, nothing happens. */
function recommend(view: View, role: PoolRole, target: number): number {
  const values = metricsOf(view, role).map((metrics) => metricOf(role, metrics));
  const current = view.asked[role];
  if (values.length === 0) return current;
  const sum = values.reduce((total, value) => total + value, 0);
  const ratio = sum / values.length / target;
  if (Math.abs(ratio - 1) <= TOLERANCE) return current;
  const unready = Math.max(0, current - values.length);
  if (unready === 0 || ratio < 1) return Math.ceil(ratio * (unready === 0 ? values.length : current));
  const credited = sum / (values.length + unready) / target;
  if (Math.abs(credited - 1) <= TOLERANCE || credited < 1) return current;
  return Math.ceil(credited * (values.length + unready));
}
