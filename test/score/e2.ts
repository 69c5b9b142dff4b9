/** E2: overlapping filters and binds, of callers that give up before they are answered. */
import { overlaps } from "../support/binding-campaigns.ts";
import type { ScoreRow } from "./row.ts";

const RUNS = 100_000;

export const row: ScoreRow = {
  id: "E2",
  fault: "a scheduler that filters and binds several pods at once, gives up early and asks again, behind a slow watch",
  required: `never more bound, being bound and reserved on a node than it has: 0 in ${RUNS} interleavings`,
  run: async (progress) => {
    const { runs, faults, counts } = await overlaps(RUNS, (run) => {
      if (run % 10_000 === 0) progress(`${run} interleavings`);
    });
    for (const fault of faults.slice(0, 10)) progress(fault);
    return { figures: { interleavings: runs, ...counts, faults: faults.length }, met: faults.length === 0 };
  },
};
