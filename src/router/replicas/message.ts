/**
 * What one replica of the router tells the others: the work that it has on endpoints as it stands now, and what it sent
 * where.
 *
 * Loads are values, not differences: a message that is lost is made good by the next one, and none is counted twice.
 * Of prompts only the keys of their blocks travel, 64-bit hashes, never text. JSON:
 * `{"from","all","loads":[[endpoint, requests, prefillMs], ...],"sent":[[endpoint, keys], ...]}`, keys in base64 of
 * their eight bytes each, little-endian; `sent` may be left out.
 */
import { isObject } from "../../kinds/kube.ts";
import { blockCount, type BlockKeys } from "../kv/blocks.ts";
import type { OwnLoad } from "../load.ts";
import { MAX_BATCH, MAX_BATCH_BLOCKS, type Sent } from "./sent.ts";

export interface ReplicaMessage {
  /** The replica that speaks; a new one after each start. */
  readonly from: string;
  /** Every endpoint that is not named is idle. */
  readonly all: boolean;
  readonly loads: ReadonlyMap<string, OwnLoad>;
  /** The oldest first. */
  readonly sent: readonly Sent[];
}

/** Endpoints in one message; a fleet of 8,190 is what the index tells apart. */
export const MAX_LOADS = 10_000;
/** A message of that many endpoints. */
export const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
const MAX_NAME = 512;
/** More than an endpoint can carry: a number beyond is an error, and would keep everybody away from the endpoint. */
const MAX_REQUESTS = 100_000;
const MAX_PREFILL_MS = 3_600_000;

export const encodeMessage = ({ from, all, loads, sent }: ReplicaMessage): string =>
  JSON.stringify({
    ...{ from, all },
    loads: [...loads].map(([id, load]) => [id, load.inflight, round(load.prefillMs)]),
    ...(sent.length === 0 ? {} : { sent: sent.map(({ endpoint, keys }) => [endpoint, textOf(keys)]) }),
  });

/** Tenths of a millisecond; a load that is not zero stays above it. */
const round = (ms: number): number => Math.ceil(ms * 10) / 10;

const textOf = (keys: BlockKeys): string =>
  Buffer.from(keys.buffer, keys.byteOffset, keys.byteLength).toString("base64");

/**
 * The message, or undefined where it is none.
 * @param maxLoads endpoints in it; one with more is none
 */
export function decodeMessage(text: string, maxLoads = MAX_LOADS): ReplicaMessage | undefined {
  const value = parsed(text);
  if (!isObject(value) || !isName(value["from"]) || typeof value["all"] !== "boolean") return undefined;
  const loads = loadsOf(value["loads"], maxLoads);
  const sent = sentOf(value["sent"] ?? []);
  if (loads === undefined || sent === undefined) return undefined;
  return { from: value["from"], all: value["all"], loads, sent };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function loadsOf(rows: unknown, most: number): ReplicaMessage["loads"] | undefined {
  if (!Array.isArray(rows) || rows.length > most) return undefined;
  const loads = new Map<string, OwnLoad>();
  for (const row of rows as unknown[]) {
    if (!isRow(row)) return undefined;
    loads.set(row[0], { inflight: row[1], prefillMs: row[2] });
  }
  return loads;
}

function sentOf(rows: unknown): readonly Sent[] | undefined {
  if (!Array.isArray(rows) || rows.length > MAX_BATCH) return undefined;
  const sent: Sent[] = [];
  let blocks = 0;
  for (const row of rows as unknown[]) {
    if (!isTextRow(row)) return undefined;
    const keys = keysOf(row[1]);
    if (keys === undefined) return undefined;
    blocks += blockCount(keys);
    if (blocks > MAX_BATCH_BLOCKS) return undefined;
    sent.push({ endpoint: row[0], keys });
  }
  return sent;
}

const MAX_KEY_TEXT = Math.ceil((MAX_BATCH_BLOCKS * 8) / 3) * 4;

/** Decoded into memory of its own, so that its words are aligned. */
function keysOf(text: string): BlockKeys | undefined {
  if (text === "" || text.length > MAX_KEY_TEXT || text.length % 4 !== 0) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = (text.length / 4) * 3 - padding;
  if (bytes % 8 !== 0) return undefined;
  const keys = new Int32Array(bytes / 4);
  // What is not base64 is left out by the decoder: then it is too short.
  return Buffer.from(keys.buffer).write(text, "base64") === bytes ? keys : undefined;
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

const isTextRow = (row: unknown): row is readonly [string, string] =>
  Array.isArray(row) && row.length === 2 && isName(row[0]) && typeof row[1] === "string";

const within = (value: unknown, most: number): boolean =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= most;
