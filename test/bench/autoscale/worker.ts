/** Runs cells of bench:autoscale on a thread of its own: one at a time, each asked for by its plan. */
import { readFileSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { parseArrivals, type Arrival } from "../../../src/simulator/scaling/arrivals.ts";
import { runScalingCell, type ScalingOutcome, type Workload } from "../../../src/simulator/scaling/cells.ts";
import type { ScalingPolicyName } from "../../../src/simulator/scaling/policies/index.ts";
import { SHAPES } from "../../../src/simulator/scaling/shapes.ts";

/** What can be sent to a thread. */
export interface Plan {
  readonly policy: ScalingPolicyName;
  /** A shape's name, or the path of a trace. */
  readonly trace: string;
  readonly startupSeconds: number;
  readonly seed: number;
}

/** A trace of a small service is made one of so many times its size. */
const COPIES = 8;
const traces = new Map<string, readonly Arrival[]>();

function workloadOf(trace: string): Workload {
  const shape = SHAPES.find(({ name }) => name === trace);
  if (shape !== undefined) return { kind: "shape", shape };
  const arrivals = traces.get(trace) ?? parseArrivals(readFileSync(trace, "utf8"));
  traces.set(trace, arrivals);
  return { kind: "trace", name: "conversation", arrivals, copies: COPIES };
}

parentPort?.on("message", ({ trace, ...plan }: Plan) => {
  const outcome: ScalingOutcome = runScalingCell({ ...plan, workload: workloadOf(trace) });
  parentPort?.postMessage(outcome);
});
