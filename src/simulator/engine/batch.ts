/** One step of the batch: who gets how many tokens under the shared budget, and when the step ends. */
import { knownTokens, type Sequence } from "./sequence.ts";
import { stepMs, type PrefillChunk, type TimingProfile } from "./timing.ts";

export interface EngineSettings {
  readonly profile: TimingProfile;
  /** Tokens of a block. */
  readonly blockSize: number;
  readonly capacityBlocks: number;
  /** Sequences in a step at most (vLLM: `--max-num-seqs`). */
  readonly maxSequences: number;
  /** Tokens in a step at most (vLLM: `--max-num-batched-tokens`). */
  readonly tokenBudget: number;
  /** False: no prefix is cached. */
  readonly caching?: boolean;
}

export interface Step {
  /** In the time of the model, milliseconds. */
  readonly endsAt: number;
  readonly work: readonly { readonly sequence: Sequence; readonly tokens: number }[];
}

/** Collects the work of one step. */
export class StepBuilder {
  readonly #settings: EngineSettings;
  readonly #work: { sequence: Sequence; tokens: number }[] = [];
  readonly #chunks: PrefillChunk[] = [];
  #decodeSequences = 0;
  #decodeKvTokens = 0;
  budget: number;

  constructor(settings: EngineSettings) {
    this.#settings = settings;
    this.budget = settings.tokenBudget;
  }

  /** Tokens that the sequence would get now. */
  share(sequence: Sequence): number {
    return Math.min(knownTokens(sequence) - sequence.computed, this.budget);
  }

  /** A single token costs what a decoded one costs; everything else is a chunk of prefill. */
  add(sequence: Sequence): number {
    const tokens = this.share(sequence);
    this.budget -= tokens;
    this.#work.push({ sequence, tokens });
    if (tokens > 1) this.#chunks.push({ tokens, context: sequence.computed });
    else {
      this.#decodeSequences += 1;
      this.#decodeKvTokens += sequence.computed + 1;
    }
    return tokens;
  }

  build(startsAt: number): Step | undefined {
    if (this.#work.length === 0) return undefined;
    const ms = stepMs(this.#settings.profile, {
      chunks: this.#chunks,
      decodeSequences: this.#decodeSequences,
      decodeKvTokens: this.#decodeKvTokens,
    });
    return { endsAt: startsAt + ms, work: this.#work };
  }
}
