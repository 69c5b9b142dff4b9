/** E4: the process is killed between any two steps of a world in which pods are being bound. */
import { kills } from "../support/binding-campaigns.ts";
import type { ScoreRow } from "./row.ts";

/** Each is killed after its first, second, ... sixtieth step. */
const WORLDS = 100;
const MOST_MS = 30_000;

export const row: ScoreRow = {
  id: "E4",
  fault: `the process ends without a word at each of 60 steps of ${WORLDS} worlds, with bindings under way; one starts anew`,
  required: `consistent, and everything that has room bound within ${MOST_MS / 1000} s`,
  run: async (progress) => {
    const { faults, counts, worstMs } = await kills(WORLDS, (world) => progress(`${world} of ${WORLDS} worlds`));
    for (const fault of faults.slice(0, 10)) progress(fault);
    const figures = { kills: counts.kills, binds: counts.binds, worstRecoveryMs: worstMs, faults: faults.length };
    return { figures, met: faults.length === 0 && worstMs <= MOST_MS };
  },
};
