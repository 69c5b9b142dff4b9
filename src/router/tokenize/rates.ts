/**
 * Bytes of prompt text that make one token, learned for each model from what engines count.
 *
 * Sums of bytes and of tokens, both fading with the text that comes, so that long prompts, whose estimate matters, say
 * more than short ones, whose template weighs. Bounded on both sides: no answer moves the estimate beyond what text can be.
 */
/** 16 bytes a token is source code with long runs of spaces; 1 is random bytes. */
const [LEAST, MOST] = [1, 16];
/** Text after which what was known has faded to a third: some sixty thousand tokens. */
const MEMORY_BYTES = 262_144;
/** Nothing is said before so many answers. */
const FIRST = 3;
/** Names of models come from engines, or from clients where engines decide of them. */
const MAX_MODELS = 1024;

interface Sums {
  bytes: number;
  tokens: number;
  answers: number;
}

export class TokenRates {
  readonly #models = new Map<string, Sums>();

  /** Undefined until enough is known. */
  of(model: string): number | undefined {
    const sums = this.#models.get(model);
    return sums === undefined || sums.answers < FIRST ? undefined : bounded(sums.bytes / sums.tokens);
  }

  /** @param bytes of the prompt's text, media apart */
  learn(model: string, bytes: number, tokens: number): void {
    if (!(bytes > 0 && tokens > 0 && Number.isFinite(tokens))) return;
    const sums = this.#models.get(model) ?? this.#add(model);
    // One answer that says nonsense counts for what text can be, and no more.
    const believed = Math.min(Math.max(tokens, bytes / MOST), bytes / LEAST);
    const kept = Math.exp(-bytes / MEMORY_BYTES);
    sums.bytes = sums.bytes * kept + bytes;
    sums.tokens = sums.tokens * kept + believed;
    sums.answers += 1;
  }

  #add(model: string): Sums {
    if (this.#models.size >= MAX_MODELS) this.#models.delete(this.#models.keys().next().value ?? "");
    const sums = { bytes: 0, tokens: 0, answers: 0 };
    this.#models.set(model, sums);
    return sums;
  }
}

const bounded = (rate: number): number => Math.min(MOST, Math.max(LEAST, rate));
