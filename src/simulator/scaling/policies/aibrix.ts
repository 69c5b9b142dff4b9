/** AIBrix' APA (vllm-project/aibrix pkg/controller/podautoscaler/algorithm/apa.go), with the cooldown of its controller. */
import { metricsOf, REPLICA_SET, within, type Limits, type ScalingPolicy, type View } from "../policy.ts";
import type { PoolRole } from "../world.ts";
import { metricOf, targetOf, type Targets } from "./simple.ts";

const RESYNC_MS = 10_000;
const WINDOW_MS = 180_000;
const TOLERANCE = 0.1;
const RATE = 2;
/** scale-down-cooldown-window; up 0. Going down it takes the least of the window, as its code does. */
const COOLDOWN_MS = 300_000;

interface State {
  readonly heard: { readonly at: number; readonly value: number }[];
  readonly said: { readonly at: number; readonly count: number }[];
}

export function aibrix(targets: Targets, limits: Limits): ScalingPolicy {
  const states: Record<PoolRole, State> = { prefill: { heard: [], said: [] }, decode: { heard: [], said: [] } };
  const size = (view: View, role: PoolRole): number => {
    const count = within(recommend(states[role], view, { role, target: targetOf(role, targets) }), role, limits);
    return stabilized(states[role], view, { role, count });
  };
  return {
    ...{ intervalMs: RESYNC_MS, scrapeMs: RESYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => ({ prefill: size(view, "prefill"), decode: size(view, "decode") }),
  };
}

function recommend(
  state: State,
  view: View,
  { role, target }: { readonly role: PoolRole; readonly target: number },
): number {
  const { now } = view;
  const values = metricsOf(view, role).map((metrics) => metricOf(role, metrics));
  const current = view.asked[role];
  if (values.length === 0) return current;
  state.heard.push({ at: now, value: values.reduce((sum, value) => sum + value, 0) / values.length });
  while ((state.heard[0]?.at ?? now) < now - WINDOW_MS) state.heard.shift();
  const used = state.heard.reduce((sum, { value }) => sum + value, 0) / state.heard.length / target;
  if (used > 1 + TOLERANCE) return Math.min(Math.ceil(current * used), Math.ceil(current * RATE));
  if (used < 1 - TOLERANCE) return Math.max(Math.ceil(current * used), Math.floor(current / RATE));
  return current;
}

function stabilized(
  { said }: State,
  { now, asked }: View,
  { role, count }: { readonly role: PoolRole; readonly count: number },
): number {
  said.push({ at: now, count });
  while ((said[0]?.at ?? now) < now - COOLDOWN_MS) said.shift();
  return count < asked[role] ? Math.min(...said.map((entry) => entry.count)) : count;
}
