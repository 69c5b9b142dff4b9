/**
 * Annotations -> ScalingSpec: what a workload says of its replicas, decoded once.
 *
 * Annotations of the workload win over those of its Namespace; what nobody says is the default of the role, in whole
 * steps of whole instances. A value outside the accepted ones, or two that contradict each other, is a denial that names
 * the keys. It decides no number of replicas and never looks at another workload.
 */
import type { KubeObject, Namespace } from "../kinds/kube.ts";
import { ANNOTATION, AUTOSCALING } from "../kinds/names.ts";
import { denied, isDenied, type Verdict } from "../kinds/verdict.ts";
import { reader, type Reader, type Source } from "./reader.ts";
import {
  PREFILL_SCALING,
  SCALING,
  type Fallback,
  type GroupScaling,
  type ScalingMode,
  type ScalingSpec,
} from "./scaling.ts";
import type { WorkloadSpec } from "./spec.ts";

export interface DecodedScaling {
  /** Absent where something is denied. */
  readonly scaling?: ScalingSpec;
  readonly verdicts: readonly Verdict[];
}

/** What of the contract autoscaling depends on. */
export type ScaledSpec = Pick<WorkloadSpec, "kind" | "role" | "mode" | "nodesPerInstance">;

/** Pods of an instance, as the workload counts its replicas: those of a LeaderWorkerSet are whole instances. */
export const replicasPerInstance = ({
  kind,
  nodesPerInstance,
}: Pick<ScaledSpec, "kind" | "nodesPerInstance">): number => (kind === "LeaderWorkerSet" ? 1 : nodesPerInstance);

/** Decodes what a workload says of its scaling, given the rest of its contract. */
export function scalingOf(object: KubeObject, spec: ScaledSpec, namespace?: Namespace): DecodedScaling {
  const own: Source = { map: object.metadata.annotations, of: "" };
  const defaults: Source = { map: namespace?.metadata.annotations, of: " of the Namespace" };
  const readers = [
    reader(undefined, [own, defaults]),
    reader(undefined, [own]),
    reader(undefined, [defaults]),
  ] as const;
  const [reading, mine, theirs] = readers;
  const scaling = { ...workloadScaling(reading, spec), group: groupOf(mine), groupDefaults: groupOf(theirs) };
  const unread = readers.flatMap(({ verdicts }) => verdicts);
  const verdicts = unread.length > 0 ? unread : contradictions(scaling, replicasPerInstance(spec));
  return verdicts.some(isDenied) ? { verdicts } : { scaling, verdicts };
}

/** `observe` is given verdicts and nothing else. */
const bounded = (mode: ScalingMode, spec: ScaledSpec): ScalingMode =>
  spec.mode === "observe" && mode !== "off" ? "recommend" : mode;

function workloadScaling(reading: Reader, spec: ScaledSpec): Omit<ScalingSpec, "group"> {
  const base = spec.role === "prefill" ? PREFILL_SCALING : SCALING;
  const paused = reading.read("paused") ?? false;
  return {
    mode: bounded(reading.read("scalingMode") ?? base.mode, spec),
    ...replicas(reading, base, replicasPerInstance(spec)),
    ...sizing(reading, base),
    ...pacing(reading, base),
    pausedScaleIn: (reading.read("pausedScaleIn") ?? false) || paused,
    pausedScaleOut: (reading.read("pausedScaleOut") ?? false) || paused,
    actuator: reading.read("actuator") ?? base.actuator,
    forceReplicas: reading.read("forceReplicas") ?? base.forceReplicas,
  };
}

type Replicas = Pick<
  ScalingSpec,
  "step" | "minReplicas" | "maxReplicas" | "activationReplicas" | "schedule" | "fallback"
>;

/** Defaults are whole steps of whole instances, so that a step or a size alone contradicts nothing. */
function replicas(reading: Reader, base: ScalingSpec, perInstance: number): Replicas {
  const step = reading.read("step") ?? base.step;
  const unit = step * perInstance;
  return {
    step,
    minReplicas: reading.read("minReplicas") ?? base.minReplicas * unit,
    maxReplicas: reading.read("maxReplicas") ?? Math.max(1, Math.floor(base.maxReplicas / step)) * unit,
    activationReplicas: reading.read("activationReplicas") ?? base.activationReplicas * unit,
    schedule: reading.read("schedule") ?? base.schedule,
    fallback: reading.read("fallback") ?? base.fallback,
  };
}

type Sizing = Pick<
  ScalingSpec,
  "cost" | "capacityTokensPerSecond" | "kvTarget" | "stableWindowMs" | "panicWindowMs" | "panicThreshold"
>;

function sizing(reading: Reader, base: ScalingSpec): Sizing {
  const capacity = reading.read("capacity");
  return {
    cost: reading.read("cost") ?? base.cost,
    ...(capacity === undefined ? {} : { capacityTokensPerSecond: capacity }),
    kvTarget: reading.read("kvTarget") ?? base.kvTarget,
    stableWindowMs: reading.read("stableWindow") ?? base.stableWindowMs,
    panicWindowMs: reading.read("panicWindow") ?? base.panicWindowMs,
    panicThreshold: reading.read("panicThreshold") ?? base.panicThreshold,
  };
}

