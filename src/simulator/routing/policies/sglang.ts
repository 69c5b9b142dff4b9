/**
 * SGLang's gateway, cache-aware: the engine with the longest match where that is long enough, else the least loaded; while
 * loads are out of balance, the least loaded always.
 *
 * Source: sgl-project/sglang, sgl-model-gateway/src/policies/cache_aware.rs, with the defaults of its command line:
 * cache threshold 0.3, balance thresholds 64 requests and 1.5 times, trees of 2^26 characters. With prefill engines:
 * those by it, decode engines by power of two choices, its defaults.
 */
import type { Chooser, View } from "../policy.ts";
import type { SimulatedRequest } from "../workload.ts";
import { SentPrefixes } from "./prefixes.ts";
import { least } from "./simple.ts";
import { Tracked } from "./tracked.ts";

const CACHE_THRESHOLD = 0.3;
const BALANCE = { requests: 64, times: 1.5 } as const;
const TREE_CHARACTERS = 2 ** 26;
const CHARACTERS_PER_TOKEN = 4;

export function sglang({ fleet, random }: View): Chooser {
  const tracked = new Tracked(fleet.engines.length);
  const { blockTokens } = fleet.model;
  const tree = new SentPrefixes(fleet.engines.length, TREE_CHARACTERS / CHARACTERS_PER_TOKEN / blockTokens);
  const inflight = (engine: number): number => tracked.inflight(engine);
  const cacheAware = (engines: readonly number[], request: SimulatedRequest): number => {
    const loads = engines.map(inflight);
    const [low, high] = [Math.min(...loads), Math.max(...loads)];
    const unbalanced = high - low > BALANCE.requests && high > BALANCE.times * low;
    const matched = (engine: number): number => tree.matched(engine, request.blocks);
    const longest = least(engines, (engine) => -matched(engine), 0);
    const follows = !unbalanced && matched(longest) / request.blocks.length > CACHE_THRESHOLD;
    const chosen = follows ? longest : least(engines, inflight, random.next());
    tree.record(chosen, request.blocks);
    return chosen;
  };
  const ofTwo = (engines: readonly number[]): number => {
    const two = [random.next(), random.next()].map((dice) => engines[Math.floor(dice * engines.length)] ?? 0);
    return least(two, inflight, 0);
  };
  return {
    choose: (request) =>
      fleet.prefillers.length === 0
        ? { engine: cacheAware(fleet.decoders, request) }
        : { engine: ofTwo(fleet.decoders), prefill: cacheAware(fleet.prefillers, request) },
    sent: (_, engine) => tracked.sent(engine),
  };
}
