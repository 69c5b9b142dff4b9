/** A prompt in the units of the pick: keys of its blocks, and how many tokens it has, as far as that is known. */
import { seedFor, type RequestFacts } from "./request/facts.ts";
import type { BlockKeys } from "./kv/blocks.ts";
import type { SelectDependencies } from "./select.ts";
import type { PromptTokens } from "./tokenize/tokens.ts";

/** A prompt in the units of the pick. */
export interface Prompt {
  readonly model: string;
  readonly keys: BlockKeys;
  readonly tokens: number;
  readonly bytesPerToken: number;
  /** Who counted the tokens; absent where they are estimated. */
  readonly how?: PromptTokens["how"];
}

/** @param tokens where they are known: then their number is no estimate */
export function promptOf(
  deps: PromptDependencies,
  facts: RequestFacts,
  model: string,
  tokens: PromptTokens | undefined,
): Prompt {
  const { parts, bytes, extraTokens } = facts.prompt;
  const keys = deps.hasher.keys(parts, deps.config.index.blockBytes, seedFor(facts, model));
  if (tokens !== undefined && tokens.ids.length > 0) {
    const { length } = tokens.ids;
    return { model, keys, tokens: length, bytesPerToken: Math.max(1, bytes) / length, how: tokens.how };
  }
  const bytesPerToken = rateOf(deps, facts, model);
  return { model, keys, tokens: Math.max(1, Math.ceil(bytes / bytesPerToken) + extraTokens), bytesPerToken };
}

/** Learned where the prompt is text alone: lists of tokens and media have rates of their own. */
function rateOf({ rates }: PromptDependencies, { prompt }: RequestFacts, model: string): number {
  const isText = prompt.media === 0 && !prompt.listed;
  return (isText ? rates?.of(model) : undefined) ?? prompt.bytesPerToken;
}

type PromptDependencies = Pick<SelectDependencies, "config" | "hasher" | "rates">;
