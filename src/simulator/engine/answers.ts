/** Answers of the OpenAI API in vLLM's shape: whole, or as chunks of a stream. */
import type { FinishReason } from "./output.ts";
import type { GenerationKind } from "./requests.ts";

/** What all answers to one request share. */
export interface AnswerHead {
  readonly kind: GenerationKind;
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: string;
  /** The answer says how much of its prompt was cached. */
  readonly cacheReport: boolean;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Absent in the running figures of a stream. */
  readonly cachedTokens?: number;
}

export interface Choice {
  readonly index: number;
  readonly text: string;
  readonly finish: FinishReason;
}

const usageJson = (usage: Usage): Record<string, unknown> => ({
  prompt_tokens: usage.promptTokens,
  total_tokens: usage.promptTokens + usage.completionTokens,
  completion_tokens: usage.completionTokens,
  ...(usage.cachedTokens === undefined ? {} : { prompt_tokens_details: { cached_tokens: usage.cachedTokens } }),
});

function choiceJson(kind: GenerationKind, { index, text, finish }: Choice): Record<string, unknown> {
  const body =
    kind === "chat"
      ? { message: { role: "assistant", content: text, refusal: null, tool_calls: [], reasoning: null } }
      : { text };
  return { index, ...body, logprobs: null, finish_reason: finish, stop_reason: null };
}

const headJson = ({ id, created, model }: AnswerHead, object: string): Record<string, unknown> => ({
  id,
  object,
  created,
  model,
});

/** The whole answer. `transfer` is what a prefill leg returns, null for everybody else. */
export const wholeAnswer = (
  head: AnswerHead,
  choices: readonly Choice[],
  usage: Usage,
  transfer: Record<string, unknown> | null,
): unknown => ({
  ...headJson(head, head.kind === "chat" ? "chat.completion" : "text_completion"),
  choices: choices.map((choice) => choiceJson(head.kind, choice)),
  service_tier: null,
  system_fingerprint: null,
  usage: usageJson(usage),
  prompt_logprobs: null,
  kv_transfer_params: transfer,
});

const chunkObject = (head: AnswerHead): string => (head.kind === "chat" ? "chat.completion.chunk" : "text_completion");

/** The first chunk of each choice of a chat: who speaks. */
export const roleChunk = (head: AnswerHead, index: number, usage?: Usage): unknown => ({
  ...headJson(head, chunkObject(head)),
  choices: [{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }],
  ...(usage === undefined ? {} : { usage: usageJson(usage) }),
});

export interface Delta {
  readonly index: number;
  readonly text: string;
  /** Null but for the last. */
  readonly finish: FinishReason | null;
}

/** One more token of a choice. */
export function tokenChunk(head: AnswerHead, delta: Delta, usage?: Usage): unknown {
  const body = head.kind === "chat" ? { delta: { content: delta.text } } : { text: delta.text };
  const end = delta.finish === null ? {} : { stop_reason: null };
  return {
    ...headJson(head, chunkObject(head)),
    choices: [{ index: delta.index, ...body, logprobs: null, finish_reason: delta.finish, ...end }],
    ...(usage === undefined ? {} : { usage: usageJson(usage) }),
  };
}

/** The last chunk, where the request wanted usage. */
export const usageChunk = (head: AnswerHead, usage: Usage): unknown => ({
  ...headJson(head, chunkObject(head)),
  choices: [],
  usage: usageJson(usage),
});
