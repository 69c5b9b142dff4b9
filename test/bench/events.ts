/**
 * KV events: how many blocks a thread takes in, beside what the serving thread looks up meanwhile; and memory and lookups
 * when ten million blocks are known. `npm run bench:events -- --help`.
 */
import { fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { startFollowing } from "../../src/cli/roles/following.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { quantile, rounded } from "../support/usage.ts";
import { parsed } from "../support/arguments.ts";
import { BLOCKS_OF_ENGINE, BLOCKS_OF_MESSAGE, TOKENS, type FloodOrder } from "./events/flood.ts";
import { fill } from "./events/fill.ts";
import { faults, type FaultRow } from "./events/faults.ts";
import { takeIn } from "./events/take-in.ts";

const HELP = `How fast KV events are taken in, and what knowing ten million blocks costs.

  --engines N   that publish at once (8)
  --seconds N   of the measurement over ZeroMQ (10), or of each fault (6)
  --blocks N    known in all for memory and lookups (10000000)
  --faults      instead: what faults cost, one row a fault
  --only TEXT   of the faults those with this in their name
  --json        machine-readable rows (docs/reference/benchmarks.md)

Examples:
  npm run --silent bench:events -- --blocks 1000000
  npm run --silent bench:events -- --faults --seconds 6 --only lost`;

export interface Row {
  readonly measure: string;
  readonly value: number;
  readonly unit: string;
  readonly target: string;
}

async function main(): Promise<void> {
  const number = { type: "string" } as const;
  const { values } = parsed({
    options: {
      ...{ engines: number, seconds: number, blocks: number, only: number },
      faults: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  for (const name of ["engines", "seconds", "blocks"] as const)
    if (values[name] !== undefined && !(Number(values[name]) > 0))
      refuse(`--${name} ${values[name]}: give a positive number`);
  if (values.faults) await compareFaults(Number(values.seconds ?? 6), values.only ?? "", values.json);
  else await measure(values);
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

interface Sizes {
  readonly engines?: string;
  readonly seconds?: string;
  readonly blocks?: string;
  readonly json: boolean;
}

async function measure(values: Sizes): Promise<void> {
  const engines = Number(values.engines ?? 8);
  const rows: Row[] = [
    ...takeIn(),
    ...(await overSockets(engines, Number(values.seconds ?? 10))),
    ...fill(Number(values.blocks ?? 10_000_000)),
  ];
  if (values.json) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

async function compareFaults(seconds: number, only: string, json: boolean): Promise<void> {
  const rows = await faults(seconds, only, (text) => {
    if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
  });
  if (rows.length === 0) refuse(`--only ${only}: no fault has this in its name`);
  if (json) console.log(JSON.stringify({ rows }));
  else for (const [what, columns] of COLUMNS) printed(what, rows, columns);
}

/** Wider than a terminal in one. */
const COLUMNS: readonly (readonly [what: string, columns: readonly (keyof FaultRow)[]])[] = [
  [
    "what was picked and claimed",
    ["picks", "wrongEndpoints", "staleClaims", "longestStaleMs", "neverHeld", "byEvents"],
  ],
  ["what it cost", ["recoveredMs", "wrongTokens", "pickP99Us", "grownMiB", "note"]],
];

function printed(what: string, rows: readonly FaultRow[], columns: readonly (keyof FaultRow)[]): void {
  console.log(what);
  console.table(Object.fromEntries(rows.map((row) => [row.fault, row])), [...columns]);
}

interface Published {
  readonly ports: readonly number[];
}

/** Engines in another process publish as fast as they are read; the serving thread looks up a long prompt all the while. */
async function overSockets(engines: number, seconds: number): Promise<Row[]> {
  const child = fork(new URL("./events/flood.ts", import.meta.url), { serialization: "advanced" });
  const { ports: eventPorts } = await new Promise<Published>((resolve) => {
    child.once("message", (message) => resolve(message as Published));
    child.send({ engines } satisfies FloodOrder);
  });
  const flags = { "router.events.maxBlocksPerSecond": "10000000", "router.events.maxBytes": String(2 ** 28) };
  const ports = createPorts(loadConfig({ flags }), SILENT_LOG);
  const following = startFollowing(ports);
  if (following === undefined) throw new Error("events are off");
  const { index, feed } = following;
  feed.follow(
    eventPorts.map((port, at) => ({
      ...{ id: `e${at}`, bootId: "1", host: "127.0.0.1", port, ranks: 1, guessed: false, capacityTokens: 945_000 },
    })),
  );
  const stored = async (): Promise<number> =>
    Number(/event_blocks_total\{kind="stored"\} (\d+)/.exec(await ports.metrics.page())?.[1] ?? 0);
  const ids = eventPorts.map((_, at) => `e${at}`);
  // From when on old blocks go as new ones come.
  while ((await stored()) < engines * BLOCKS_OF_ENGINE) await sleep(100);
  const before = await stored();
  const begun = performance.now();
  const cpu = process.cpuUsage();
  const own = process.threadCpuUsage();
  const took: number[] = [];
  const prompt = Int32Array.from(TOKENS(0));
  const long = new Int32Array(4096);
  long.set(prompt);
  while (performance.now() - begun < seconds * 1000) {
    const at = performance.now();
    const keys = index.keys(long, { model: "m", adapter: undefined, salt: undefined, tenant: "" });
    if (keys !== undefined) index.match(keys).all(ids);
    took.push(performance.now() - at);
    await sleep(1);
  }
  const blocks = (await stored()) - before;
  const wall = (performance.now() - begun) / 1000;
  const [all, mine] = [process.cpuUsage(cpu), process.threadCpuUsage(own)];
  const thread = (all.user + all.system - mine.user - mine.system) / 1e6;
  feed.stop();
  child.kill();
  return [
    { measure: "over ZeroMQ, wall", value: rounded(blocks / wall / 1e6, 3), unit: "M stored blocks/s", target: "" },
    {
      measure: "over ZeroMQ, of the thread's processor time",
      value: rounded(blocks / thread / 1e6, 3),
      unit: "M stored blocks/s",
      target: ">= 0.4",
    },
    { measure: "lookup of 256 blocks meanwhile, p50", value: us(quantile(took, 0.5)), unit: "us", target: "" },
    { measure: "lookup of 256 blocks meanwhile, p99", value: us(quantile(took, 0.99)), unit: "us", target: "< 1000" },
    { measure: "blocks of a message", value: BLOCKS_OF_MESSAGE, unit: "blocks of 16 tokens", target: "" },
  ];
}

const us = (ms: number): number => rounded(ms * 1000);

await main();
