/** What an objective trades: how full instances may be, and how much of the bursts that were seen is kept room for. */
import type { Objective } from "../workload/scaling.ts";

export interface Headroom {
  /** Share of an instance that may be busy on average: prefill, decode. */
  readonly prefill: number;
  readonly decode: number;
  /** Quantile of the busiest quarter minutes of the last half hour for which there is room; 0: none is kept. */
  readonly burst: number;
  /** How full an instance may be in a burst. */
  readonly inBurst: number;
  /** How much of what the last moments have beyond the last minute is followed before it lasts. */
  readonly gusts: number;
}

/** Reference autoscaling.md 5.3; simulated in `npm run bench:autoscale`. */
export const HEADROOM: Readonly<Record<Objective, Headroom>> = {
  cost: { prefill: 0.7, decode: 0.8, burst: 0, inBurst: 0.9, gusts: 0 },
  balanced: { prefill: 0.7, decode: 0.8, burst: 0.9, inBurst: 0.9, gusts: 0.5 },
  latency: { prefill: 0.65, decode: 0.75, burst: 0.99, inBurst: 0.9, gusts: 1 },
};
