/**
 * llm-d's endpoint picker with its default weights: prefix 3, queue 2, KV utilisation 2, the highest sum wins.
 *
 * Source: llm-d/llm-d-router, pkg/epp/config/loader/defaults.go and the scorers; metrics every 50 ms; its approximate
 * prefix index is written at the pick, and sized by `cache_config_info`. With prefill engines: the decode pod first, and
 * prefill there where fewer than 10 tokens are not cached (the threshold of its published example), else elsewhere.
 */
import type { Chooser, View } from "../policy.ts";
import type { SimulatedRequest } from "../workload.ts";
import { SentPrefixes } from "./prefixes.ts";
import { scraped } from "./scraped.ts";
import { least } from "./simple.ts";

const WEIGHT = { queue: 2, kvUsage: 2, prefix: 3 } as const;
const SCRAPE_MS = 50;
/** Longer prompts are looked up no further. */
const MOST_TOKENS = 131_072;
const LOCAL_BELOW_TOKENS = 10;

export function llmD({ fleet, time, random }: View): Chooser {
  const view = scraped(fleet, time, SCRAPE_MS);
  const { blockTokens } = fleet.model;
  const prefixes = new SentPrefixes(fleet.engines.length, fleet.capacityTokens / blockTokens);
  const looked = ({ blocks }: SimulatedRequest): readonly number[] => blocks.slice(0, MOST_TOKENS / blockTokens);
  const best = (engines: readonly number[], request: SimulatedRequest): number => {
    const blocks = looked(request);
    const waiting = engines.map((engine) => view.now(engine).waiting);
    const [low, high] = [Math.min(...waiting), Math.max(...waiting)];
    const cost = (engine: number): number => {
      const { waiting, usedBlocks, capacityBlocks } = view.now(engine);
      const queue = high === low ? 1 : (high - waiting) / (high - low);
      const prefix = prefixes.matched(engine, blocks) / blocks.length;
      return -(WEIGHT.queue * queue + WEIGHT.kvUsage * (1 - usedBlocks / capacityBlocks) + WEIGHT.prefix * prefix);
    };
    return least(engines, cost, random.next());
  };
  const local = (engine: number, request: SimulatedRequest): boolean =>
    request.promptTokens - prefixes.matched(engine, request.blocks) * blockTokens < LOCAL_BELOW_TOKENS;
  return {
    choose: (request) => {
      const engine = best(fleet.decoders, request);
      if (fleet.prefillers.length === 0 || local(engine, request)) return { engine };
      return { engine, prefill: best(fleet.prefillers, request) };
    },
    chosen: (request, { engine, prefill }) => {
      for (const each of prefill === undefined ? [engine] : [engine, prefill]) prefixes.record(each, looked(request));
    },
  };
}
