/**
 * Requests of a workload: what every policy is given alike. Text is known by its blocks: equal numbers are equal text,
 * and no two blocks are alike.
 */
import { seededRandom } from "../random.ts";

export interface SimulatedRequest {
  /** Milliseconds from the start; of no meaning where as many clients as the workload has send one after another. */
  readonly at: number;
  /** Of the prompt; the last one may be begun only. */
  readonly blocks: readonly number[];
  readonly promptTokens: number;
  /** Length of the answer, at least 1. */
  readonly outputTokens: number;
}

export interface Workload {
  readonly requests: readonly SimulatedRequest[];
  /** Tokens of a block. */
  readonly blockTokens: number;
  /** Clients that each wait for an answer before they send the next request; undefined: requests come at their times. */
  readonly clients?: number;
  /** All of it, again and again on the same engines, each run once the one before was answered; default once. */
  readonly runs?: number;
}

export interface ConversationSpec {
  readonly seed: number;
  readonly requestsPerSecond: number;
  readonly seconds: number;
}

/** Tokens of a block of conversations. */
export const BLOCK_TOKENS = 512;

const SYSTEM_PROMPTS = 100;
const SYSTEM_BLOCKS = 8;
/** Turns of a conversation, blocks that each adds, seconds between them, tokens of an answer: means. */
const MEAN = { turns: 4, blocks: 10, thinkSeconds: 20, outputTokens: 150 } as const;
const MOST_BLOCKS = 160;

/**
 * Conversations begin at random and share system prompts, a few of which most have; each turn sends all that was said
 * before and something new; people think between turns. Prompts are whole blocks; in the order of their times.
 */
export function conversations({ seed, requestsPerSecond, seconds }: ConversationSpec): readonly SimulatedRequest[] {
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
      const outputTokens = 1 + Math.floor(exponential(MEAN.outputTokens));
      requests.push({ at, blocks, promptTokens: blocks.length * BLOCK_TOKENS, outputTokens });
      if (random.next() < 1 / MEAN.turns) return;
    }
  };
  const between = (1000 * MEAN.turns) / requestsPerSecond;
  for (let at = exponential(between); at < seconds * 1000; at += exponential(between)) converse(at);
  return requests.sort((a, b) => a.at - b.at);
}

export interface SharedPrefixSpec {
  readonly groups: number;
  readonly promptsPerGroup: number;
  readonly systemTokens: number;
  readonly questionTokens: number;
  readonly outputTokens: number;
  readonly blockTokens: number;
  readonly seed: number;
}

/**
 * Groups of prompts with a system prompt of their own each, in random order: `generated-shared-prefix` of SGLang's
 * bench_serving, which Kthena's benchmark uses. Lengths are whole blocks.
 */
export function sharedPrefixes(spec: SharedPrefixSpec): readonly SimulatedRequest[] {
  const { groups, promptsPerGroup, systemTokens, questionTokens, outputTokens, blockTokens } = spec;
  const [system, question] = [systemTokens / blockTokens, questionTokens / blockTokens];
  const random = seededRandom(spec.seed);
  const requests = Array.from({ length: groups * promptsPerGroup }, (_, number) => {
    const group = number % groups;
    const own = groups * system + number * question;
    const blocks = [...range(group * system, system), ...range(own, question)];
    return {
      order: random.next(),
      request: { at: 0, blocks, promptTokens: systemTokens + questionTokens, outputTokens },
    };
  });
  return requests.sort((a, b) => a.order - b.order).map(({ request }) => request);
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, index) => from + index);
