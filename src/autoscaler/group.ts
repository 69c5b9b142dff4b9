/**
 * What the decision core reads and what it returns: one group, that is all workloads of a namespace with one
 * `tandem.sh/group`. Plain values; times are milliseconds of one monotonic clock.
 *
 * Replicas are counted in instances here (an engine over N pods is one): who observes divides, who acts multiplies.
 */
import type { Role } from "../kinds/endpoint.ts";
import type { GroupStatistics } from "../kinds/statistics.ts";
import type { Verdict } from "../kinds/verdict.ts";
import type { GroupScaling, ScalingSpec } from "../workload/scaling.ts";

/** All that is known of a group at one moment. Whatever could not be read is absent, never zero. */
export interface Observation {
  readonly at: number;
  /** For schedules: milliseconds since the Unix epoch. */
  readonly wallClock: number;
  readonly scaling: GroupScaling;
  readonly workloads: readonly WorkloadSeen[];
  readonly instances: readonly InstanceSeen[];
  /** One for each replica of the router that was heard of lately. */
  readonly routers: readonly RouterSeen[];
}

export interface WorkloadSeen {
  /** `namespace/Kind/name` */
  readonly id: string;
  readonly role: Role;
  readonly scaling: ScalingSpec;
  /** What its spec asks for. */
  readonly replicas: number;
  /** Pods of an instance, and how many of its replicas those are: 1 for a LeaderWorkerSet, whose replicas are instances. */
  readonly nodesPerInstance: number;
  readonly replicasPerInstance: number;
  readonly acceleratorsPerInstance: number;
  /** Replicas are split over two templates. */
  readonly isRolling: boolean;
  /** Who else writes its replicas: an HPA, a ScaledObject, a field manager. */
  readonly contestedBy?: string;
  /** What Tandem wrote last, by the workload's own annotation: survives a restart of the autoscaler. */
  readonly lastScaled?: number;
}

/**
 * `unschedulable`: no node for over a minute. `draining`: is ready, gets no new work, and can be taken back. `leaving`: is being
 * deleted. `failing`: restarted or broken; neither supply nor evidence.
 */
export type InstanceState = "unschedulable" | "pending" | "starting" | "ready" | "failing" | "draining" | "leaving";

export interface InstanceSeen {
  /** Uid of its first pod. */
  readonly id: string;
  readonly workload: string;
  readonly state: InstanceState;
  readonly createdAt: number;
  readonly readyAt?: number;
  readonly engine?: EngineSeen;
}

/** Of one engine's metrics page. Counters run since it started. */
export interface EngineSeen {
  readonly at: number;
  readonly running: number;
  readonly waiting: number;
  /** 0 to 1 */
  readonly kvUsage: number;
  readonly kvCapacityTokens?: number;
  /** Prompt tokens that it computed: without those it had cached. */
  readonly promptTokens?: number;
  readonly generatedTokens?: number;
  /** Requests that it runs at once, at most. */
  readonly maxSequences?: number;
}

/** What one replica of the router says of a group, and when that was read. */
export interface RouterSeen extends GroupStatistics {
  readonly id: string;
  readonly at: number;
}

export { LATENCY_BOUNDS_MS } from "../kinds/statistics.ts";

/** What should be, and how that came about. */
export interface Decision {
  readonly at: number;
  readonly workloads: readonly WorkloadDecision[];
  readonly roles: readonly RoleFigures[];
  /** Of the group as a whole. */
  readonly verdicts: readonly Verdict[];
}

export interface WorkloadDecision {
  readonly workload: string;
  readonly from: number;
  /** What is to be written; equal to `from`: nothing. */
  readonly to: number;
  /** What would be written were the mode `auto` and nothing frozen. */
  readonly recommended: number;
  /** From the demand to the number, step by step. */
  readonly chain: readonly Verdict[];
  /** Code of the reason for which it stands still although another number was wanted. */
  readonly frozen?: string;
}

/** For metrics and people. */
export interface RoleFigures {
  readonly role: Role;
  /** Prompt tokens a second (prefill) or generated tokens a second (decode): what comes, and what one instance can do. */
  readonly demand: number;
  readonly capacity: number;
  /** Of the demand, what each forecast adds. */
  readonly forecast: number;
  readonly burst: number;
  readonly backlogSeconds: number;
  readonly isPanicking: boolean;
}
