/** R7: floods of frames that cost the server and not its peer; others are served meanwhile. */
import { memoryOf, rounded } from "../support/usage.ts";
import { askFor, attack, p99, startTarget } from "./raw-attack.ts";
import type { Attack } from "./raw-peers.ts";
import { sizeOf } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

/** Of each flood; the row's full length is 60. */
const SECONDS = sizeOf("R7_SECONDS", 4);
const CONNECTIONS = 10;
const MOST_MB = 64;
const MOST_TIMES = 2;
const KINDS: readonly Attack["kind"][] = [
  "rapidReset",
  "madeYouReset",
  "continuation",
  "ping",
  "pingUnread",
  "settings",
  "settingsUnread",
  "windowUpdate",
  "emptyData",
  "priority",
];

async function run(progress: Progress): Promise<ScoreResult> {
  const router = await startTarget();
  try {
    await askFor(router.address, 3000);
    const quiet = await askFor(router.address, SECONDS * 1000);
    const quietP99 = p99(quiet.latenciesMs);
    const before = memoryOf(router.pid).rssMb;
    const figures: Record<string, number | string> = { quietP99Ms: rounded(quietP99, 2), quietRssMb: before };
    let worst = 0;
    let failed = quiet.failed;
    for (const kind of KINDS) {
      const found = await attack({ address: router.address, kind, connections: CONNECTIONS }, SECONDS * 1000);
      const [took, { rssMb }] = [p99(found.latenciesMs), memoryOf(router.pid)];
      const { goaways, connections, sentMb } = found.told;
      worst = Math.max(worst, took);
      failed += found.failed;
      figures[kind] =
        `p99 ${rounded(took, 2)} ms, rss ${rssMb} MB, ${goaways} of ${connections} connections sent away, ${rounded(sentMb)} MB sent`;
      progress(`${kind}: ${figures[kind]}`);
    }
    const grownMb = memoryOf(router.pid).peakMb - before;
    const times = rounded(worst / quietP99, 2);
    return {
      figures: { ...figures, worstTimesQuiet: times, grownPeakMb: grownMb, failed },
      met: failed === 0 && times <= MOST_TIMES && grownMb <= MOST_MB,
    };
  } finally {
    await router.stop();
  }
}

export const row: ScoreRow = {
  id: "R7",
  fault: `${KINDS.length} floods of raw frames (rapid reset, MadeYouReset, CONTINUATION, PING, SETTINGS, unread ones, WINDOW_UPDATE, empty DATA, PRIORITY) over ${CONNECTIONS} connections that come again as soon as they are sent away, ${SECONDS} s each`,
  required: `alive; p99 of others at most ${MOST_TIMES} times that in peace; RSS at most ${MOST_MB} MB more`,
  run,
};
