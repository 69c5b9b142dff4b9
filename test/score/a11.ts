import { race } from "./certificates.ts";
import type { ScoreRow } from "./row.ts";

const RUNS = 200;
const REPLICAS = 5;

export const row: ScoreRow = {
  id: "A11",
  fault: `${REPLICAS} replicas start with no Secret, ${RUNS} runs with random delays and a tenth of the writes refused (409)`,
  required: "one authority, every leaf chains to the published bundle: 0 mismatches",
  run: async (progress) => {
    const wrong: string[] = [];
    for (let seed = 1; seed <= RUNS; seed++) {
      const found = await race(seed, REPLICAS);
      if (found !== "") wrong.push(`seed ${seed}: ${found}`);
      if (seed % 20 === 0) progress(`${seed} runs, ${wrong.length} wrong`);
    }
    const figures = {
      runs: RUNS,
      replicas: REPLICAS,
      mismatches: wrong.length,
      ...(wrong[0] ? { first: wrong[0] } : {}),
    };
    return { figures, met: wrong.length === 0 };
  },
};
