/** R8: a hundred thousand streams are opened, and stay. */
import { memoryOf, rounded } from "../support/usage.ts";
import { askFor, attack, p99, startTarget } from "./raw-attack.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const CONNECTIONS = 10;
const STREAMS = 100_000;
/** `router.maxStreams` */
const CAP = 2000;
const MOST_MB = 150;
const HOLD_MS = 5000;

async function run(progress: Progress): Promise<ScoreResult> {
  const router = await startTarget();
  try {
    await askFor(router.address, 2000);
    const before = memoryOf(router.pid).rssMb;
    progress(`${before} MB before`);
    const found = attack({ address: router.address, kind: "streams", connections: CONNECTIONS }, HOLD_MS);
    let open = 0;
    const watch = setInterval(
      () => void router.metric("tandem_router_streams").then((now) => (open = Math.max(open, now))),
      500,
    );
    const { told, latenciesMs, failed } = await found;
    clearInterval(watch);
    const grownMb = memoryOf(router.pid).peakMb - before;
    const figures = {
      opened: STREAMS,
      openAtMost: open,
      refused: told.refused,
      grownPeakMb: grownMb,
      peakMb: memoryOf(router.pid).peakMb,
      othersP99Ms: rounded(p99(latenciesMs), 2),
      failed,
    };
    const isCapped = open <= CONNECTIONS * CAP + 1 && told.refused === STREAMS - CONNECTIONS * CAP;
    return { figures, met: isCapped && failed === 0 && grownMb <= MOST_MB };
  } finally {
    await router.stop();
  }
}

export const row: ScoreRow = {
  id: "R8",
  fault: `${STREAMS} streams opened in raw frames over ${CONNECTIONS} connections, and left open`,
  required: `${CAP} of each connection stay, the others are refused; RSS at most ${MOST_MB} MB more; others are served`,
  run,
};
