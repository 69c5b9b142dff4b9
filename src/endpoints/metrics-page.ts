/**
 * Reads the few series that routing uses off an engine's metrics page, line by line: a full parser of the same page
 * costs sixty times as much (reference style-and-stack.md, B5).
 *
 * Names: vLLM V1 (vllm/v1/metrics/loggers.py); vLLM-Ascend is the same. SGLang's names stand beside them.
 */
import type { EngineStats } from "../kinds/endpoint.ts";

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

/** The stats, or undefined where the page holds none of the series. Several engines on a page (ranks) are summed; usage is the highest. */
export function parseMetricsPage(page: string, at: number): EngineStats | undefined {
  const sums: Record<Field, number> = { running: 0, waiting: 0, kvUsage: 0 };
  let config: { blockSize?: number; blocks?: number } = {};
  let found = false;
  for (const line of page.split("\n")) {
    if (line.startsWith("#")) continue;
    const name = /^[a-zA-Z_:][\w:]*/.exec(line)?.[0] ?? "";
    const field = GAUGES[name];
    if (field !== undefined) found = add(sums, field, line) || found;
    else if (name === CACHE_CONFIG) config = cacheConfig(line);
  }
  return found ? { at, ...sums, ...config } : undefined;
}

function add(sums: Record<Field, number>, field: Field, line: string): boolean {
  const value = Number(/\s(\S+)(?:\s+-?\d+)?\s*$/.exec(line)?.[1]);
  if (!Number.isFinite(value) || value < 0) return false;
  sums[field] = field === "kvUsage" ? Math.max(sums[field], Math.min(1, value)) : sums[field] + value;
  return true;
}

function cacheConfig(line: string): { blockSize?: number; blocks?: number } {
  const label = (name: string): number => Number(new RegExp(`[{,]${name}="(\\d+)"`).exec(line)?.[1]);
  const [blockSize, blocks] = [label("block_size"), label("num_gpu_blocks")];
  const fine = (value: number): boolean => Number.isSafeInteger(value) && value > 0;
  return { ...(fine(blockSize) ? { blockSize } : {}), ...(fine(blocks) ? { blocks } : {}) };
}
