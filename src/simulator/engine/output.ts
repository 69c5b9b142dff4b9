/**
 * What an engine answers: deterministic filler, decided before the first token from the prompt alone.
 *
 * Every word is exactly one token, and stays that token when a client sends the answer back as history, so the next
 * turn of a chat hits the blocks of the answer too, as it does on a real engine.
 */
import { END_OF_TURN, tokenId } from "./tokenizer.ts";

export type FinishReason = "stop" | "length";

export interface OutputPlan {
  readonly ids: readonly number[];
  readonly finish: FinishReason;
  /** Text of the token at `index`; empty for the token that ends the turn. */
  text(index: number): string;
}

export interface OutputRequest {
  /** Digest of the prompt; equal prompts get equal answers. */
  readonly digest: number;
  /** Which of several answers to the same prompt this is. */
  readonly sample: number;
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  /** Mean length of an answer that nothing cuts short. */
  readonly meanTokens: number;
  /** An answer that stands alone begins without a space; one that continues a text begins with one. */
  readonly continues: boolean;
}

const ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr"];
const VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const CODAS = ["", "n", "r", "l"];
/** 16 onsets x 8 vowels x 4 codas = 512 words of 2 to 5 letters: below the 6 at which the tokenizer cuts. */
const WORDS = ONSETS.flatMap((onset) => VOWELS.flatMap((vowel) => CODAS.map((coda) => onset + vowel + coda)));
const SPACED_IDS = WORDS.map((word) => tokenId(` ${word}`));
const END_ID = tokenId(END_OF_TURN);

/** Finaliser of MurmurHash3 over the digest and a position: spreads neighbouring positions over all words. */
function mix(digest: number, position: number): number {
  let value = (digest ^ Math.imul(position + 1, 0x9e3779b1)) | 0;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/**
 * Where the answer would end by itself: half to one and a half times the mean, and not under 2 tokens, its end among them.
 * Of a mean under 1 it is the end alone: an empty answer.
 */
const naturalLength = (seed: number, mean: number): number =>
  Math.max(mean < 1 ? 1 : 2, Math.round(mean * (0.5 + (mix(seed, -2) % 1024) / 1024)));

export function planOutput(request: OutputRequest): OutputPlan {
  const seed = ((request.digest % 0x1_0000_0000) ^ Math.imul(request.sample, 0x27d4eb2f)) | 0;
  const natural = Math.max(naturalLength(seed, request.meanTokens), request.minTokens + 1);
  const stops = !request.ignoreEos && natural <= request.maxTokens;
  const length = stops ? natural : request.maxTokens;
  const word = (index: number): number => mix(seed, index) % WORDS.length;
  const isEnd = (index: number): boolean => stops && index === length - 1;
  const isBare = (index: number): boolean => index === 0 && !request.continues;
  const text = (index: number): string => {
    if (isEnd(index)) return "";
    return (isBare(index) ? "" : " ") + (WORDS[word(index)] ?? "");
  };
  const id = (index: number): number => {
    if (isEnd(index)) return END_ID;
    return isBare(index) ? tokenId(text(index)) : (SPACED_IDS[word(index)] ?? 0);
  };
  return { ids: Array.from({ length }, (_, index) => id(index)), finish: stops ? "stop" : "length", text };
}
