/**
 * Bodies of the OpenAI API, decoded once: from JSON to what the engine is asked, or to the error that vLLM would give.
 * Unknown fields are ignored, as there.
 */
import { isObject } from "../../kinds/kube.ts";
import {
  optionalBoolean,
  optionalNumber,
  optionalRecord,
  optionalString,
  schemaError,
  valueError,
  WireError,
  type Body,
} from "./fields.ts";
import type { TransferIntent } from "./transfer.ts";
import { MAX_PIECE_LENGTH, renderChat, tokenize, type ChatMessage } from "./tokenizer.ts";

export type GenerationKind = "completion" | "chat";

export interface GenerationRequest {
  readonly kind: GenerationKind;
  readonly model: string;
  /** Token ids of each prompt. */
  readonly prompts: readonly (readonly number[])[];
  /** Answers to each prompt. */
  readonly samples: number;
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
  readonly salt: string;
  readonly transfer: TransferIntent;
  /** From the body; the header of the same meaning comes first. */
  readonly requestId: string | undefined;
}

export interface Limits {
  readonly models: readonly string[];
  /** Prompt and answer together, in tokens. */
  readonly maxModelLen: number;
}

/** Sequences that one request may ask for; vLLM has no such bound, every input here has one. */
const MAX_SEQUENCES = 128;

/** Sampling settings are checked and then change nothing: the answer is filler. */
const RANGES: readonly (readonly [field: string, isValid: (value: number) => boolean, rule: string])[] = [
  ["temperature", (value) => value >= 0, "temperature must be non-negative"],
  ["top_p", (value) => value > 0 && value <= 1, "top_p must be in (0, 1]"],
  ["presence_penalty", (value) => value >= -2 && value <= 2, "presence_penalty must be in [-2, 2]"],
  ["frequency_penalty", (value) => value >= -2 && value <= 2, "frequency_penalty must be in [-2, 2]"],
  ["repetition_penalty", (value) => value > 0, "repetition_penalty must be greater than zero"],
  ["min_p", (value) => value >= 0 && value <= 1, "min_p must be in [0, 1]"],
];

function checkSampling(body: Body): void {
  for (const [field, isValid, rule] of RANGES) {
    const value = optionalNumber(body, field, false);
    if (value !== undefined && !isValid(value)) throw valueError(`${rule}, got ${value}.`, field);
  }
  const topK = optionalNumber(body, "top_k", true);
  if (topK !== undefined && topK < -1) throw valueError(`top_k must be 0 (disable), or at least 1, got ${topK}.`);
  checkStop(body["stop"]);
}

function checkStop(stop: unknown): void {
  const isList = Array.isArray(stop) && stop.every((entry) => typeof entry === "string");
  if (stop !== undefined && stop !== null && typeof stop !== "string" && !isList)
    throw schemaError("string_type", "stop", "Input should be a valid string");
}

function readModel(body: Body, limits: Limits): string {
  const model = optionalString(body, "model") ?? limits.models[0] ?? "";
  if (limits.models.includes(model)) return model;
  throw new WireError(404, "NotFoundError", `The model \`${model}\` does not exist.`, "model");
}

function readStream(body: Body): Pick<GenerationRequest, "stream" | "includeUsage" | "continuousUsage"> {
  const stream = optionalBoolean(body, "stream");
  const options = optionalRecord(body, "stream_options");
  if (options !== undefined && !stream)
    throw valueError("Stream options can only be defined when `stream=True`.", "stream_options");
  return {
    stream,
    includeUsage:
      options !== undefined && (options["include_usage"] === undefined || optionalBoolean(options, "include_usage")),
    continuousUsage: options !== undefined && optionalBoolean(options, "continuous_usage_stats"),
  };
}

function readSamples(body: Body): number {
  const samples = optionalNumber(body, "n", true) ?? 1;
  if (samples < 1) throw valueError(`n must be at least 1, got ${samples}.`, "n");
  return samples;
}

/** `max_completion_tokens` comes before `max_tokens` in chats; completions know only the latter. */
function readMaxTokens(body: Body, kind: GenerationKind): number | undefined {
  const given = optionalNumber(body, "max_tokens", true);
  const preferred = kind === "chat" ? optionalNumber(body, "max_completion_tokens", true) : undefined;
  const maxTokens = preferred ?? given ?? (kind === "completion" ? 16 : undefined);
  if (maxTokens !== undefined && maxTokens < 1)
    throw valueError(`max_tokens must be at least 1, got ${maxTokens}.`, "max_tokens");
  return maxTokens;
}

function readMinTokens(body: Body, maxTokens: number | undefined): number {
  const minTokens = optionalNumber(body, "min_tokens", true) ?? 0;
  if (minTokens < 0) throw valueError(`min_tokens must be greater than or equal to 0, got ${minTokens}.`);
  if (maxTokens !== undefined && minTokens > maxTokens)
    throw valueError(`min_tokens must be less than or equal to max_tokens=${maxTokens}, got ${minTokens}.`);
  return minTokens;
}

