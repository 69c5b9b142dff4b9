/** `tandem explain request`: asks a router why a request went where it went, and what came of it. */
import { Agent, request } from "undici";
import { isObject } from "../kinds/kube.ts";
import type { PickRecord } from "../router/explain/record.ts";
import type { DecodeRow, PrefillRow, PrefillTerms } from "../router/pick/terms.ts";
import type { Register } from "./index.ts";
import { UsageError } from "./input.ts";
import { columns } from "./table.ts";

interface ExplainOptions {
  readonly url: string;
  readonly output: string;
}

const EXAMPLE = `
Examples:
  tandem explain request                     the picks that the router keeps, newest first
  tandem explain request 7f3c                the newest whose x-request-id begins with 7f3c-, or is that
  kubectl -n tandem-system port-forward deploy/tandem-router 8081 & tandem explain request -o json 7f3c

Exit codes: 0 shown, 1 not known, 2 bad usage.`;

const TIMEOUT_MS = 5000;
/** 256 picks, or one with 20 rows, have a tenth of that. */
const MAX_BYTES = 4 * 2 ** 20;

export const registerExplain: Register = (program, exit) => {
  program
    .command("explain")
    .description("Says why something is as it is.")
    .command("request [id]")
    .description("Why a request went where it went: candidates, every term of the cost, and what came of it.")
    .option("--url <url>", "admin address of a router", "http://127.0.0.1:8081")
    .option("-o, --output <format>", "table or json", "table")
    .addHelpText("after", EXAMPLE)
    .action(async (id: string | undefined, options: ExplainOptions) => {
      exit(await explain(id, options));
    });
};

async function explain(id: string | undefined, { url, output }: ExplainOptions): Promise<number> {
  if (output !== "table" && output !== "json") throw new UsageError(`-o ${output}: accepted are table, json`);
  const path = id === undefined ? "/debug/requests" : `/debug/requests/${encodeURIComponent(id)}`;
  const { status, value } = await fetched(urlOf(url, path));
  if (status !== 200) {
    process.stderr.write(`tandem: ${isObject(value) ? String(value["error"]) : `status ${status}`}\n`);
    return 1;
  }
  const text = output === "json" ? JSON.stringify(value, null, 2) : id === undefined ? list(value) : one(value);
  process.stdout.write(`${output === "json" ? text : printable(text)}\n`);
  return 0;
}

function urlOf(base: string, path: string): URL {
  const url = URL.canParse(base) ? new URL(path, base) : undefined;
  if (url === undefined || !url.protocol.startsWith("http"))
    throw new UsageError(`--url ${base}: not an http address, as http://127.0.0.1:8081`);
  return url;
}

async function fetched(url: URL): Promise<{ status: number; value: unknown }> {
  const dispatcher = new Agent({ maxResponseSize: MAX_BYTES });
  try {
    const { statusCode, body } = await request(url, { dispatcher, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const text = await body.text();
    return { status: statusCode, value: text.startsWith("{") ? (JSON.parse(text) as unknown) : undefined };
  } catch (error) {
    throw new Error(`${url.origin} does not answer: ${reasonOf(error)}`, { cause: error });
  } finally {
    await dispatcher.close();
  }
}

/** Names of models may be a client's words, and a terminal obeys control characters. */
const printable = (text: string): string => text.replace(/[^\P{C}\n]/gu, "?");

const reasonOf = (error: unknown): string => {
  const { message, code } = error as { message?: string; code?: string };
  return message === undefined || message === "" ? (code ?? "") : message;
};

type Listed = Omit<PickRecord, "terms">;

function list(value: unknown): string {
  const { requests } = value as { requests: readonly Listed[] };
  const head = ["REQUEST", "MODEL", "PREFILL", "DECODE", "TOKENS", "CACHED", "FIRST TOKEN MS", "REASON"];
  return columns([head, ...requests.map(listRow)]);
}

const listRow = ({ id, model, prefill, decode, expected, outcome, reason }: Listed): string[] => [
  ...[id, model, prefill, decode, String(outcome.promptTokens ?? expected.promptTokens)],
  `${expected.cachedTokens} -> ${outcome.cachedTokens ?? "?"}`,
  `${ms(expected.firstTokenMs)} -> ${outcome.firstTokenMs === undefined ? "?" : ms(outcome.firstTokenMs)}`,
  reason,
];

/** As people read it: three figures that count. */
const ms = (value: number): string => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

function one(value: unknown): string {
  const record = value as PickRecord;
  const { terms } = record;
  const decode = [
    ["DECODE", "CACHED", "REQUESTS", "COST", "DECODE MS", "ROOM", ...TERMS, "REMOTE"],
    ...terms.decode.map(decodeRow),
  ];
  const prefill = [["PREFILL", "CACHED", "REQUESTS", ...TERMS], ...terms.prefill.map(prefillRow)];
  const more = (shown: number, all: number): string[] => (shown < all ? [`(the cheapest ${shown} of ${all})`] : []);
  return [
    ...summary(record),
    "",
    columns(decode),
    ...more(terms.decode.length, terms.candidates.decode),
    ...(terms.prefill.length === 0
      ? []
      : ["", columns(prefill), ...more(terms.prefill.length, terms.candidates.prefill)]),
  ].join("\n");
}

function summary({ id, at, model, message, reason, tokens, expected, outcome }: PickRecord): string[] {
  const came = (seen: number | undefined): string => (seen === undefined ? "not told" : ms(seen));
  return [
    `${id}  ${model}  ${new Date(at).toISOString()}`,
    `${reason}: ${message}`,
    columns([
      ["", "EXPECTED", "CAME"],
      ["prompt tokens", `${expected.promptTokens} (${tokens})`, came(outcome.promptTokens)],
      ["cached tokens", `${expected.cachedTokens} (${expected.whence})`, came(outcome.cachedTokens)],
      ["first token, ms", ms(expected.firstTokenMs), came(outcome.firstTokenMs)],
    ]),
  ];
}

const TERMS = ["PREFILL MS", "QUEUE", "OWN", "CAPACITY", "INTERFERENCE", "PINNED", "FETCH"];

const termCells = (terms: PrefillTerms): string[] =>
  [
    ...[terms.costMs, terms.queueMs, terms.ownMs, terms.capacityMs, terms.interferenceMs],
    ...[terms.pinnedMs, terms.fetchMs],
  ].map(ms);

const nameOf = ({ endpoint, chosen }: DecodeRow | PrefillRow): string => `${chosen ? "* " : "  "}${endpoint.name}`;

const decodeRow = (row: DecodeRow): string[] => [
  ...[nameOf(row), String(row.cachedTokens), String(row.requests)],
  // JSON has no infinity: an endpoint that cannot take the request alone, and has no partner.
  ...[(row.costMs as number | null) === null ? "-" : ms(row.costMs)],
  ...[ms(row.decodeMs), ms(row.roomMs), ...termCells(row.local)],
  row.remote === undefined ? "-" : `${ms(row.remote.prefillMs)} + ${ms(row.remote.transferMs)} by ${row.remote.by}`,
];

const prefillRow = (row: PrefillRow): string[] => [
  ...[nameOf(row), String(row.cachedTokens), String(row.requests), ...termCells(row.prefill)],
];
