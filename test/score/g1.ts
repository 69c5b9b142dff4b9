/** G1: two gangs contend for the room of one, behind gates under kube-scheduler and by PodGroups under Volcano. */
import { contest, CONTEST_NODES, nativeContest, type Contest } from "../e2e/cluster/contest.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { startVolcano } from "../e2e/cluster/volcano-scheduler.ts";
import { withTandem } from "./cluster.ts";
import type { Progress, ScoreRow } from "./row.ts";

const RUNS = 50;
const NATIVE_RUNS = 10;
const TOLD_EVERY = 10;

async function contests(cluster: Cluster, path: "gates" | "volcano", progress: Progress): Promise<readonly Contest[]> {
  const results: Contest[] = [];
  for (let run = 1; run <= RUNS; run++) {
    results.push(await contest(cluster, { namespace: path, run, path }));
    if (run % TOLD_EVERY === 0)
      progress(`${path}: ${run} of ${RUNS}, ${empty(results)} with a loser that held nothing`);
  }
  return results;
}

const empty = (results: readonly Contest[]): number => results.filter(({ loserBound }) => loserBound === 0).length;
const median = (results: readonly Contest[]): number =>
  results.map(({ wonAfterMs }) => wonAfterMs).sort((a, b) => a - b)[Math.floor(results.length / 2)] ?? 0;

async function halves(cluster: Cluster): Promise<number> {
  let found = 0;
  for (let run = 1; run <= NATIVE_RUNS; run++) {
    const bound = await nativeContest(cluster, { namespace: "native", run });
    found += Number(bound.every((count) => count > 0));
  }
  return found;
}

export const row: ScoreRow = {
  id: "G1",
  fault: `two gangs of a prefill and two decode pods, devices for one of them; ${RUNS} times under kube-scheduler, ${RUNS} under Volcano`,
  required: `one whole and Running, the other holds nothing, ${RUNS} of ${RUNS} on both`,
  run: (progress) =>
    withTandem({}, async (cluster) => {
      await cluster.addNodes({ count: CONTEST_NODES });
      await cluster.startScheduler();
      for (const namespace of ["gates", "volcano", "native"]) await cluster.must(["create", "namespace", namespace]);
      const gates = await contests(cluster, "gates", progress);
      const volcano = await startVolcano(cluster);
      try {
        const podGroups = await contests(cluster, "volcano", progress);
        const nativeHalves = await halves(cluster);
        const figures = {
          gatesWhole: empty(gates),
          gatesWonAfterMs: median(gates),
          volcanoWhole: empty(podGroups),
          volcanoWonAfterMs: median(podGroups),
          nativeRuns: NATIVE_RUNS,
          nativeHalves,
        };
        return { figures, met: empty(gates) === RUNS && empty(podGroups) === RUNS };
      } finally {
        await volcano.stop();
      }
    }),
};
