/**
 * Kthena's router: filters, then a weighted sum of scores from 0 to 100, the highest wins, equals by chance.
 *
 * Source: volcano-sh/kthena, pkg/kthena-router/scheduler (framework, plugins least_request, least_latency, gpu,
 * prefix_cache, kvcache_aware); the code of September 2025, with which its benchmark was made, where it differed. A
 * filter that leaves no engine fails the request there; here it lets all pass.
 */
import type { Random } from "../../../ports.ts";
import type { Signals } from "../fleet.ts";
import type { Chooser, Sent, View } from "../policy.ts";
import type { SimulatedRequest } from "../workload.ts";
import { least } from "./simple.ts";
import { scraped, type Scraped, type TokenTimes } from "./scraped.ts";
import { SentPrefixes, type ToldPrefixes } from "./prefixes.ts";
import { Tracked } from "./tracked.ts";

export type KthenaScorer = "least-request" | "least-latency" | "gpu-usage" | "prefix-cache" | "kvcache-aware";

export interface KthenaOptions {
  readonly scorers: readonly KthenaScorer[];
  /**
   * `benchmark`: least-request by the engines' counts alone, blocks of 128 tokens for kvcache-aware, and for prefix-cache
   * prompts written down whole: why, says `scenes.ts`.
   */
  readonly version: "benchmark" | "current";
}

/** METRICS_SCRAPE_INTERVAL; maxWaitingRequests; weights 1. */
const SCRAPE_MS = 1000;
const MAX_WAITING = 10;
/**
 * prefix-cache: 64 bytes a block, 128 blocks at most are looked up and written down, 50,000 hashes of each pod, and no more
 * than the 5 longest matches are found; a token taken for 4 bytes.
 */
const PREFIX = { tokensPerBlock: 16, mostBlocks: 128, mostHashes: 50_000, mostMatches: 5 } as const;
/** kvcache-aware: 128 blocks at most of 16 tokens, in the benchmark of 128. */
const KV = { mostBlocks: 128, tokens: { current: 16, benchmark: 128 } } as const;

interface Scored {
  readonly engine: number;
  readonly signals: Signals;
  readonly matched: { readonly sent: number; readonly told: number };
}

type Scorer = (all: readonly Scored[], request: SimulatedRequest) => readonly number[];

/** `told`: the blocks that engines tell of, for kvcache-aware. */
export function kthena(
  { scorers, version }: KthenaOptions,
  { fleet, time, random }: View,
  told: ToldPrefixes,
): Chooser {
  const tracked = new Tracked(fleet.engines.length);
  const { blockTokens } = fleet.model;
  const sent = new SentPrefixes(fleet.engines.length, (PREFIX.mostHashes * PREFIX.tokensPerBlock) / blockTokens);
  const view = scraped(fleet, time, SCRAPE_MS);
  const written =
    version === "benchmark" ? Infinity : Math.ceil((PREFIX.mostBlocks * PREFIX.tokensPerBlock) / blockTokens);
  const table = scorersOf({
    ...{ version, blockTokens, random, meanMs: view.meanMs },
    inflight: (engine) => tracked.inflight(engine),
  });
  const best = (engines: readonly number[], request: SimulatedRequest): number => {
    const all = engines.map((engine) => ({
      ...{ engine, signals: view.now(engine) },
      matched: { sent: sent.matched(engine, request.blocks), told: told.matched(engine, request.blocks) },
    }));
    const passed = all.filter(({ signals }) => signals.waiting < MAX_WAITING);
    const scored = passed.length > 0 ? passed : all;
    const totals = scored.map(() => 0);
    for (const scorer of scorers)
      for (const [index, score] of table[scorer](scored, request).entries())
        totals[index] = (totals[index] ?? 0) + Math.trunc(score);
    const order = new Map(scored.map(({ engine }, index) => [engine, -(totals[index] ?? 0)]));
    return least([...order.keys()], (engine) => order.get(engine) ?? 0, random.next());
  };
  return {
    // The decode pod is chosen first, by its own score; then the best prefill pod for it.
    choose: (request) => ({
      engine: best(fleet.decoders, request),
      ...(fleet.prefillers.length === 0 ? {} : { prefill: best(fleet.prefillers, request) }),
    }),
    sent: (request, engine) =>
      afterwards(tracked.sent(engine), () => sent.record(engine, request.blocks.slice(0, written))),
  };
}

/** Prefixes are written down only once the whole answer was sent. */
const afterwards = (sent: Sent, task: () => void): Sent => ({
  over: () => {
    sent.over?.();
    task();
  },
});

interface Ground {
  readonly version: KthenaOptions["version"];
  readonly blockTokens: number;
  readonly random: Random;
  readonly inflight: (engine: number) => number;
  readonly meanMs: Scraped["meanMs"];
}

function scorersOf({ version, blockTokens, random, inflight, meanMs }: Ground): Readonly<Record<KthenaScorer, Scorer>> {
  const base = ({ engine, signals: { running, waiting } }: Scored): number =>
    version === "benchmark"
      ? running + 100 * waiting
      : inflight(engine) + 100 * Math.max(inflight(engine) - running, 0);
  /** Matched of all blocks of `unit` tokens, of which the first `most` count. */
  const share = (matched: number, { promptTokens }: SimulatedRequest, unit: number, most: number): number => {
    const total = Math.min(most, Math.ceil(promptTokens / unit));
    return (100 * Math.min(total, Math.floor((matched * blockTokens) / unit))) / Math.max(1, total);
  };
  return {
    "least-request": (all) => {
      const bases = all.map(base);
      const most = Math.max(...bases);
      return bases.map((each) => (most === 0 ? 100 : (100 * (most - each)) / most));
    },
    "gpu-usage": (all) =>
      all.map(({ signals: { usedBlocks, capacityBlocks } }) => 100 * (1 - usedBlocks / capacityBlocks)),
    "least-latency": (all) => latencyScores(all, meanMs),
    "prefix-cache": (all, request) =>
      longest(
        all.map(({ matched }) => share(matched.sent, request, PREFIX.tokensPerBlock, PREFIX.mostBlocks)),
        random,
      ),
    "kvcache-aware": (all, request) =>
      all.map(({ matched }) => share(matched.told, request, KV.tokens[version], KV.mostBlocks)),
  };
}

/** The highest scores alone, as many as are looked for: of equals those that come up, as Go's maps go. */
function longest(scores: readonly number[], random: Random): readonly number[] {
  if (scores.length <= PREFIX.mostMatches) return scores;
  const order = scores.map((score, index) => ({ score, index, dice: random.next() }));
  order.sort((a, b) => b.score - a.score || a.dice - b.dice);
  const found = new Set(order.slice(0, PREFIX.mostMatches).map(({ index }) => index));
  return scores.map((score, index) => (found.has(index) ? score : 0));
}

/**
 * Half by the mean time to first token of the last interval, half by that of the other tokens: an engine that answered
 * nothing since keeps the mean it had. 50 where there never was one.
 */
function latencyScores(all: readonly Scored[], meanMs: Scraped["meanMs"]): readonly number[] {
  const part = (of: TokenTimes): readonly number[] => {
    const means = all.map(({ engine }) => meanMs(engine, of));
    const known = means.filter((mean) => mean !== undefined);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    return means.map((mean) => (mean === undefined ? 50 : high === low ? 100 : (100 * (high - mean)) / (high - low)));
  };
  const [first, next] = [part("firstTokens"), part("nextTokens")];
  return first.map((score, index) => (score + (next[index] ?? 50)) / 2);
}
