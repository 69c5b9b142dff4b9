/** E3: answers to bindings that are lost, late, 409, 404 or 500, whether or not the pod was bound. */
import { losses } from "../support/binding-campaigns.ts";
import type { ScoreRow } from "./row.ts";

const LOST = 10_000;

export const row: ScoreRow = {
  id: "E3",
  fault: "the answer to a binding is lost, late, 409, 404, 429 or 500, with the pod bound or not; the watch is behind",
  required: `the pod keeps its device and takes no second one, a retry says what is, nothing is left: 0 of ${LOST}`,
  run: async (progress) => {
    const { runs, faults, counts } = await losses(LOST);
    for (const fault of faults.slice(0, 10)) progress(fault);
    return {
      figures: { worlds: runs, ...counts, faults: faults.length },
      met: faults.length === 0 && counts.lost >= LOST,
    };
  },
};
