/** S2: noise that means nothing. */
import { tandem } from "../../src/simulator/scaling/policies/tandem.ts";
import { LIMITS } from "../../src/simulator/scaling/policy.ts";
import { runScaling } from "../../src/simulator/scaling/run.ts";
import { arrivalsOf, SHAPES, type Shape } from "../../src/simulator/scaling/shapes.ts";
import type { ScoreRow } from "./row.ts";

const HOURS = Number(process.env["S2_HOURS"] ?? 24);
const SEEDS = Number(process.env["S2_SEEDS"] ?? 3);
const OBJECTIVES = ["cost", "balanced", "latency"] as const;

const steady = (): Shape => {
  const shape = SHAPES.find(({ name }) => name === "noise");
  if (shape === undefined) throw new Error("there is no shape of noise");
  return { ...shape, hours: HOURS };
};

export const row: ScoreRow = {
  id: "S2",
  fault: `${HOURS} h of 40 requests/s with 30 % of noise by quarter minutes, in virtual time, ${SEEDS} seeds`,
  required: "0 changes of direction once sized; at most 1 in a window",
  run: (progress) => {
    const figures: Record<string, number> = {};
    for (const objective of OBJECTIVES) {
      const runs = Array.from({ length: SEEDS }, (_, index) => {
        const arrivals = arrivalsOf(steady(), index + 1);
        return runScaling({ arrivals, policy: tandem(objective, LIMITS), startupMs: 120_000, seed: index + 1 });
      });
      figures[`${objective}: changes, worst`] = Math.max(...runs.map(({ changes }) => changes));
      figures[`${objective}: flips, worst`] = Math.max(...runs.map(({ flips }) => flips));
      figures[`${objective}: in time, worst`] = Math.min(...runs.map(({ sloAttainment }) => sloAttainment));
      progress(`${objective}: ${figures[`${objective}: flips, worst`]} flips`);
    }
    const worst = Math.max(...OBJECTIVES.map((objective) => figures[`${objective}: flips, worst`] ?? Infinity));
    return Promise.resolve({ figures, met: worst === 0 });
  },
};