type Pacing = Pick<ScalingSpec, "scaleInDelayMs" | "maxScaleOut" | "maxScaleIn" | "drainTimeoutMs" | "standbyMs">;

const pacing = (reading: Reader, base: ScalingSpec): Pacing => ({
  scaleInDelayMs: reading.read("scaleInDelay") ?? base.scaleInDelayMs,
  maxScaleOut: reading.read("maxScaleOut") ?? base.maxScaleOut,
  maxScaleIn: reading.read("maxScaleIn") ?? base.maxScaleIn,
  drainTimeoutMs: reading.read("drainTimeout") ?? base.drainTimeoutMs,
  standbyMs: reading.read("standby") ?? base.standbyMs,
});

/** The keys of the group that stand there. */
function groupOf(reading: Reader): Partial<GroupScaling> {
  const said = {
    ttftSloMs: reading.read("ttftSlo"),
    tpotSloMs: reading.read("tpotSlo"),
    objective: reading.read("objective"),
    variants: reading.read("variants"),
    maxAccelerators: reading.read("maxAccelerators"),
    prefillPerDecode: reading.read("prefillPerDecode"),
    idleAfterMs: reading.read("idleAfter"),
  };
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

const refuse = (key: string, message: string): Verdict =>
  denied("ScalingContradict", `${key} ${message}`, { subject: key });

/** A number of replicas, and the key that gave it. */
type Given = readonly [key: string, replicas: number];

const fallbackGiven = (fallback: Fallback): readonly Given[] =>
  fallback.kind === "hold" ? [] : [[AUTOSCALING.fallback, fallback.replicas]];

function allGiven(scaling: ScalingSpec): readonly Given[] {
  const scheduled = scaling.schedule.flatMap(({ min, max }) => [min, max]).filter((value) => value !== undefined);
  return [
    [AUTOSCALING.minReplicas, scaling.minReplicas],
    [AUTOSCALING.maxReplicas, scaling.maxReplicas],
    [AUTOSCALING.activationReplicas, scaling.activationReplicas],
    ...fallbackGiven(scaling.fallback),
    ...scheduled.map((replicas): Given => [AUTOSCALING.schedule, replicas]),
  ];
}

/** The multiples below and above. */
const multiples = (value: number, of: number): string =>
  [Math.floor(value / of) * of, Math.ceil(value / of) * of].filter((one) => one > 0).join(" or ");

/** Half an instance serves nothing, and half a step is never made. */
function broken([key, value]: Given, step: number, perInstance: number): readonly Verdict[] {
  const unit = step * perInstance;
  if (value % unit === 0) return [];
  const nodes = `${ANNOTATION.nodesPerInstance} is ${perInstance}`;
  const why = [...(perInstance > 1 ? [nodes] : []), ...(step > 1 ? [`${AUTOSCALING.step} is ${step}`] : [])];
  return [refuse(key, `is ${value}, but ${why.join(" and ")}; give ${multiples(value, unit)}`)];
}

function contradictions(scaling: ScalingSpec, perInstance: number): readonly Verdict[] {
  const { minReplicas: min, maxReplicas: max, activationReplicas: activation } = scaling;
  if (min > max)
    return [refuse(AUTOSCALING.minReplicas, `is ${min}, above ${AUTOSCALING.maxReplicas}, which is ${max}`)];
  const uneven = allGiven(scaling).flatMap((given) => broken(given, scaling.step, perInstance));
  const outside = fallbackGiven(scaling.fallback)
    .filter(([, value]) => value < min || value > max)
    .map(([key, value]) => refuse(key, `is ${value}; give hold, or ${min} to ${max} as the bounds have it`));
  const late =
    activation > max
      ? [refuse(AUTOSCALING.activationReplicas, `is ${activation}, above ${AUTOSCALING.maxReplicas}, which is ${max}`)]
      : [];
  return [
    ...new Map([...uneven, ...outside, ...late, ...ofWindows(scaling)].map((one) => [one.message, one])).values(),
  ];
}

function ofWindows(scaling: ScalingSpec): readonly Verdict[] {
  const { minReplicas, maxReplicas, stableWindowMs, panicWindowMs } = scaling;
  const crossed = scaling.schedule
    .map(({ min = minReplicas, max = maxReplicas }) => [min, max] as const)
    .filter(([min, max]) => min > max)
    .map(([min, max]) =>
      refuse(AUTOSCALING.schedule, `has a window with min ${min} above max ${max}, the workload's own bounds included`),
    );
  if (panicWindowMs <= stableWindowMs) return crossed;
  const message = `is ${panicWindowMs} ms, longer than ${AUTOSCALING.stableWindow}, which is ${stableWindowMs} ms`;
  return [...crossed, refuse(AUTOSCALING.panicWindow, message)];
}
