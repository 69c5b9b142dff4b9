/** What an objective trades: how full instances may be, and how much of the bursts that were seen is kept room for. */
import type { Objective } from "../workload/scaling.ts";

export interface Headroom {
  /** Share of an instance that may be busy on average, at most: where load is smooth. */
  readonly prefill: number;
  readonly decode: number;
  /** So many standard deviations of a quarter minute's load are kept room for above its mean. */
  readonly gustiness: number;
  /** Quantile of the busiest quarter minutes of the last half hour for which there is room; 0: none is kept. */
  readonly burst: number;
  /** How full an instance may be in a burst. */
  readonly inBurst: number;
  /** How much of what the last moments have beyond the last minute is followed before it lasts. */
  readonly gusts: number;
}

/** Reference autoscaling.md 5.3, with its open point of 6.3 (headroom by variance); simulated in `npm run bench:autoscale`. */
export const HEADROOM: Readonly<Record<Objective, Headroom>> = {
  cost: { prefill: 0.82, decode: 0.85, gustiness: 2, burst: 0, inBurst: 0.9, gusts: 0 },
  balanced: { prefill: 0.75, decode: 0.8, gustiness: 3, burst: 0.9, inBurst: 0.9, gusts: 0.5 },
  latency: { prefill: 0.65, decode: 0.75, gustiness: 4, burst: 0.99, inBurst: 0.9, gusts: 1 },
};

/** However gusty: beyond, bursts are what the quantile is for. */
const LEAST_USED = 0.55;

/** Share of an instance that may be busy on average, of a role whose load has this noise (standard deviation to mean). */
export const usable = (most: number, noise: number, { gustiness }: Headroom): number =>
  Math.max(LEAST_USED, Math.min(most, 1 / (1 + gustiness * noise)));
