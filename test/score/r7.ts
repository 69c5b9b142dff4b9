/** R7: floods of frames that cost the server and not its peer; others are served meanwhile. */
import { cpuMsOf, memoryOf, rounded } from "../support/usage.ts";
import { askFor, attack, p99, startTarget } from "./raw-attack.ts";
import type { Attack } from "./raw-peers.ts";
import { sizeOf, type RouterProcess } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

/** Of each flood; the row's full length is 60. */
const SECONDS = sizeOf("R7_SECONDS", 4);
/** The heap of a young process grows whoever asks. */
const WARMUP_MS = sizeOf("R7_WARMUP_SECONDS", 15) * 1000;
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

interface Flooded {
  readonly line: string;
  readonly times: number;
  readonly failed: number;
}

/** In peace and under the flood, one right after the other: the machine has other work, too. */
async function flood(router: RouterProcess, kind: Attack["kind"]): Promise<Flooded> {
  const cpu = [cpuMsOf(router.pid)];
  const quiet = await askFor(router.address, SECONDS * 1000);
  cpu.push(cpuMsOf(router.pid));
  const found = await attack({ address: router.address, kind, connections: CONNECTIONS }, SECONDS * 1000);
  const [before, during] = [p99(quiet.latenciesMs), p99(found.latenciesMs)];
  const { goaways, connections, sentMb } = found.told;
  const [start = 0, middle = 0] = cpu;
  const line =
    `p99 ${rounded(before, 2)} ms in peace, ${rounded(during, 2)} ms now, CPU ${middle - start} and ${cpuMsOf(router.pid) - middle} ms, rss ${memoryOf(router.pid).rssMb} MB, ` +
    `${goaways} of ${connections} connections sent away, ${rounded(sentMb)} MB sent`;
  return { line, times: rounded(during / before, 2), failed: quiet.failed + found.failed };
}

async function run(progress: Progress): Promise<ScoreResult> {
  const router = await startTarget();
  try {
    await askFor(router.address, WARMUP_MS);
    const before = memoryOf(router.pid).rssMb;
    const figures: Record<string, number | string> = { quietRssMb: before };
    let [worst, failed] = [0, 0];
    for (const kind of KINDS) {
      const found = await flood(router, kind);
      worst = Math.max(worst, found.times);
      failed += found.failed;
      figures[kind] = found.line;
      progress(`${kind}: ${found.line}`);
    }
    const grownMb = memoryOf(router.pid).peakMb - before;
    return {
      figures: { ...figures, worstTimesQuiet: worst, grownPeakMb: grownMb, failed },
      met: failed === 0 && worst <= MOST_TIMES && grownMb <= MOST_MB,
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
