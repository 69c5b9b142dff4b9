/** One row of a comparison: a policy over a workload, with a start-up time and a seed. */
import { seededRandom } from "../random.ts";
import { multiplied, type Arrival } from "./arrivals.ts";
import { LIMITS, type Limits } from "./policy.ts";
import { policiesNamed, type ScalingPolicyName } from "./policies/index.ts";
import { runScaling, type Figures, type Moment } from "./run.ts";
import { arrivalsOf, type Shape } from "./shapes.ts";

export type Workload =
  | { readonly kind: "shape"; readonly shape: Shape }
  | { readonly kind: "trace"; readonly name: string; readonly arrivals: readonly Arrival[]; readonly copies: number };

export interface ScalingCell {
  readonly policy: ScalingPolicyName;
  readonly workload: Workload;
  readonly startupSeconds: number;
  readonly seed: number;
}

export interface ScalingRow {
  readonly policy: ScalingPolicyName;
  readonly trace: string;
  readonly startupSeconds: number;
  readonly seed: number;
  readonly requests: number;
  readonly sloAttainment: number;
  readonly gpuHours: number;
  readonly ttftP99Ms: number;
  readonly changes: number;
  readonly flips: number;
}

export interface ScalingOutcome {
  readonly row: ScalingRow;
  readonly course: readonly Moment[];
}

export function runScalingCell(
  cell: ScalingCell,
  onProgress?: (done: number, of: number) => void,
  limits: Limits = LIMITS,
): ScalingOutcome {
  const { policy: name, startupSeconds, seed, workload } = cell;
  const arrivals = arrivalsFor(workload, seed);
  const figures = policiesNamed(name, limits).map((make) =>
    runScaling({
      arrivals,
      policy: make(),
      startupMs: 1000 * startupSeconds,
      seed,
      limits,
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
  );
  const best = figures.reduce((a, b) => (merit(b) > merit(a) ? b : a));
  const { course, ...rest } = best;
  const trace = workload.kind === "shape" ? workload.shape.name : workload.name;
  return { row: { policy: name, trace, startupSeconds, seed, ...rest }, course };
}

const arrivalsFor = (workload: Workload, seed: number): readonly Arrival[] =>
  workload.kind === "shape"
    ? arrivalsOf(workload.shape, seed)
    : multiplied(workload.arrivals, workload.copies, seededRandom(seed));

/** What the best of a grid is best in: attainment in percent, less 0.3 for each GPU-hour (reference autoscaling.md 6.3). */
const merit = ({ sloAttainment, gpuHours }: Figures): number => 100 * sloAttainment - 0.3 * gpuHours;
