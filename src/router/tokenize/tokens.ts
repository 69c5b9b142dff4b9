/**
 * The tokens of a prompt, as the engine will see them: what makes an exact lookup in the index of engine events possible.
 *
 * Asked for before the pick, and only where an answer can change it. Never waited for beyond `router.tokenizer.budgetMs`:
 * without an answer by then the approximate index decides. Block keys of tokens are those of their bytes, four to a token,
 * little endian, seeded as those of text (`seedFor`).
 */
import type { KnownEndpoint } from "../directory.ts";
import type { RequestFacts } from "../request/facts.ts";

export interface PromptTokens {
  readonly ids: Int32Array;
  /** Who made them: the model's own tokenizer here, or the engine when it was asked. */
  readonly how: "tokenizer" | "engine";
}

/** A prompt whose tokens are wanted. */
export interface PromptQuery {
  readonly facts: RequestFacts;
  readonly body: Buffer;
  /** As endpoints serve it. */
  readonly model: string;
  /** Endpoints that may decode or prefill it. */
  readonly endpoints: readonly (readonly KnownEndpoint[])[];
}

export interface PromptTokenizer {
  /** True while no prompt's tokens would change a pick: then nothing is asked. */
  readonly idle: boolean;
  /**
   * Undefined at once where tokens are not to be had or would change nothing; else what is known when the budget ends.
   * Never rejects.
   */
  tokens(query: PromptQuery): Promise<PromptTokens | undefined> | undefined;
  /** What the engine counted for a prompt, and what was counted here, where it was. */
  counted(prompt: CountedPrompt, promptTokens: number): void;
}

/** What is left of a prompt when its answer ends. */
export interface CountedPrompt {
  readonly model: string;
  /** Name of the API. */
  readonly api: string;
  /** Whose it is. */
  readonly tenant: string;
  readonly tokens: PromptTokens["how"] | undefined;
  /** Tokens, where they were made; else as estimated. */
  readonly count: number;
}

/** Which endpoints tell of their caches now. */
export interface LiveEvents {
  /** Of all endpoints. */
  readonly anyLive: boolean;
  isLive(endpoint: string): boolean;
}
