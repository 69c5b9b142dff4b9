/** What `tandem autoscale simulate` prints: a line a policy, means over the seeds, and who is beaten in both things. */
import type { ScalingRow } from "../../simulator/scaling/cells.ts";
import { columns, spread } from "../table.ts";

const HEAD = ["policy", "trace", "start-up", "SLO %", "GPU-h", "TTFT p99 ms", "changes", "flips", "dominated by"];

export interface ScalingMean {
  readonly policy: string;
  readonly trace: string;
  readonly startupSeconds: number;
  readonly rows: readonly ScalingRow[];
  readonly sloAttainment: number;
  readonly gpuHours: number;
}

/** Over the seeds of each policy, trace and start-up time, in the order of the rows. */
export const meansOf = (rows: readonly ScalingRow[]): readonly ScalingMean[] =>
  [
    ...Map.groupBy(rows, ({ policy, trace, startupSeconds }) =>
      JSON.stringify([policy, trace, startupSeconds]),
    ).values(),
  ].map((group) => {
    const [first] = group as [ScalingRow, ...ScalingRow[]];
    const { policy, trace, startupSeconds } = first;
    const mean = (of: (row: ScalingRow) => number): number =>
      group.reduce((sum, row) => sum + of(row), 0) / group.length;
    return {
      policy,
      trace,
      startupSeconds,
      rows: group,
      sloAttainment: mean((row) => row.sloAttainment),
      gpuHours: mean((row) => row.gpuHours),
    };
  });

/** Those that kept the promise more often with fewer GPU-hours. */
export const dominators = (mean: ScalingMean, all: readonly ScalingMean[]): readonly ScalingMean[] =>
  all.filter(
    (other) =>
      other.trace === mean.trace &&
      other.startupSeconds === mean.startupSeconds &&
      other.sloAttainment > mean.sloAttainment &&
      other.gpuHours < mean.gpuHours,
  );

export function paretoTable(rows: readonly ScalingRow[]): string {
  const means = meansOf(rows);
  const lines = means.map((mean) =>
    lineOf(
      mean,
      dominators(mean, means).map(({ policy }) => policy),
    ),
  );
  return `${columns([HEAD, ...lines])}\n`;
}

function lineOf({ policy, trace, startupSeconds, rows }: ScalingMean, better: readonly string[]): readonly string[] {
  const over = (of: (row: ScalingRow) => number, digits = 0): string => spread(rows.map(of), digits);
  return [
    ...[policy, trace, `${startupSeconds} s`],
    over(({ sloAttainment }) => 100 * sloAttainment, 2),
    over(({ gpuHours }) => gpuHours, 1),
    over(({ ttftP99Ms }) => ttftP99Ms),
    over(({ changes }) => changes),
    over(({ flips }) => flips),
    better.length === 0 ? "-" : better.join(", "),
  ];
}
