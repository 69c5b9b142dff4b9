/**
 * Requests of conversations, from a seed: the same ones for every policy and number of routers.
 *
 * Conversations begin at random and share system prompts, a few of which most have; each turn sends all that was said
 * before and something new; people think between turns. Prompts are whole blocks of 512 tokens, which engines cache.
 */
import { seededRandom } from "../random.ts";

/** Tokens of a block of the workload. */
export const BLOCK_TOKENS = 512;

export interface SimulatedRequest {
  /** Milliseconds from the start. */
  readonly at: number;
  /** Of the prompt; equal numbers are equal text. */
  readonly blocks: readonly number[];
  readonly outputTokens: number;
}

export interface WorkloadSpec {
  readonly seed: number;
  readonly requestsPerSecond: number;
  readonly seconds: number;
}

const SYSTEM_PROMPTS = 100;
const SYSTEM_BLOCKS = 8;
/** Turns of a conversation, blocks that each adds, seconds between them, tokens of an answer: means. */
const MEAN = { turns: 4, blocks: 10, thinkSeconds: 20, outputTokens: 150 } as const;
const MOST_BLOCKS = 160;

/** In the order of their times. */
export function conversations({ seed, requestsPerSecond, seconds }: WorkloadSpec): readonly SimulatedRequest[] {
  const random = seededRandom(seed);
  const exponential = (mean: number): number => -mean * Math.log(1 - random.next());
  let fresh = SYSTEM_PROMPTS * SYSTEM_BLOCKS;
  const requests: SimulatedRequest[] = [];
  const converse = (from: number): void => {
    // Zipf: the first system prompt is in one conversation of five.
    const system = Math.floor(SYSTEM_PROMPTS ** random.next()) - 1;
    let blocks = Array.from({ length: SYSTEM_BLOCKS }, (_, block) => system * SYSTEM_BLOCKS + block);
    for (let at = from; at < seconds * 1000; at += exponential(MEAN.thinkSeconds * 1000)) {
      const added = 1 + Math.floor(exponential(MEAN.blocks - 1));
      blocks = [...blocks, ...Array.from({ length: added }, () => fresh++)].slice(0, MOST_BLOCKS);
      requests.push({ at, blocks, outputTokens: 1 + Math.floor(exponential(MEAN.outputTokens)) });
      if (random.next() < 1 / MEAN.turns) return;
    }
  };
  const between = (1000 * MEAN.turns) / requestsPerSecond;
  for (let at = exponential(between); at < seconds * 1000; at += exponential(between)) converse(at);
  return requests.sort((a, b) => a.at - b.at);
}
