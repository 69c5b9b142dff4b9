/** A router's page of statistics, read with doubt: what is no number of the kind leaves its group out. */
import { isObject } from "../../kinds/kube.ts";
import { LATENCY_BOUNDS_MS, MAX_GROUPS, type GroupStatistics, type StatisticsPage } from "../../kinds/statistics.ts";

const NUMBERS = [
  ...(["requests", "promptTokens", "answers", "generatedTokens"] as const),
  ...(["backlogTokens", "backlogRequests", "heldRequests"] as const),
];
const BUCKETS = LATENCY_BOUNDS_MS.length + 1;
const MAX_NAME = 512;

/** Undefined where the text is no such page. */
export function decodeStatistics(text: string): StatisticsPage | undefined {
  const value = parsed(text);
  const id = isObject(value) ? value["id"] : undefined;
  const groups = isObject(value) ? value["groups"] : undefined;
  if (typeof id !== "string" || id === "" || id.length > MAX_NAME || !isObject(groups)) return undefined;
  const rows = Object.entries(groups).slice(0, MAX_GROUPS);
  return { id, groups: Object.fromEntries(rows.filter((row): row is [string, GroupStatistics] => isGroup(row[1]))) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isCount = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value) && value >= 0;

const isHistogram = (value: unknown): boolean =>
  Array.isArray(value) && value.length === BUCKETS && value.every(isCount);

const isGroup = (value: unknown): value is GroupStatistics =>
  isObject(value) &&
  NUMBERS.every((name) => isCount(value[name])) &&
  isHistogram(value["ttft"]) &&
  isHistogram(value["tpot"]);
