/**
 * What a workload's `autoscaling.tandem.sh/` annotations come to: bounds, objectives, windows and who acts. Decoded by
 * `scaling-decode.ts` with the table of keys (`scaling-keys.ts`); nothing here decides how many replicas there should be.
 */
export type ScalingMode = "off" | "recommend" | "scale-up-only" | "auto";
export type Objective = "cost" | "balanced" | "latency";
/** Which of several workloads of a role grows first: by cost of measured work, or as Kthena orders them. */
export type VariantOrder = "measured" | "kthena";

/** At most this share of the replicas (at least one) in each period. */
export interface Pace {
  /** 1 doubles. */
  readonly share: number;
  readonly periodMs: number;
}

/** A floor, or another ceiling, at certain times of the week. */
export interface ScheduleWindow {
  /** 0 is Sunday. */
  readonly days: readonly number[];
  /** Minutes since midnight in that time zone; `to` below `from` reaches into the next day. */
  readonly from: number;
  readonly to: number;
  /** IANA name. */
  readonly timeZone: string;
  readonly min?: number;
  readonly max?: number;
}

/** What the metrics of a role being lost for five minutes leads to. */
export type Fallback = { readonly kind: "hold" } | { readonly kind: "replicas"; readonly replicas: number };

/** Of one workload. Replicas are the workload's own: pods, not instances. */
export interface ScalingSpec {
  readonly mode: ScalingMode;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Instances that come and go together. */
  readonly step: number;
  /** Of one replica, in any unit that the group's workloads share. */
  readonly cost: number;
  /** Prompt tokens (prefill) or generated tokens (decode) of one instance; learned where absent. */
  readonly capacityTokensPerSecond?: number;
  /** Share of the KV cache that may be in use. */
  readonly kvTarget: number;
  readonly stableWindowMs: number;
  readonly panicWindowMs: number;
  /** Panic begins where the need of the last moments is so many times what is ready. */
  readonly panicThreshold: number;
  readonly scaleInDelayMs: number;
  readonly maxScaleOut: Pace;
  readonly maxScaleIn: Pace;
  readonly drainTimeoutMs: number;
  /** So long an instance that drained stays, to be taken back at once. */
  readonly standbyMs: number;
  readonly activationReplicas: number;
  readonly schedule: readonly ScheduleWindow[];
  readonly fallback: Fallback;
  readonly pausedScaleIn: boolean;
  readonly pausedScaleOut: boolean;
  /** `keda`: the number is served to KEDA; `none`: it is only told. */
  readonly actuator: "scale" | "keda" | "none";
  /** Where `kubectl apply` may set replicas although the autoscaler does. */
  readonly forceReplicas: boolean;
  /** What this workload says of its whole group; others may be silent. */
  readonly group: Partial<GroupScaling>;
  /** What its Namespace says of every group: holds where no workload of the group says anything. */
  readonly groupDefaults?: Partial<GroupScaling>;
}

/** Of a group: said once, on any of its workloads. */
export interface GroupScaling {
  /** 90th percentile of the time to first token. */
  readonly ttftSloMs: number;
  /** 90th percentile of the time between tokens. */
  readonly tpotSloMs: number;
  readonly objective: Objective;
  readonly variants: VariantOrder;
  /** Devices of all its workloads together. */
  readonly maxAccelerators?: number;
  /** Prefill instances for each decode instance: least and most. */
  readonly prefillPerDecode?: readonly [least: number, most: number];
  /** So long without a request before it goes to zero, where minimums allow. */
  readonly idleAfterMs: number;
}

export const GROUP_SCALING: GroupScaling = {
  ttftSloMs: 2000,
  tpotSloMs: 50,
  objective: "balanced",
  variants: "measured",
  idleAfterMs: 600_000,
};

/** Where an annotation is absent. */
export const SCALING: ScalingSpec = {
  mode: "off",
  minReplicas: 1,
  maxReplicas: 10,
  step: 1,
  cost: 1,
  kvTarget: 0.75,
  stableWindowMs: 60_000,
  panicWindowMs: 15_000,
  panicThreshold: 1.5,
  scaleInDelayMs: 300_000,
  maxScaleOut: { share: 1, periodMs: 60_000 },
  maxScaleIn: { share: 0.25, periodMs: 60_000 },
  drainTimeoutMs: 300_000,
  standbyMs: 0,
  activationReplicas: 1,
  schedule: [],
  fallback: { kind: "hold" },
  pausedScaleIn: false,
  pausedScaleOut: false,
  actuator: "scale",
  forceReplicas: false,
  group: {},
};

/** Prefill drains in seconds and is sized by work that comes at once, so that it may go sooner. */
export const PREFILL_SCALING: ScalingSpec = { ...SCALING, scaleInDelayMs: 180_000, drainTimeoutMs: 60_000 };

/** True where the number becomes replicas by itself: by Tandem, or by KEDA that asks it. */
export const setsReplicas = ({ mode, actuator }: Pick<ScalingSpec, "mode" | "actuator">): boolean =>
  (mode === "auto" || mode === "scale-up-only") && actuator !== "none";
