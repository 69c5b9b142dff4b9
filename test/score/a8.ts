import { setTimeout as sleep } from "node:timers/promises";
import { startLoad } from "../e2e/cluster/load.ts";
import { withTandem } from "./cluster.ts";
import type { ScoreRow } from "./row.ts";

const RATE = 200;
const WORKERS = 12;
const BACK_MS = 5000;

export const row: ScoreRow = {
  id: "A8",
  fault: `one of 2 replicas ended by SIGKILL at ${RATE} admissions a second, ${WORKERS} at once, endpoint 2 s late, failurePolicy Fail`,
  required: `at most ${2 * WORKERS} failed (those in flight), none later than ${BACK_MS / 1000} s`,
  run: (progress) =>
    withTandem({ failurePolicy: "Fail" }, async (cluster, tandem) => {
      const load = startLoad(cluster.api, { perSecond: RATE, workers: WORKERS });
      const begun = performance.now();
      await sleep(3000);
      const killedAtMs = performance.now() - begun;
      const [victim] = tandem.replicas;
      if (victim !== undefined) await tandem.end(victim, "SIGKILL");
      progress(`killed after ${load.sent()} admissions`);
      await sleep(10_000);
      const { sent, failed, failedAtMs, perSecond, p99Ms, failures } = await load.stop();
      const lastMs = failedAtMs.length === 0 ? 0 : Math.round(Math.max(...failedAtMs) - killedAtMs);
      const first = failures[0] === undefined ? {} : { first: failures[0] };
      const figures = { sent, failed, lastFailureMs: lastMs, perSecond, p99Ms, workers: WORKERS, ...first };
      return { figures, met: failed <= 2 * WORKERS && lastMs < BACK_MS && sent > 2000 };
    }),
};
