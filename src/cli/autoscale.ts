/** `tandem autoscale simulate`: a workload over scaling policies and simulated pods, in virtual time. Pure figures. */
import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { parseArrivals } from "../simulator/scaling/arrivals.ts";
import { runScalingCell, type ScalingCell, type ScalingOutcome, type Workload } from "../simulator/scaling/cells.ts";
import { LIMITS } from "../simulator/scaling/policy.ts";
import { SCALING_POLICIES, type ScalingPolicyName } from "../simulator/scaling/policies/index.ts";
import { SHAPES } from "../simulator/scaling/shapes.ts";
import { coursePlot } from "./autoscale/plot.ts";
import { paretoTable } from "./autoscale/report.ts";
import type { Register } from "./index.ts";
import { UsageError } from "./input.ts";
import { integerOf, namesOf, numberOf } from "./numbers.ts";
import { progressLine } from "./simulate/report.ts";

interface AutoscaleOptions {
  readonly trace?: string;
  readonly policy: string;
  readonly startup: string;
  readonly seeds: string;
  readonly copies: string;
  readonly output: string;
}

const EXAMPLE = `
Policies: ${SCALING_POLICIES.join(", ")}.
-best is the best of nine pairs of targets, chosen after the fact. hpa-requests-best scales prefill by all requests in its
pods instead of those that wait, which is no guide's but much better.
Shapes:
${SHAPES.map(({ name, description }) => `  ${name.padEnd(10)}${description}`).join("\n")}

A trace is CSV with the head TIMESTAMP,ContextTokens,GeneratedTokens (Azure's), or a JSON object a line (Mooncake's).

Pods are simulated: prefill 12,000 tokens/s, a decode step 12 ms and 0.12 ms more for each sequence and 0.06 us for each
token of KV, 250,000 tokens of KV, 256 sequences. All policies begin with 4 prefill and 3 decode pods, of 1 to 24 each;
static asks for 12 and 7 at once, which the shapes need at their peaks. A small or short trace says little of tandem-*:
while nothing is known of what a pod can do, they take none of the first seven away; --copies makes the load larger.
SLO is the share of requests with their first token within ${LIMITS.ttftMs} ms and the others within ${LIMITS.tpotMs} ms each; GPU-h counts pods that
start and drain; flips are changes in the other direction than the one before.

Example:
  tandem autoscale simulate --trace diurnal --policy tandem-cost,hpa-best,static
  tandem autoscale simulate --trace azure_2023_conv.csv --copies 8 --policy all --startup 60 --seeds 3 -o json
  tandem autoscale simulate --trace bursts --policy tandem-balanced,kthena -o svg > scaling.svg`;

export const registerAutoscale: Register = (program, exit) => {
  const autoscale = program.command("autoscale").description("What the autoscaler would do.");
  autoscale
    .command("simulate")
    .description(
      "Runs a workload through the autoscaler's own decisions, and published scaling policies, over simulated pods.",
    )
    .option("--trace <file|shape>", "requests in Azure's or Mooncake's form, or a named shape")
    .option("--policy <name,...>", "scaling policies, or all", "tandem-balanced")
    .option("--startup <seconds>", "from a pod's creation until it serves; several after commas", "120")
    .option("--seeds <n>", "runs of each, of other chance", "1")
    .option("--copies <n>", "of each request of a trace, within five seconds of it: a larger service", "1")
    .option("-o, --output <format>", "table, json or svg", "table")
    .addHelpText("after", EXAMPLE)
    .action((options: AutoscaleOptions) => exit(simulateScaling(options)));
};

const OUTPUTS: Readonly<Record<string, (outcomes: readonly ScalingOutcome[]) => string>> = {
  table: (outcomes) => paretoTable(outcomes.map(({ row }) => row)),
  json: (outcomes) => `${JSON.stringify({ rows: outcomes.map(({ row }) => row) }, null, 2)}\n`,
  svg: coursePlot,
};

/** Each takes a second or ten. */
const MOST_CELLS = 10_000;
/** Of a run, which keeps them all: some 200 bytes each. */
const MOST_REQUESTS = 5_000_000;

function simulateScaling(options: AutoscaleOptions): number {
  const print = Object.hasOwn(OUTPUTS, options.output) ? OUTPUTS[options.output] : undefined;
  if (print === undefined)
    throw new UsageError(`-o ${options.output}: accepted are ${Object.keys(OUTPUTS).join(", ")}`);
  const cells = cellsOf(options);
  const outcomes = cells.map((cell, number) => {
    const progress = progressLine(`${number + 1} of ${cells.length}: ${cell.policy}, seed ${cell.seed}`);
    return runScalingCell(cell, progress);
  });
  process.stdout.write(print(outcomes));
  return 0;
}

function cellsOf(options: AutoscaleOptions): readonly ScalingCell[] {
  const workload = workloadOf(options);
  const policies: readonly ScalingPolicyName[] = namesOf("--policy", options.policy, SCALING_POLICIES);
  const startups = [...new Set(options.startup.split(",").map((each) => numberOf("--startup", each, 1, 3600)))];
  const seeds = integerOf("--seeds", options.seeds, 1, 1000);
  if (policies.length * startups.length * seeds > MOST_CELLS)
    throw new UsageError(
      `${policies.length} policies, ${startups.length} start-up times and ${seeds} seeds are more than ${MOST_CELLS} runs`,
    );
  return startups.flatMap((startupSeconds) =>
    policies.flatMap((policy) =>
      Array.from({ length: seeds }, (_, seed) => ({ policy, workload, startupSeconds, seed: seed + 1 })),
    ),
  );
}

function workloadOf({ trace, copies }: AutoscaleOptions): Workload {
  const names = SHAPES.map(({ name }) => name).join(", ");
  if (trace === undefined) throw new UsageError(`give --trace: a file, or a shape: ${names}`);
  const shape = SHAPES.find(({ name }) => name === trace);
  const times = integerOf("--copies", copies, 1, 1000);
  if (shape !== undefined) {
    if (times > 1) throw new UsageError(`shape ${trace} has a load of its own: --copies is for traces`);
    return { kind: "shape", shape };
  }
  if (statSync(trace, { throwIfNoEntry: false })?.isFile() !== true)
    throw new UsageError(`--trace ${trace}: neither a file nor a shape; shapes are ${names}`);
  const arrivals = readArrivals(trace);
  if (arrivals.length * times > MOST_REQUESTS)
    throw new UsageError(
      `--copies ${times}: ${times} of each of ${arrivals.length} requests are more than ${MOST_REQUESTS}`,
    );
  return { kind: "trace", name: basename(trace).replace(/\.(jsonl|csv)$/, ""), arrivals, copies: times };
}

function readArrivals(file: string): ReturnType<typeof parseArrivals> {
  try {
    return parseArrivals(readFileSync(file, "utf8"));
  } catch (error) {
    throw new UsageError(`--trace ${file}: ${(error as Error).message}`);
  }
}
