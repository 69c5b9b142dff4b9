/** What the rows are to show, and whether they do. */
import { dominators, meansOf, type ScalingMean } from "../../../src/cli/autoscale/report.ts";
import type { ScalingRow } from "../../../src/simulator/scaling/cells.ts";

export interface Target {
  readonly trace: string;
  readonly startupSeconds: number;
  readonly what: string;
  readonly seen: number | string;
  readonly wanted: string;
  readonly met: boolean;
}

/** Load that changes slowly against a pod's start. */
const SMOOTH = ["diurnal", "conversation"];
const OURS = ["tandem-cost", "tandem-balanced", "tandem-latency"];

export function targetsOf(rows: readonly ScalingRow[]): readonly Target[] {
  const means = meansOf(rows);
  const cells = [
    ...Map.groupBy(means, ({ trace, startupSeconds }) => JSON.stringify([trace, startupSeconds])).values(),
  ];
  return cells.flatMap((cell) => [...smooth(cell), ...undominated(cell), ...steady(cell)]);
}

const named = (cell: readonly ScalingMean[], name: string): ScalingMean | undefined =>
  cell.find(({ policy }) => policy === name);

/** Against the HPA that was tuned best, as it is published, and on a metric that nobody's guide has. */
function smooth(cell: readonly ScalingMean[]): readonly Target[] {
  const cost = named(cell, "tandem-cost");
  if (cost === undefined || !SMOOTH.includes(cost.trace)) return [];
  const { trace, startupSeconds } = cost;
  const attained: Target = {
    ...{ trace, startupSeconds, what: "tandem-cost in time" },
    ...{ seen: round(cost.sloAttainment, 5), wanted: ">= 0.999", met: cost.sloAttainment >= 0.999 },
  };
  const against = ["hpa-best", "hpa-requests-best"].flatMap((name): Target[] => {
    const hpa = named(cell, name);
    if (hpa === undefined) return [];
    const seen = round(cost.gpuHours / hpa.gpuHours, 3);
    const what = `GPU-hours of tandem-cost to ${name} (${(100 * hpa.sloAttainment).toFixed(2)} % in time)`;
    return [{ trace, startupSeconds, what, seen, wanted: "<= 0.75", met: seen <= 0.75 }];
  });
  return [attained, ...against];
}

/** No baseline keeps the promise more often with fewer GPU-hours. */
const undominated = (cell: readonly ScalingMean[]): readonly Target[] =>
  cell
    .filter(({ policy }) => OURS.includes(policy))
    .map((mean) => {
      const better = dominators(mean, cell).filter(({ policy }) => !OURS.includes(policy));
      const told = better.map(
        ({ policy, sloAttainment, gpuHours }) =>
          `${policy} ${(100 * sloAttainment).toFixed(2)} % at ${gpuHours.toFixed(1)} h`,
      );
      const own = `${(100 * mean.sloAttainment).toFixed(2)} % at ${mean.gpuHours.toFixed(1)} h`;
      const { trace, startupSeconds, policy } = mean;
      const seen = better.length === 0 ? own : `${own}; ${told.join("; ")}`;
      return {
        trace,
        startupSeconds,
        what: `${policy} is dominated by nobody`,
        seen,
        wanted: "none",
        met: better.length === 0,
      };
    });

/** Nothing is to go back and forth; sizing for the first time may be corrected once. */
const steady = (cell: readonly ScalingMean[]): readonly Target[] =>
  cell
    .filter(({ policy, trace }) => OURS.includes(policy) && trace === "noise")
    .map(({ policy, trace, startupSeconds, rows }) => {
      const seen = Math.max(...rows.map(({ flips }) => flips));
      return {
        trace,
        startupSeconds,
        what: `${policy}: changes of direction, the worst seed`,
        seen,
        wanted: "<= 0",
        met: seen <= 0,
      };
    });

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
