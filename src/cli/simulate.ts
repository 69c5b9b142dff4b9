/** `tandem simulate`: a request trace through routing policies and simulated engines, in virtual time. Pure figures. */
import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { capacityTokens, type Topology } from "../simulator/routing/fleet.ts";
import { capacityOf, runCell, topologyName, type Cell, type Replay, type Row } from "../simulator/routing/cells.ts";
import { GOOD } from "../simulator/routing/figures.ts";
import { POLICIES, type PolicyName } from "../simulator/routing/policies/index.ts";
import { SCENES, TRACE_MODEL } from "../simulator/routing/scenes.ts";
import { parseTrace, TRACE_BLOCK_TOKENS } from "../simulator/routing/trace.ts";
import { SILENT_LOG } from "../telemetry/log.ts";
import { NO_METRICS } from "../telemetry/metrics.ts";
import type { Register } from "./index.ts";
import { collect, readConfig, UsageError } from "./input.ts";
import { integerOf, namesOf, numberOf } from "./numbers.ts";
import { plot } from "./simulate/plot.ts";
import { progressLine, summary } from "./simulate/report.ts";

interface SimulateOptions {
  readonly trace?: string;
  readonly policy: string;
  readonly engines?: string;
  readonly prefill?: string;
  readonly decode?: string;
  readonly load?: string;
  readonly seeds: string;
  readonly requests?: string;
  readonly output: string;
  readonly config?: string;
  readonly set?: readonly string[];
}

const EXAMPLE = `
Policies: ${POLICIES.join(", ")}.
Scenes:
${SCENES.map(({ name, description }) => `  ${name.padEnd(14)}${description}`).join("\n")}

A line of a trace, with an id for each ${TRACE_BLOCK_TOKENS} tokens; equal ids are equal text, and timestamps are milliseconds:
  {"timestamp": 0, "input_length": 1200, "output_length": 80, "hash_ids": [0, 1, 7]}

Engines are simulated as Llama-3.1-8B on one H200 each. A trace is replayed at a share of what they can do: of the
requests a second that they answer under round robin when requests never end. A scene has a load and engines of its own.

hit is the share of prompt tokens that were cached, p99 that of the time to first token; good are answers with their
first token within ${GOOD.ttftMs} ms and the others within ${GOOD.tpotMs} ms each.

Example:
  tandem simulate --trace conversation_trace.jsonl --policy tandem,llm-d --engines 8 --load 0.8 --seeds 3
  tandem simulate --trace kthena-long --policy tandem,random,kthena-kv -o svg > routing.svg`;

export const registerSimulate: Register = (program, exit) => {
  program
    .command("simulate")
    .description(
      "Replays a request trace through the real routing code, and published policies, over simulated engines.",
    )
    .option("--trace <file|scene>", "requests in Mooncake's form, one JSON object a line, or a named scene")
    .option("--policy <name,...>", "routing policies, or all", "tandem")
    .option("--engines <n>", "engines that prefill and decode (8)")
    .option("--prefill <n>", "prefill engines; with --decode, instead of --engines")
    .option("--decode <n>", "decode engines")
    .option("--load <share>", "of the engines' capacity, for traces; several after commas (0.8)")
    .option("--seeds <n>", "runs of each, of other chance", "1")
    .option("--requests <n>", "only the first of the trace")
    .option("-o, --output <format>", "table, json or svg", "table")
    .option("-c, --config <file>", "configuration file; its router is simulated")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action(async (options: SimulateOptions) => exit(await simulate(options)));
};

async function simulate(options: SimulateOptions): Promise<number> {
  const print = Object.hasOwn(OUTPUTS, options.output) ? OUTPUTS[options.output] : undefined;
  if (print === undefined)
    throw new UsageError(`-o ${options.output}: accepted are ${Object.keys(OUTPUTS).join(", ")}`);
  const config = readConfig(options).router;
  const cells = await cellsOf(options);
  const rows: Row[] = [];
  for (const [number, cell] of cells.entries()) {
    const progress = progressLine(`${number + 1} of ${cells.length}: ${cell.policy}, seed ${cell.seed}`);
    rows.push(await runCell(cell, { tandem: { config, log: SILENT_LOG, metrics: NO_METRICS }, progress }));
  }
  process.stdout.write(print(rows));
  return 0;
}

