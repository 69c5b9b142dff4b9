/**
 * What one replica of the router tells the others: the work that it has on endpoints, as it stands now.
 *
 * Values, not differences: a message that is lost is made good by the next one, and none is counted twice. JSON:
 * `{"from","all","loads":[[endpoint, requests, prefillMs], ...]}`.
 */
import { isObject } from "../../kinds/kube.ts";
import type { OwnLoad } from "../load.ts";

export interface LoadMessage {
  /** The replica that speaks; a new one after each start. */
  readonly from: string;
  /** Every endpoint that is not named is idle. */
  readonly all: boolean;
  readonly loads: ReadonlyMap<string, OwnLoad>;
}

/** Endpoints in one message; a fleet of 8,190 is what the index tells apart. */
export const MAX_LOADS = 10_000;
/** A message of that many endpoints. */
export const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
const MAX_NAME = 512;
/** More than an endpoint can carry: a number beyond is an error, and would keep everybody away from the endpoint. */
const MAX_REQUESTS = 100_000;
const MAX_PREFILL_MS = 3_600_000;

export const encodeMessage = ({ from, all, loads }: LoadMessage): string =>
  JSON.stringify({ from, all, loads: [...loads].map(([id, load]) => [id, load.inflight, round(load.prefillMs)]) });

/** Tenths of a millisecond; a load that is not zero stays above it. */
const round = (ms: number): number => Math.ceil(ms * 10) / 10;

/** The message, or undefined where it is none. */
export function decodeMessage(text: string): LoadMessage | undefined {
  const value = parsed(text);
  if (!isObject(value) || !isName(value["from"]) || typeof value["all"] !== "boolean") return undefined;
  const rows: unknown = value["loads"];
  if (!Array.isArray(rows) || rows.length > MAX_LOADS) return undefined;
  const loads = new Map<string, OwnLoad>();
  for (const row of rows as unknown[]) {
    if (!isRow(row)) return undefined;
    loads.set(row[0], { inflight: row[1], prefillMs: row[2] });
  }
  return { from: value["from"], all: value["all"], loads };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isName = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= MAX_NAME;

function isRow(row: unknown): row is readonly [string, number, number] {
  if (!Array.isArray(row) || row.length !== 3) return false;
  const [id, requests, prefillMs] = row as unknown[];
  return (
    isName(id) && Number.isInteger(requests) && within(requests, MAX_REQUESTS) && within(prefillMs, MAX_PREFILL_MS)
  );
}

const within = (value: unknown, most: number): boolean =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= most;
