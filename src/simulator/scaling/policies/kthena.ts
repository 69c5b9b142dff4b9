/**
 * Kthena's AutoscalingPolicy on a disaggregated target, as its Helm defaults configure it
 * (volcano-sh/kthena pkg/autoscaler/algorithm/{recommendation,revision}.go at 3cc0572): sums over pods against one target,
 * stable policy 4 pods or 100 % a minute, down 100 % a minute after five, no panic.
 */
import { WindowMaximum } from "../../../autoscaler/windows.ts";
import { metricsOf, REPLICA_SET, within, type Limits, type ScalingPolicy, type View } from "../policy.ts";
import type { PoolRole } from "../world.ts";
import { metricOf, targetOf, type Targets } from "./simple.ts";

const LOOP_MS = 15_000;
const TOLERANCE = 0.1;
const PERIOD_MS = 60_000;
const DOWN_WINDOW_MS = 300_000;

interface State {
  readonly recommended: WindowMaximum;
  readonly corrected: { readonly at: number; readonly count: number }[];
}

export function kthena(targets: Targets, limits: Limits): ScalingPolicy {
  const states: Record<PoolRole, State> = {
    prefill: { recommended: new WindowMaximum(), corrected: [] },
    decode: { recommended: new WindowMaximum(), corrected: [] },
  };
  const size = (view: View, role: PoolRole): number =>
    correct(states[role], view, { role, limits, target: targetOf(role, targets) });
  return {
    ...{ intervalMs: LOOP_MS, scrapeMs: LOOP_MS, shrinking: REPLICA_SET },
    decide: (view) =>
      // A pod that is being deleted makes its role's metrics incomplete, and one role without metrics skips both.
      isComplete(view) ? { prefill: size(view, "prefill"), decode: size(view, "decode") } : view.asked,
  };
}

const isComplete = (view: View): boolean =>
  !view.pods.some(({ isDraining }) => isDraining) &&
  (["prefill", "decode"] as const).every((role) => metricsOf(view, role).length > 0);

interface Sizing {
  readonly role: PoolRole;
  readonly target: number;
  readonly limits: Limits;
}

function correct(state: State, view: View, { role, target, limits }: Sizing): number {
  const { now } = view;
  const current = view.asked[role];
  const wanted = within(recommend(view, role, target), role, limits);
  state.recommended.add(now, wanted);
  const past = state.corrected.filter(({ at }) => at >= now - PERIOD_MS).map(({ count }) => count);
  const lowest = Math.min(current, ...past);
  const count =
    wanted > current
      ? Math.min(wanted, Math.max(lowest + 4, 2 * lowest))
      : Math.min(current, state.recommended.since(now - DOWN_WINDOW_MS) ?? wanted);
  state.corrected.push({ at: now, count });
  if (state.corrected.length > 100) state.corrected.shift();
  return within(count, role, limits);
}

/** One record holds the sum over all pods, so that the number of records is one: the ratio is of the sum. */
function recommend(view: View, role: PoolRole, target: number): number {
  const current = view.asked[role];
  const ready = metricsOf(view, role);
  const ratio = ready.reduce((sum, metrics) => sum + metricOf(role, metrics), 0) / target;
  if (Math.abs(ratio - 1) <= TOLERANCE) return current;
  const unready = Math.max(0, current - ready.length);
  if (unready === 0 || ratio < 1) return Math.ceil(ratio);
  const credited = ratio / (1 + unready);
  if (Math.abs(credited - 1) <= TOLERANCE || credited < 1) return current;
  return Math.max(current, Math.ceil(credited * (1 + unready)));
}
