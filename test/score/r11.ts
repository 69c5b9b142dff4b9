/** R11: prompts that nobody repeats, and model names that nobody serves: memory and metrics stay what they are. */
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { createBlockHasher } from "../../src/router/kv/blocks.ts";
import { geometryFor, HistoryIndex } from "../../src/router/kv/history.ts";
import { LoadBook } from "../../src/router/load.ts";
import { createRouter } from "../../src/router/route.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";
import { randomOf } from "../support/hostile.ts";
import { memoryOf } from "../support/usage.ts";
import { JSON_POST, promptOf, sizeOf } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const PREFIXES = sizeOf("R11_PREFIXES", 10_000_000);
const NAMES = sizeOf("R11_NAMES", 100_000);
const BLOCKS = 10;
const ENDPOINTS = 100;
const MOST_SERIES = 1000;
/** What the process may grow by, beside the bytes that the index is given. */
const SLACK = 0.1;
const SEED = 20261;
const NOTHING = (): undefined => undefined;

const { maxBytes, maxEndpoints } = loadConfig({}).router.index;
const MIB = 2 ** 20;

interface Filled {
  readonly growthMb: number;
  readonly blocks: number;
  /** Of the last thousand prompts, how many are found where they were sent. */
  readonly newestFound: number;
  /** Blocks recorded in a microsecond of CPU, before the memory was full and at the end. */
  readonly rate: number;
  readonly rateWhenFull: number;
}

/** Every block is one that was never seen, and no engine's capacity is reached: the memory alone is the limit. */
function fill(progress: Progress): Filled {
  const before = memoryOf(process.pid).rssMb;
  const index = new HistoryIndex(geometryFor(maxBytes, maxEndpoints), PREFIXES);
  const random = randomOf(SEED);
  const cpu = process.cpuUsage();
  const keys = new Int32Array(2 * BLOCKS);
  const spent = new Map<number, number>();
  let newest: { endpoint: string; keys: Int32Array }[] = [];
  for (let done = 0; done < PREFIXES; done += BLOCKS) {
    if (done % (PREFIXES / 20) === 0) spent.set(done / PREFIXES, process.cpuUsage(cpu).user);
    for (let at = 0; at < keys.length; at++) keys[at] = (random() * 2 ** 32) | 0;
    const endpoint = `e${(done / BLOCKS) % ENDPOINTS}`;
    index.record(endpoint, keys);
    if (done >= PREFIXES - 1000 * BLOCKS) newest = [...newest, { endpoint, keys: keys.slice() }];
    if (done % (PREFIXES / 5) === 0) progress(`${done} prefixes, ${index.blocks} held`);
  }
  // Filled to three quarters with the first tenth, from a cold start.
  const rateOf = (from: number, to: number): number =>
    Math.round((100 * (to - from) * PREFIXES) / ((spent.get(to) ?? 0) - (spent.get(from) ?? 0))) / 100;
  const growthMb = memoryOf(process.pid).rssMb - before;
  const newestFound = newest.filter((each) => index.match(each.keys).of(each.endpoint) === BLOCKS).length;
  return { growthMb, blocks: index.blocks, newestFound, rate: rateOf(0, 0.1), rateWhenFull: rateOf(0.5, 0.95) };
}

const seriesOf = (page: string): number =>
  page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;

interface Named {
  readonly seriesBefore: number;
  readonly series: number;
  readonly growthMb: number;
  /** Answers other than 404. */
  readonly wrong: number;
}

/** Every request names another model, in the longest and oddest ways that a client may. */
async function name(): Promise<Named> {
  const entries = [{ address: "127.0.0.1:9", role: "both", model: "m" }];
  const { router: config } = loadConfig({ text: JSON.stringify({ router: { endpoints: { static: entries } } }) });
  const known = staticEndpoints(config.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
  const metrics = createMetrics();
  const router = createRouter({
    ...{ config, metrics, loads: new LoadBook(), hasher: createBlockHasher(), log: SILENT_LOG },
    ...{ clock: systemClock, timers: systemTimers, random: systemRandom, directory: { list: () => known } },
    client: { send: () => Promise.resolve({ kind: "refused", detail: "" }) },
    index: new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 1000),
    incompatible: NOTHING,
  });
  const ask = async (model: string): Promise<number> => {
    const body = Buffer.from(promptOf(model, "hello"));
    const { ticket, routed } = router.begin({ method: "POST", path: "/v1/completions", headers: JSON_POST, body });
    const outcome = await routed;
    ticket.finish();
    return outcome.kind === "answer" ? outcome.status : 200;
  };
  const nameOf = (number: number): string => `model-${number}-${"x".repeat(number % 240)}\n"{le="`.slice(0, 256);
  for (let number = 0; number < 1000; number++) await ask(nameOf(number));
  const seriesBefore = seriesOf(await metrics.page());
  const before = memoryOf(process.pid).rssMb;
  let wrong = 0;
  for (let number = 1000; number < NAMES; number++) if ((await ask(nameOf(number))) !== 404) wrong += 1;
  const series = seriesOf(await metrics.page());
  return { seriesBefore, series, growthMb: memoryOf(process.pid).rssMb - before, wrong };
}

async function run(progress: Progress): Promise<ScoreResult> {
  const { growthMb, blocks, newestFound, rate, rateWhenFull } = fill(progress);
  const named = await name();
  const figures = {
    ...{ prefixes: PREFIXES, budgetMb: maxBytes / MIB, growthMb, blocks, newestFound },
    ...{ blocksPerCpuMicro: rate, blocksPerCpuMicroWhenFull: rateWhenFull },
    ...{ names: NAMES, seriesBefore: named.seriesBefore, series: named.series, namesGrowthMb: named.growthMb },
    wrong: named.wrong,
  };
  const held = growthMb <= (1 + SLACK) * (maxBytes / MIB) && newestFound >= 990 && rateWhenFull >= rate / 2;
  return { figures, met: held && named.wrong === 0 && named.series <= MOST_SERIES };
}

export const row: ScoreRow = {
  id: "R11",
  fault: `${PREFIXES} distinct prefixes on ${ENDPOINTS} endpoints; ${NAMES} distinct model names`,
  required: `the index grows to its ${maxBytes / MIB} MiB and no more than ${100 * SLACK} % beyond, still finds the newest, and learns at least half as fast as before it was full; 404 for each name, at most ${MOST_SERIES} series of metrics`,
  run,
};
