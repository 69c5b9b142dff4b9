/**
 * Scaling policies in virtual time: named shapes and a real trace, several start-up times, three seeds.
 * `npm run bench:autoscale -- --help`.
 */
import { existsSync, readFileSync } from "node:fs";
import { paretoTable } from "../../src/cli/autoscale/report.ts";
import { namesOf, numberOf, integerOf } from "../../src/cli/numbers.ts";
import type { ScalingOutcome, ScalingRow } from "../../src/simulator/scaling/cells.ts";
import { REQUESTS_GRID, SCALING_POLICIES, TARGET_GRID } from "../../src/simulator/scaling/policies/index.ts";
import { SHAPES } from "../../src/simulator/scaling/shapes.ts";
import { parsed } from "../support/arguments.ts";
import { targetsOf } from "./autoscale/targets.ts";
import type { Plan } from "./autoscale/worker.ts";
import { onThreads } from "./threads.ts";

const TRACE = new URL("../../../shared/traces/azure_2023_conv.csv", import.meta.url).pathname;
const TRACES = [...SHAPES.map(({ name }) => name), "conversation"] as const;
const HELP = `Scaling policies over simulated pods: requests in time, GPU-hours, changes.

  --traces NAMES      ${TRACES.join(", ")} (all); conversation is --file, each request eight times
  --policies NAMES    ${SCALING_POLICIES.join(", ")} (all)
  --startups SECONDS  from a pod's creation until it serves (15,120,300)
  --seeds N           runs of each (3)
  --file FILE         in Azure's form (${TRACE.replace(/.*\/shared/, "../shared")})
  --beside FILE       what --json printed before: its rows of policies that do not run now count as if they had
  --json              machine-readable rows, and the targets (docs/reference/benchmarks.md)

Grid of hpa-best and kthena-best (waiting requests, KV): ${TARGET_GRID.map(({ waiting, kv }) => `${waiting}/${kv}`).join(" ")}
Grid of hpa-requests-best (requests, KV): ${REQUESTS_GRID.map(({ waiting, kv }) => `${waiting}/${kv}`).join(" ")}

Example:
  npm run --silent bench:autoscale -- --traces diurnal,bursts --startups 120 --seeds 1`;

const text = { type: "string" } as const;
const { values } = parsed({
  options: {
    traces: { ...text, default: "all" },
    policies: { ...text, default: "all" },
    startups: { ...text, default: "15,120,300" },
    seeds: { ...text, default: "3" },
    file: { ...text, default: TRACE },
    beside: { ...text, default: "" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}

function plans(): readonly Plan[] {
  const traces = namesOf("--traces", values.traces, TRACES);
  const policies = namesOf("--policies", values.policies, SCALING_POLICIES);
  const startups = values.startups.split(",").map((each) => numberOf("--startups", each, 1, 3600));
  const seeds = integerOf("--seeds", values.seeds, 1, 100);
  if (traces.includes("conversation") && !existsSync(values.file))
    throw new RangeError(`--file ${values.file}: no such file`);
  return traces.flatMap((trace) =>
    startups.flatMap((startupSeconds) =>
      policies.flatMap((policy) =>
        Array.from({ length: seeds }, (_, seed) => ({
          ...{ policy, startupSeconds, seed: seed + 1 },
          trace: trace === "conversation" ? values.file : trace,
        })),
      ),
    ),
  );
}

function given<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    console.error((error as Error).message);
    process.exit(2);
  }
}

/** Baselines take most of the time, and stay as they are while Tandem's policies are worked on. */
function rowsBeside(asks: readonly Plan[]): readonly ScalingRow[] {
  if (values.beside === "") return [];
  const { rows } = JSON.parse(readFileSync(values.beside, "utf8")) as { rows?: readonly ScalingRow[] };
  if (rows === undefined) throw new RangeError(`--beside ${values.beside}: not what --json prints`);
  const policies = new Set(asks.map(({ policy }) => policy));
  return rows.filter(({ policy }) => !policies.has(policy));
}

const asks = given(plans);
const others = given(() => rowsBeside(asks));
let done = 0;
const outcomes = await onThreads<ScalingOutcome>(asks, {
  worker: new URL("./autoscale/worker.ts", import.meta.url),
  told: ({ row }) => {
    done += 1;
    if (process.stderr.isTTY)
      process.stderr.write(`\r${done} of ${asks.length}: ${row.trace} ${row.policy} seed ${row.seed}      `);
  },
});
if (process.stderr.isTTY) process.stderr.write("\n");
const rows = [...outcomes.map(({ row }) => row), ...others];
const targets = targetsOf(rows);
if (values.json) console.log(JSON.stringify({ rows, targets }, null, 2));
else {
  console.log(paretoTable(rows));
  console.table(targets);
}
