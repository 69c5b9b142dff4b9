/** Knative's pod autoscaler on concurrency (knative/serving pkg/autoscaler/scaling/autoscaler.go, defaults of config-autoscaler). */
import { metricsOf, REPLICA_SET, within, type Limits, type ScalingPolicy, type View } from "../policy.ts";
import type { PoolRole } from "../world.ts";

/** Requests at once that a pod should have. */
export interface Concurrency {
  readonly prefill: number;
  readonly decode: number;
}

const TICK_MS = 2000;
const STABLE_MS = 60_000;
const PANIC_MS = 6000;
const PANIC_THRESHOLD = 2;
const UP_RATE = 1000;
const DOWN_RATE = 2;

interface State {
  readonly heard: { readonly at: number; readonly value: number }[];
  /** When it was over the threshold last; -Infinity out of panic. */
  panicAt: number;
  panicPods: number;
}

/** With more than one pod it begins in panic: nothing is taken away before a stable window is heard. */
const begin = (now: number, ready: number): State => ({
  ...{ heard: [], panicAt: ready > 1 ? now : -Infinity, panicPods: ready },
});

export function kpa(target: Concurrency, limits: Limits): ScalingPolicy {
  const states: Partial<Record<PoolRole, State>> = {};
  const size = (view: View, role: PoolRole): number => {
    const state = (states[role] ??= begin(view.now, metricsOf(view, role).length));
    return within(step(state, view, { role, target: target[role] }), role, limits);
  };
  return {
    ...{ intervalMs: TICK_MS, scrapeMs: TICK_MS, shrinking: REPLICA_SET },
    decide: (view) => ({ prefill: size(view, "prefill"), decode: size(view, "decode") }),
  };
}

function step(
  state: State,
  view: View,
  { role, target }: { readonly role: PoolRole; readonly target: number },
): number {
  const metrics = metricsOf(view, role);
  const { now } = view;
  const held = role === "prefill" ? view.router.heldRequests : 0;
  state.heard.push({
    at: now,
    value: held + metrics.reduce((sum, { running, waiting }) => sum + running + waiting, 0),
  });
  while ((state.heard[0]?.at ?? now) < now - STABLE_MS) state.heard.shift();
  const ready = Math.max(1, metrics.length);
  const clamp = (count: number): number =>
    Math.min(Math.ceil(UP_RATE * ready), Math.max(Math.floor(ready / DOWN_RATE), count));
  const stable = clamp(Math.ceil(mean(state, now - STABLE_MS) / target));
  const panic = clamp(Math.ceil(mean(state, now - PANIC_MS) / target));
  if (panic / ready >= PANIC_THRESHOLD) state.panicAt = now;
  if (state.panicAt + STABLE_MS < now) {
    Object.assign(state, { panicAt: -Infinity, panicPods: 0 });
    return stable;
  }
  state.panicPods = Math.max(state.panicPods, stable, panic);
  return state.panicPods;
}

function mean({ heard }: State, from: number): number {
  const values = heard.filter(({ at }) => at > from);
  return values.reduce((sum, { value }) => sum + value, 0) / Math.max(1, values.length);
}
