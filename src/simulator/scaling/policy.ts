/** What a scaling policy is given, and what it says: the same for all, each reads what its real one would. */
import type { RouterSeen } from "../../autoscaler/group.ts";
import type { PoolRole, Shrinking } from "./world.ts";

export interface PodView {
  readonly id: string;
  readonly role: PoolRole;
  readonly createdAt: number;
  readonly readyAt: number;
  readonly isReady: boolean;
  readonly isDraining: boolean;
  /** As its metrics page said at the last scrape; of a pod that is not ready there is none. */
  readonly metrics: PodMetrics | undefined;
}

export interface PodMetrics {
  readonly at: number;
  readonly running: number;
  readonly waiting: number;
  readonly kvUsage: number;
  readonly kvCapacityTokens: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly maxSequences: number;
}

export interface View {
  readonly now: number;
  readonly pods: readonly PodView[];
  /** What each role asks for now. */
  readonly asked: Readonly<Record<PoolRole, number>>;
  readonly router: RouterSeen;
}

export type Wanted = Readonly<Record<PoolRole, number>>;

export interface ScalingPolicy {
  /** How often it is asked, and how often its metrics are read. */
  readonly intervalMs: number;
  readonly scrapeMs: number;
  readonly shrinking: Shrinking;
  decide(view: View): Wanted;
}

/** Published autoscalers leave the choice of victims to the ReplicaSet, and cannot call one back. */
export const REPLICA_SET: Shrinking = { victims: "youngest", reclaims: false };

export interface Limits {
  readonly min: Wanted;
  readonly max: Wanted;
  readonly ttftMs: number;
  readonly tpotMs: number;
}

export const LIMITS: Limits = {
  min: { prefill: 1, decode: 1 },
  max: { prefill: 24, decode: 24 },
  ttftMs: 2000,
  tpotMs: 50,
};

export const within = (count: number, role: PoolRole, { min, max }: Limits): number =>
  Math.min(max[role], Math.max(min[role], count));

/** Metrics of the pods of a role that serve. */
export const metricsOf = ({ pods }: View, role: PoolRole): readonly PodMetrics[] =>
  pods.flatMap((pod) =>
    pod.role === role && pod.isReady && pod.metrics !== undefined && !pod.isDraining ? [pod.metrics] : [],
  );