function readSalt(body: Body): string {
  const salt = optionalString(body, "cache_salt");
  if (salt === "") throw valueError("Parameter 'cache_salt' must be a non-empty string if provided.");
  return salt ?? "";
}

/** Text too long by any count is refused before it is tokenised. */
function tokenizeWithin(text: string, limits: Limits): number[] {
  if (text.length > limits.maxModelLen * MAX_PIECE_LENGTH)
    throw valueError(
      `You passed ${text.length} characters. However, the model's context length is only ${limits.maxModelLen} tokens. ` +
        "Please reduce the length of the input prompt.",
      "input_text",
    );
  return tokenize(text);
}

const isTokenList = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0);

/** A text, token ids, or a list of either. */
function readPrompts(body: Body, limits: Limits): (readonly number[])[] {
  const prompt = body["prompt"];
  if (prompt === undefined || prompt === null || prompt === "" || (Array.isArray(prompt) && prompt.length === 0))
    throw valueError("Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  if (isTokenList(prompt)) return [prompt];
  const list: unknown[] = Array.isArray(prompt) ? prompt : [prompt];
  return list.map((entry) => {
    if (typeof entry === "string") return tokenizeWithin(entry, limits);
    if (isTokenList(entry)) return entry;
    throw schemaError("string_type", "prompt", "Input should be a valid string");
  });
}

/** The rendered chat, as token ids. */
export function readChat(body: Body, limits: Limits): number[] {
  const { messages } = body;
  if (messages === undefined) throw schemaError("missing", "messages", "Field required");
  if (!Array.isArray(messages)) throw schemaError("list_type", "messages", "Input should be a valid list");
  if (messages.length === 0) throw valueError("list object has no element 0", "messages");
  const opens = body["add_generation_prompt"] !== false;
  return tokenizeWithin(renderChat(messages.map(readMessage), body["tools"], opens), limits);
}

function readMessage(message: unknown): ChatMessage {
  if (!isObject(message)) throw schemaError("dict_type", "messages", "Input should be a valid dictionary");
  const { role, content } = message;
  if (typeof role !== "string") throw schemaError("missing", "messages", "Field required");
  const hasContent = content === undefined || content === null || typeof content === "string" || Array.isArray(content);
  if (!hasContent) throw schemaError("string_type", "messages", "Input should be a valid string");
  return { ...message, role };
}

function checkLength(request: GenerationRequest, limits: Limits): void {
  const { maxModelLen } = limits;
  const longest = Math.max(...request.prompts.map((prompt) => prompt.length));
  if (longest >= maxModelLen)
    throw valueError(
      `This model's maximum context length is ${maxModelLen} tokens. However, your request has ${longest} input tokens. ` +
        "Please reduce the length of the input messages.",
      "input_tokens",
    );
  const { maxTokens } = request;
  if (maxTokens !== undefined && longest + maxTokens > maxModelLen)
    throw valueError(
      `'max_tokens' or 'max_completion_tokens' is too large: ${maxTokens}. This model's maximum context length is ` +
        `${maxModelLen} tokens and your request has ${longest} input tokens (${maxTokens} > ${maxModelLen} - ${longest}).`,
      "max_tokens",
    );
}

/** Decodes a request for completions or for a chat, whose transfer is read already. Throws WireError. */
export function readGeneration(
  kind: GenerationKind,
  body: Body,
  limits: Limits,
  transfer: TransferIntent = { kind: "none" },
): GenerationRequest {
  optionalRecord(body, "kv_transfer_params");
  const model = readModel(body, limits);
  checkSampling(body);
  const maxTokens = readMaxTokens(body, kind);
  const request: GenerationRequest = {
    kind,
    model,
    ...readStream(body),
    maxTokens,
    minTokens: readMinTokens(body, maxTokens),
    samples: readSamples(body),
    ignoreEos: optionalBoolean(body, "ignore_eos"),
    salt: readSalt(body),
    transfer,
    requestId: optionalString(body, "request_id"),
    prompts: kind === "chat" ? [readChat(body, limits)] : readPrompts(body, limits),
  };
  if (request.prompts.length * request.samples > MAX_SEQUENCES)
    throw valueError(
      `at most ${MAX_SEQUENCES} sequences a request, got ${request.prompts.length * request.samples}.`,
      "n",
    );
  checkLength(request, limits);
  return request;
}

/** Decodes a request to `/tokenize`: a prompt, or messages. Throws WireError. */
export function readTokenize(body: Body, limits: Limits): number[] {
  readModel(body, limits);
  if (body["messages"] !== undefined) return readChat(body, limits);
  const prompt = optionalString(body, "prompt");
  if (prompt === undefined) throw schemaError("missing", "prompt", "Field required");
  return tokenizeWithin(prompt, limits);
}
