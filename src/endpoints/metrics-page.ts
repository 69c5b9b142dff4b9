/**
 * Reads the few series that routing uses off an engine's metrics page, line by line: a full parser of the same page
 * costs sixty times as much (reference style-and-stack.md, B5).
 *
 * Names: vLLM V1 (vllm/v1/metrics/loggers.py); vLLM-Ascend is the same. SGLang's names stand beside them.
 */
import type { EngineStats } from "../kinds/endpoint.ts";
import { counterOf, isCounter, lookupsOf, startsCounter, workOf, type CounterSums } from "./cache-counters.ts";

type Field = "running" | "waiting" | "kvUsage";

const GAUGES: Readonly<Record<string, Field>> = {
  "vllm:num_requests_running": "running",
  "vllm:num_requests_waiting": "waiting",
  "vllm:kv_cache_usage_perc": "kvUsage",
  // up to v0.11
  "vllm:gpu_cache_usage_perc": "kvUsage",
  "sglang:num_running_reqs": "running",
  "sglang:num_queue_reqs": "waiting",
  "sglang:token_usage": "kvUsage",
};

const CACHE_CONFIG = "vllm:cache_config_info";
/** Tokens that the KV cache holds; vLLM tells with its configuration. */
const KV_TOKENS = "sglang:max_total_num_tokens";

interface Sums extends Record<Field, number> {
  readonly counters: CounterSums;
  config: Pick<EngineStats, "blockSize" | "blocks" | "caches">;
  kvTokens: number;
}

/** The stats, or undefined where the page holds none of the series. Several engines on a page (ranks) are summed; usage is the highest. */
export function parseMetricsPage(page: string, at: number): EngineStats | undefined {
  const sums: Sums = { running: 0, waiting: 0, kvUsage: 0, counters: new Map(), config: {}, kvTokens: 0 };
  let found = false;
  for (const line of page.split("\n")) found = readLine(sums, line) || found;
  if (!found) return undefined;
  const { counters, config, kvTokens, ...gauges } = sums;
  const capacity = kvTokens > 0 ? { kvTokens } : {};
  return { at, ...gauges, ...config, ...lookupsOf(counters), ...workOf(counters, config.caches), ...capacity };
}

/** True for a gauge. */
function readLine(sums: Sums, line: string): boolean {
  if (line.startsWith("#")) {
    startsCounter(sums.counters, line);
    return false;
  }
  const name = /^[a-zA-Z_:][\w:]*/.exec(line)?.[0] ?? "";
  const field = Object.hasOwn(GAUGES, name) ? GAUGES[name] : undefined;
  if (field !== undefined) return add(sums, field, line);
  if (name === CACHE_CONFIG) configured(sums, line);
  else if (name === KV_TOKENS) sums.kvTokens += valueOf(line) ?? 0;
  else count(sums.counters, counterOf(name, line), line);
  return false;
}

/** Of the ones that were begun by their `# TYPE` line, and of those that have none. */
function count(counters: CounterSums, name: string, line: string): void {
  if (!isCounter(name)) return;
  const value = valueOf(line);
  if (value !== undefined) counters.set(name, (counters.get(name) ?? 0) + value);
}

function add(sums: Sums, field: Field, line: string): boolean {
  const value = valueOf(line);
  if (value === undefined) return false;
  sums[field] = field === "kvUsage" ? Math.max(sums[field], Math.min(1, value)) : sums[field] + value;
  return true;
}

function valueOf(line: string): number | undefined {
  const value = Number(/\s(\S+)(?:\s+-?\d+)?\s*$/.exec(line)?.[1]);
  return Number.isFinite(value) && value >= 0 ? value : undefined;
}

const fine = (value: number): boolean => Number.isSafeInteger(value) && value > 0;
const labelOf = (line: string, name: string): number => Number(new RegExp(`[{,]${name}="(\\d+)"`).exec(line)?.[1]);

/** Each rank has a line. A hybrid model holds more tokens than its blocks say: newer servers tell how many. */
function configured(sums: Sums, line: string): void {
  sums.config = cacheConfig(line);
  const told = labelOf(line, "kv_cache_size_tokens");
  sums.kvTokens += fine(told) ? told : (sums.config.blockSize ?? 0) * (sums.config.blocks ?? 0);
}

function cacheConfig(line: string): Sums["config"] {
  const [blockSize, blocks] = [labelOf(line, "block_size"), labelOf(line, "num_gpu_blocks")];
  const isOff = /[{,]enable_prefix_caching="False"/.test(line);
  return {
    ...(fine(blockSize) ? { blockSize } : {}),
    ...(fine(blocks) ? { blocks } : {}),
    ...(isOff ? { caches: false } : {}),
  };
}
