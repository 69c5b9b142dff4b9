/** ScalingSpecs as annotations, and workloads that carry them. */
import type { KubeObject, StringMap } from "../../src/kinds/kube.ts";
import { AUTOSCALING } from "../../src/kinds/names.ts";
import type { GroupScaling, Pace, ScalingSpec, ScheduleWindow } from "../../src/workload/scaling.ts";
import type { ScaledSpec } from "../../src/workload/scaling-decode.ts";

export const SCALED: ScaledSpec = { kind: "Deployment", role: "decode", mode: "manage", nodesPerInstance: 1 };

/** A Deployment with keys under the prefix of autoscaling, given without it. */
export const scaledObject = (keys: StringMap): KubeObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    name: "w",
    namespace: "n",
    annotations: Object.fromEntries(
      Object.entries(keys).map(([key, value]) => [key.includes("/") ? key : `autoscaling.tandem.sh/${key}`, value]),
    ),
  },
});

const ms = (value: number): string => `${value}ms`;
const pace = ({ share, periodMs }: Pace): string => `${Math.round(share * 100)}%/${periodMs}ms`;

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const time = (minutes: number): string =>
  `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
const window = ({ days, from, to, timeZone, min, max }: ScheduleWindow): string =>
  [
    days.map((day) => DAYS[day]).join(","),
    `${time(from)}-${time(to)}`,
    timeZone,
    ...(min === undefined ? [] : [`min=${min}`]),
    ...(max === undefined ? [] : [`max=${max}`]),
  ].join(" ");

function groupAnnotations(group: Partial<GroupScaling>): Record<string, string | undefined> {
  const duration = (value: number | undefined): string | undefined => (value === undefined ? undefined : ms(value));
  return {
    [AUTOSCALING.ttftSlo]: duration(group.ttftSloMs),
    [AUTOSCALING.tpotSlo]: duration(group.tpotSloMs),
    [AUTOSCALING.objective]: group.objective,
    [AUTOSCALING.maxAccelerators]: group.maxAccelerators?.toString(),
    [AUTOSCALING.prefillPerDecode]: group.prefillPerDecode?.join("-"),
    [AUTOSCALING.variants]: group.variants,
    [AUTOSCALING.idleAfter]: duration(group.idleAfterMs),
  };
}

/** Annotations that say all of it. */
export function annotationsOf(spec: ScalingSpec): Record<string, string> {
  const { fallback } = spec;
  const all: Record<string, string | undefined> = {
    [AUTOSCALING.mode]: spec.mode,
    [AUTOSCALING.minReplicas]: String(spec.minReplicas),
    [AUTOSCALING.maxReplicas]: String(spec.maxReplicas),
    [AUTOSCALING.step]: String(spec.step),
    [AUTOSCALING.cost]: String(spec.cost),
    [AUTOSCALING.capacity]: spec.capacityTokensPerSecond?.toString(),
    [AUTOSCALING.kvTarget]: String(spec.kvTarget),
    [AUTOSCALING.stableWindow]: ms(spec.stableWindowMs),
    [AUTOSCALING.panicWindow]: ms(spec.panicWindowMs),
    [AUTOSCALING.panicThreshold]: String(spec.panicThreshold),
    [AUTOSCALING.scaleInDelay]: ms(spec.scaleInDelayMs),
    [AUTOSCALING.maxScaleOut]: pace(spec.maxScaleOut),
    [AUTOSCALING.maxScaleIn]: pace(spec.maxScaleIn),
    [AUTOSCALING.drainTimeout]: ms(spec.drainTimeoutMs),
    [AUTOSCALING.standby]: ms(spec.standbyMs),
    [AUTOSCALING.activationReplicas]: String(spec.activationReplicas),
    [AUTOSCALING.schedule]: spec.schedule.length === 0 ? undefined : spec.schedule.map(window).join("; "),
    [AUTOSCALING.fallback]: fallback.kind === "hold" ? "hold" : String(fallback.replicas),
    [AUTOSCALING.pausedScaleIn]: String(spec.pausedScaleIn),
    [AUTOSCALING.pausedScaleOut]: String(spec.pausedScaleOut),
    [AUTOSCALING.actuator]: spec.actuator,
    [AUTOSCALING.forceReplicas]: String(spec.forceReplicas),
    ...groupAnnotations(spec.group),
  };
  return Object.fromEntries(Object.entries(all).filter((one): one is [string, string] => one[1] !== undefined));
}