const OUTPUTS: Readonly<Record<string, (rows: readonly Row[]) => string>> = {
  table: summary,
  json: (rows) => `${JSON.stringify({ rows }, null, 2)}\n`,
  svg: plot,
};

async function cellsOf(options: SimulateOptions): Promise<readonly Cell[]> {
  const policies: readonly PolicyName[] = namesOf("--policy", options.policy, POLICIES);
  const replay = replayOf(options);
  const topology = replay.kind === "scene" ? sceneTopology(replay.scene, options) : topologyOf(options);
  const loads =
    replay.kind === "scene"
      ? [1]
      : [...new Set((options.load ?? "0.8").split(",").map((load) => numberOf("--load", load, 0.01, 10)))];
  const seeds = integerOf("--seeds", options.seeds, 1, 1000);
  if (policies.length * loads.length * seeds > MOST_CELLS)
    throw new UsageError(
      `${policies.length} policies, ${loads.length} loads and ${seeds} seeds are more than ${MOST_CELLS} runs`,
    );
  const capacityRps = replay.kind === "scene" ? 0 : await capacityOf(replay.requests, topology);
  if (replay.kind === "trace")
    process.stderr.write(`capacity of ${topologyName(topology)}: ${capacityRps} requests/s\n`);
  return loads.flatMap((load) =>
    policies.flatMap((policy) =>
      Array.from({ length: seeds }, (_, seed) => ({ policy, replay, topology, load, capacityRps, seed: seed + 1 })),
    ),
  );
}

/** Each takes seconds. */
const MOST_CELLS = 10_000;
/** Of every kind: more than a router is told apart by default. */
const MOST_ENGINES = 1000;

function replayOf({ trace, requests: most, load }: SimulateOptions): Replay {
  const scenes = SCENES.map(({ name }) => name).join(", ");
  if (trace === undefined) throw new UsageError(`give --trace: a file, or a scene: ${scenes}`);
  const scene = SCENES.find(({ name }) => name === trace);
  if (scene !== undefined) {
    if (most !== undefined) throw new UsageError("--requests is for traces");
    if (load !== undefined) throw new UsageError(`scene ${trace} has a load of its own: --load is for traces`);
    return { kind: "scene", scene };
  }
  if (!existsSync(trace)) throw new UsageError(`--trace ${trace}: neither a file nor a scene; scenes are ${scenes}`);
  const requests = readTrace(trace);
  const count = most === undefined ? requests.length : integerOf("--requests", most, 1, Number.MAX_SAFE_INTEGER);
  return { kind: "trace", name: basename(trace).replace(/\.jsonl$/, ""), requests: requests.slice(0, count) };
}

function readTrace(file: string): ReturnType<typeof parseTrace> {
  try {
    return parseTrace(readFileSync(file, "utf8"), capacityTokens(TRACE_MODEL));
  } catch (error) {
    throw new UsageError(`--trace ${file}: ${(error as Error).message}`);
  }
}

function sceneTopology({ topology, name }: { topology: Topology; name: string }, options: SimulateOptions): Topology {
  if (options.engines === undefined && options.prefill === undefined && options.decode === undefined) return topology;
  throw new UsageError(`scene ${name} has engines of its own: --engines, --prefill and --decode are for traces`);
}

function topologyOf({ engines, prefill, decode }: SimulateOptions): Topology {
  if (prefill === undefined && decode === undefined)
    return { both: integerOf("--engines", engines ?? "8", 1, MOST_ENGINES), prefill: 0, decode: 0 };
  if (engines !== undefined || prefill === undefined || decode === undefined)
    throw new UsageError("give --engines, or --prefill and --decode");
  const count = (flag: string, text: string): number => integerOf(flag, text, 1, MOST_ENGINES);
  return { both: 0, prefill: count("--prefill", prefill), decode: count("--decode", decode) };
}
