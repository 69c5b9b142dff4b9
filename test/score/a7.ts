import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import type { Installation } from "../e2e/cluster/installation.ts";
import { startLoad, type LoadReport } from "../e2e/cluster/load.ts";
import { withTandem } from "./cluster.ts";
import type { Progress, ScoreRow } from "./row.ts";

const RATE = 200;
const LEAST = 4500;

/** Each replica is ended by SIGTERM once another one is ready, as a Deployment rolls; goes on until `least` were sent. */
export async function rollUnderLoad(
  { api }: Cluster,
  tandem: Installation,
  { perSecond, least }: { readonly perSecond: number; readonly least: number },
  progress: Progress = () => undefined,
): Promise<LoadReport & { readonly rolled: number }> {
  const load = startLoad(api, { perSecond });
  await sleep(1000);
  let rolled = 0;
  do {
    const [oldest] = tandem.replicas;
    await tandem.startReplica();
    if (oldest !== undefined) await tandem.end(oldest, "SIGTERM");
    progress(`${++rolled} replicas rolled, ${load.sent()} admissions sent`);
  } while (rolled < 2 || load.sent() < least);
  await sleep(1000);
  return { ...(await load.stop()), rolled };
}

export const row: ScoreRow = {
  id: "A7",
  fault: `2 replicas rolled by SIGTERM one by one at ${RATE} admissions a second, endpoints 2 s late, failurePolicy Fail`,
  required: `0 failed of at least ${LEAST}`,
  run: (progress) =>
    withTandem({ failurePolicy: "Fail" }, async (cluster, tandem) => {
      const report = await rollUnderLoad(cluster, tandem, { perSecond: RATE, least: LEAST }, progress);
      const { sent, failed, untouched, perSecond, p99Ms, rolled, failures } = report;
      const figures = {
        sent,
        failed,
        untouched,
        rolled,
        perSecond,
        p99Ms,
        ...(failures[0] ? { first: failures[0] } : {}),
      };
      return { figures, met: failed === 0 && untouched === 0 && sent >= LEAST };
    }),
};
