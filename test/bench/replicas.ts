/**
 * What a second router costs: mean time to first token with two replicas against one, in virtual time; replicas that
 * tell each other of their work, and blind ones. `npm run bench:replicas -- --help`.
 */
import { loadConfig } from "../../src/config/load.ts";
import { drive } from "../../src/simulator/routing/drive.ts";
import { tandem, type TandemOptions } from "../../src/simulator/routing/policies/tandem.ts";
import { TRACE_MODEL } from "../../src/simulator/routing/scenes.ts";
import { BLOCK_TOKENS, conversations, type SimulatedRequest } from "../../src/simulator/routing/workload.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { quantile, rounded } from "../support/usage.ts";
import { parsed } from "../support/arguments.ts";

const { values } = parsed({
  options: {
    rate: { type: "string", default: "24" },
    seconds: { type: "string", default: "180" },
    seeds: { type: "string", default: "3" },
    engines: { type: "string", default: "8" },
    replicas: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`What several replicas of the router cost in mean time to first token, against one; simulated.

  --rate N      requests a second over all engines (24)
  --seconds N   simulated, after a minute that warms up (180)
  --seeds N     runs of each, of other conversations (3)
  --engines N   of Llama-3.1-8B on one H200 (8)
  --replicas N  of the router (2)
  --json        machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:replicas -- --rate 20 --json`);
  process.exit(0);
}
const [RATE, SECONDS, SEEDS, ENGINES, REPLICAS] = [
  ...[values.rate, values.seconds, values.seeds, values.engines, values.replicas].map(Number),
] as [number, number, number, number, number];
if (![RATE, SECONDS, SEEDS, ENGINES, REPLICAS].every((value) => Number.isInteger(value) && value > 0)) {
  console.error("--rate, --seconds, --seeds, --engines and --replicas take positive integers");
  process.exit(2);
}
const WARM_SECONDS = 60;
/** With the 50 ms between two pushes: the 100 ms within which every replica knows of a pick. */
const DELTA_MS = 50;

interface Variant {
  readonly replicas: number;
  /** What a replica knows of the others' load, and of what they sent where; all and all is what ships. */
  readonly load: "all" | "own";
  readonly index: "all" | "own";
}
const VARIANTS: readonly Variant[] = [
  { replicas: 1, load: "all", index: "all" },
  { replicas: REPLICAS, load: "all", index: "all" },
  { replicas: REPLICAS, load: "own", index: "all" },
  { replicas: REPLICAS, load: "all", index: "own" },
  { replicas: REPLICAS, load: "own", index: "own" },
];

const config = loadConfig({}).router;

interface Row extends Variant {
  readonly seed: number;
  readonly requests: number;
  readonly ttftMs: { readonly mean: number; readonly p50: number; readonly p99: number };
  readonly hitRate: number;
  readonly toOneMean: number;
}

async function measure(variant: Variant, seed: number, requests: readonly SimulatedRequest[]): Promise<Row> {
  const options: TandemOptions = {
    ...{ config, routers: variant.replicas, log: SILENT_LOG, metrics: NO_METRICS },
    shares: { load: variant.load === "all", index: variant.index === "all", deltaMs: DELTA_MS },
  };
  const outcomes = await drive({
    policy: (world) => tandem(options, world),
    workload: { requests, blockTokens: BLOCK_TOKENS },
    topology: { both: ENGINES, prefill: 0, decode: 0 },
    ...{ model: TRACE_MODEL, seed },
  });
  const counted = outcomes.filter(({ at }) => at >= WARM_SECONDS * 1000);
  const ttftMs = counted.map((outcome) => outcome.ttftMs);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const hitRate =
    sum(counted.map(({ cachedTokens }) => cachedTokens)) / sum(counted.map(({ promptTokens }) => promptTokens));
  const mean = sum(ttftMs) / ttftMs.length;
  const times = { mean: rounded(mean), p50: rounded(quantile(ttftMs, 0.5)), p99: rounded(quantile(ttftMs, 0.99)) };
  return { ...variant, seed, requests: ttftMs.length, ttftMs: times, hitRate: rounded(hitRate, 3), toOneMean: 1 };
}

const rows: Row[] = [];
for (let seed = 1; seed <= SEEDS; seed++) {
  const requests = conversations({ seed, requestsPerSecond: RATE, seconds: WARM_SECONDS + SECONDS });
  let one: number | undefined;
  for (const variant of VARIANTS) {
    const row = await measure(variant, seed, requests);
    one ??= row.ttftMs.mean;
    rows.push({ ...row, toOneMean: rounded(row.ttftMs.mean / one, 3) });
    if (process.stderr.isTTY) process.stderr.write(`${JSON.stringify(rows.at(-1))}\n`);
  }
}
if (values.json) console.log(JSON.stringify({ rows }, null, 2));
else console.table(rows.map(({ ttftMs, ...row }) => ({ ...row, ...ttftMs })));
