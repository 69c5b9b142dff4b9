/** S3: a spike a thousand times as high, and capacities that are a thousand times wrong. */
import { createMemory, decide } from "../../src/autoscaler/decide.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { SteadyGroup } from "../support/observations.ts";
import type { ScoreRow } from "./row.ts";

const RUNS = 500;
const MOST = 20;
const BUDGET = 24;
const PACE = { share: 1, periodMs: 60_000 };

export const row: ScoreRow = {
  id: "S3",
  fault: "1000 times the load for ten minutes, and declared capacities of a thousandth",
  required: "never above the maximum, the budget of accelerators, or the pace",
  run: () => {
    const broken = { max: 0, budget: 0, pace: 0 };
    let highest = 0;
    for (let seed = 1; seed <= RUNS; seed++) highest = Math.max(highest, spike(seed, broken));
    const figures = { runs: RUNS, highest, aboveMax: broken.max, aboveBudget: broken.budget, abovePace: broken.pace };
    return Promise.resolve({ figures, met: broken.max + broken.budget + broken.pace === 0 && highest > 2 });
  },
};

/** The most replicas of both roles that were asked for at once. */
function spike(seed: number, broken: { max: number; budget: number; pace: number }): number {
  const { next } = seededRandom(seed);
  const capacity = next() < 0.5 ? { capacityTokensPerSecond: 1 + 20 * next() } : {};
  const scaling = { ...capacity, maxReplicas: MOST, maxScaleOut: PACE };
  const [group, memory] = [new SteadyGroup(), createMemory()];
  const history: { prefill: number; decode: number }[] = [];
  let counts = { prefill: 2, decode: 2 };
  let highest = 0;
  for (let round = 0; round < 360; round++) {
    history.push(counts);
    const rate = round > 240 ? 5000 : 5;
    const seen = group.after(5000, rate, counts, scaling);
    const { workloads } = decide(memory, { ...seen, scaling: { ...seen.scaling, maxAccelerators: BUDGET } });
    const to = (id: string): number => workloads.find(({ workload }) => workload === id)?.to ?? 0;
    const asked = { prefill: to("prefill"), decode: to("decode") };
    highest = Math.max(highest, asked.prefill + asked.decode);
    if (asked.prefill > MOST || asked.decode > MOST) broken.max += 1;
    if (asked.prefill + asked.decode > BUDGET) broken.budget += 1;
    const past = history.slice(-12);
    for (const role of ["prefill", "decode"] as const) {
      const least = Math.min(...past.map((each) => each[role]));
      if (asked[role] > Math.max(2 * least, least + 1)) broken.pace += 1;
    }
    counts = asked;
  }
  return highest;
}
