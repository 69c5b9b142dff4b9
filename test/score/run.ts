/**
 * Runs rows of the scorecard: `npm run score -- A5 A7`. Each is measured anew, on real parts where it says so.
 * Exit code 0: all met; 1: one missed or failed; 2: bad usage.
 */
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import type { ScoreResult, ScoreRow } from "./row.ts";

const HELP = `Runs rows of the scorecard and prints their figures.

  ROW...   rows to run, as A5; none: an error, since all of them take long
  --all    every row
  --list   names the rows, with what each requires
  --json   {"rows":[{"row","met","seconds","figures","error"}]} on stdout

Exit code: 0 all met, 1 one missed or failed, 2 bad usage.

Examples:
  npm run --silent score -- A5 A11
  npm run --silent score -- --json A9`;

const files = new Map(
  globSync(join(import.meta.dirname, "[a-z]*[0-9].ts"))
    .filter((path) => /^[a-z]+\d+\.ts$/.test(basename(path)))
    .map((path) => [basename(path, ".ts").toUpperCase(), path]),
);

const inOrder = (one: string, other: string): number => one.localeCompare(other, "en", { numeric: true });

async function load(id: string): Promise<ScoreRow> {
  const { row } = (await import(files.get(id) ?? "")) as { row: ScoreRow };
  return row;
}

interface Measured extends ScoreResult {
  readonly row: string;
  readonly seconds: number;
  readonly error?: string;
}

async function measure(id: string): Promise<Measured> {
  const row = await load(id);
  console.error(`${id}: ${row.fault}\n${id}: required: ${row.required}`);
  const begun = performance.now();
  const seconds = (): number => Math.round((performance.now() - begun) / 100) / 10;
  try {
    const { figures, met } = await row.run((line) => console.error(`${id}: ${seconds()} s: ${line}`));
    return { row: id, met, seconds: seconds(), figures };
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { row: id, met: false, seconds: seconds(), figures: {}, error: text };
  }
}

function print({ row, met, seconds, figures, error }: Measured): void {
  console.log(`${row} ${met ? "met" : "MISSED"} (${seconds} s)`);
  for (const [name, value] of Object.entries(figures)) console.log(`  ${name.padEnd(28)} ${value}`);
  if (error !== undefined) console.log(`  ${error.replaceAll("\n", "\n  ")}`);
}

async function list(): Promise<void> {
  for (const id of [...files.keys()].sort(inOrder)) {
    const { fault, required } = await load(id);
    console.log(`${id.padEnd(4)} ${fault}\n     required: ${required}`);
  }
}

async function run(ids: readonly string[], json: boolean): Promise<boolean> {
  const rows: Measured[] = [];
  // One after the other: they measure time.
  for (const id of ids) {
    const measured = await measure(id);
    rows.push(measured);
    if (!json) print(measured);
  }
  if (json) console.log(JSON.stringify({ rows }, undefined, 2));
  return rows.every(({ met }) => met);
}

interface Asked {
  readonly ids: readonly string[];
  readonly list: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

/** Throws where the arguments make no sense; the message is for the user. */
function parse(): Asked {
  const flag = { type: "boolean", default: false } as const;
  const options = { list: flag, json: flag, all: flag, help: { ...flag, short: "h" } } as const;
  const { values, positionals } = parseArgs({ allowPositionals: true, options });
  const ids = values.all ? [...files.keys()].sort(inOrder) : positionals.map((id) => id.toUpperCase());
  const unknown = ids.filter((id) => !files.has(id));
  if (unknown.length > 0)
    throw new Error(`no row ${unknown.join(", ")}; there are ${[...files.keys()].sort(inOrder).join(", ")}`);
  if (ids.length === 0 && !values.list && !values.help) throw new Error("which rows? try --list or --help");
  return { ids, ...values };
}

async function main(): Promise<number> {
  const asked = parse();
  if (asked.help) console.log(HELP);
  else if (asked.list) await list();
  else return (await run(asked.ids, asked.json)) ? 0 : 1;
  return 0;
}

// Ends by itself: a row that left something open must not keep the process.
process.exit(
  await main().catch((error: unknown) => {
    console.error((error as Error).message);
    return 2;
  }),
);
