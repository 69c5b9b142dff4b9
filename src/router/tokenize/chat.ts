/**
 * The bodies of the chat APIs, as what a chat template is given: messages, tools and settings, the way the engine itself
 * makes them (vLLM `entrypoints/chat_utils.py` and `entrypoints/anthropic`, SGLang `entrypoints/openai/serving_chat.py`).
 *
 * Pure, and never right by force: what an engine might read in another way throws `Untold`, and the prompt has no tokens.
 */
import { isObject } from "../../kinds/kube.ts";
import type { ContentFormat } from "./format.ts";
import type { Shape } from "./job.ts";

export type EngineDialect = "vllm" | "sglang";

export type Json = Readonly<Record<string, unknown>>;

/** The prompt's tokens are not to be known from here. */
export class Untold extends Error {}

/** What the template is rendered with. */
export interface ChatInput {
  readonly messages: readonly Json[];
  readonly tools: readonly Json[] | null;
  readonly variables: Json;
}

/** Templates take a quarter of a millisecond a turn, and cannot be stopped: a megabyte of empty turns would take ten seconds. */
const MAX_TURNS = 4096;

/** Messages, and the parts of each: what templates go over. */
function turnsIn(messages: readonly Json[]): number {
  const parts = messages.flatMap(({ content, tool_calls: calls }) => [content, calls]).filter(Array.isArray);
  return parts.reduce((sum, list) => sum + list.length, messages.length);
}

const recordsOf = (value: unknown, what: string): readonly Json[] => {
  if (!Array.isArray(value) || !value.every(isObject)) throw new Untold(`${what} is no list of objects`);
  return value;
};

/** Between the parts of a message, where a template wants one text. */
const JOINTS: Readonly<Record<EngineDialect, string>> = { vllm: "\n", sglang: " " };

/** Types of parts that are text, and the member it stands in. */
const TEXT_PARTS: ReadonlyMap<unknown, string> = new Map([
  ["text", "text"],
  ["input_text", "text"],
  ["output_text", "text"],
  ["refusal", "refusal"],
]);

const textOf = (part: unknown): string => {
  if (typeof part === "string") return part;
  const text = isObject(part) ? part[TEXT_PARTS.get(part["type"]) ?? ""] : undefined;
  if (typeof text !== "string") throw new Untold("a part is no text");
  return text;
};

/** The content of a message, as the template wants it. SGLang leaves text as it is; vLLM makes a part of it. */
function contentOf(content: unknown, dialect: EngineDialect, format: ContentFormat): unknown {
  const isList = Array.isArray(content);
  if (!isList && dialect === "sglang") return content ?? "";
  const texts = isList ? content.map(textOf) : typeof content === "string" ? [content] : [];
  return format === "parts" ? texts.map((text) => ({ type: "text", text })) : texts.join(JOINTS[dialect]);
}

/** Arguments are JSON in a string on the wire, and an object in templates; vLLM takes what is none for an empty one. */
function callOf(call: Json, dialect: EngineDialect): Json {
  const { function: called } = call;
  if (!isObject(called)) throw new Untold("a call is of no function");
  const { arguments: given } = called;
  return { ...call, function: { ...called, arguments: argumentsOf(given, dialect) } };
}

function argumentsOf(given: unknown, dialect: EngineDialect): unknown {
  if (typeof given !== "string") return typeof given === "object" && given !== null ? given : {};
  try {
    return JSON.parse(given);
  } catch {
    if (dialect === "sglang") throw new Untold("arguments are no JSON");
    return {};
  }
}

/** The members beside role, content and calls that each engine lets through, as far as they are text. */
const KEPT: Readonly<Record<EngineDialect, (message: Json) => Json>> = {
  vllm: ({ role, name, reasoning, tool_call_id }) => ({
    ...(role === "assistant" && typeof reasoning === "string" ? { reasoning, reasoning_content: reasoning } : {}),
    ...(role === "tool" && tool_call_id !== undefined ? { tool_call_id } : {}),
    ...(typeof name === "string" ? { name } : {}),
  }),
  sglang: ({ name, reasoning_content, tool_call_id }) => ({
    ...(typeof name === "string" ? { name } : {}),
    ...(typeof reasoning_content === "string" ? { reasoning_content } : {}),
    ...(typeof tool_call_id === "string" ? { tool_call_id } : {}),
  }),
};

function messageOf(message: Json, dialect: EngineDialect, format: ContentFormat): Json {
  const { role, content, tool_calls: calls } = message;
  if (typeof role !== "string") throw new Untold("a message has no role");
  // Developers may bring tools of their own, and how those are shown is each engine's own.
  if (message["tools"] !== undefined) throw new Untold("a message has tools");
  const wanted = dialect === "vllm" && role === "tool" ? "text" : format;
  const called = Array.isArray(calls) && calls.length > 0 ? recordsOf(calls, "tool_calls") : [];
  return {
    role,
    content: contentOf(content, dialect, wanted),
    ...(called.length > 0 ? { tool_calls: called.map((call) => callOf(call, dialect)) } : {}),
    ...KEPT[dialect](message),
  };
}

/** As the engine's data classes write them: `null` for what is absent, in the order of the class, the rest behind. */
function toolOf(tool: Json, dialect: EngineDialect): Json {
  const { function: called, type = "function", ...rest } = tool;
  if (!isObject(called)) throw new Untold("a tool is no function");
  const { name, description = null, parameters = null, ...more } = called;
  const strict = dialect === "sglang" ? { strict: more["strict"] ?? false } : {};
  const definition =
    dialect === "sglang"
      ? { description, name, parameters, ...more, ...strict }
      : { name, description, parameters, ...more };
  return dialect === "sglang" ? definition : { type, function: definition, ...rest };
}

function toolsOf({ tools, tool_choice: choice }: Json, dialect: EngineDialect): readonly Json[] | null {
  if (tools === undefined || tools === null || (Array.isArray(tools) && tools.length === 0)) return null;
  if (dialect === "sglang" && choice === "none") return null;
  return recordsOf(tools, "tools").map((tool) => toolOf(tool, dialect));
}

/** Members that the template sees under their own names. */
function variablesOf(body: Json): Json {
  const { chat_template_kwargs: own, reasoning_effort: effort, documents } = body;
  if (isObject(own) && Object.hasOwn(own, "chat_template")) throw new Untold("a template of the client's");
  const continues = body["continue_final_message"] === true;
  return {
    add_generation_prompt: body["add_generation_prompt"] !== false && !continues,
    continue_final_message: continues,
    ...(documents === undefined ? {} : { documents }),
    ...(effort === undefined ? {} : { reasoning_effort: effort }),
    ...(isObject(own) ? own : {}),
  };
}

type Reader = (body: Json) => Json;

/** Anthropic's and OpenAI's newer API as the chat API that engines make of them. */
const READERS: Readonly<Record<Exclude<Shape, "text">, Reader>> = {
  chat: (body) => body,
  messages: fromMessages,
  responses: fromResponses,
};

/** What the template of an engine is given for a body. Throws Untold. */
export function chatInput(
  shape: Exclude<Shape, "text">,
  given: Json,
  dialect: EngineDialect,
  format: ContentFormat,
): ChatInput {
  const body = READERS[shape](given);
  const messages = recordsOf(body["messages"], "messages");
  if (turnsIn(messages) > MAX_TURNS) throw new Untold("more turns than a template is given");
  return {
    messages: messages.map((message) => messageOf(message, dialect, format)),
    tools: toolsOf(body, dialect),
    variables: variablesOf(body),
  };
}

/** `system` is the first message; results of tools are messages of their own, before what the user says. */
function fromMessages(body: Json): Json {
  const { system, messages, tools, ...rest } = body;
  const head = system === undefined ? [] : [{ role: "system", content: joined(system) }];
  return {
    ...rest,
    messages: [...head, ...recordsOf(messages, "messages").flatMap(fromTurn)],
    ...(tools === undefined ? {} : { tools: recordsOf(tools, "tools").map(fromTool) }),
  };
}

const joined = (content: unknown): string => (Array.isArray(content) ? content.map(textOf).join("") : textOf(content));

const fromTool = ({ name, description, input_schema: parameters }: Json): Json => ({
  type: "function",
  function: { name, ...(description === undefined ? {} : { description }), parameters },
});

function fromTurn({ role, content }: Json): Json[] {
  if (typeof content === "string") return [{ role, content }];
  const blocks = recordsOf(content, "content");
  const ofType = (wanted: string): Json[] => blocks.filter(({ type }) => type === wanted);
  const [results, calls, thoughts] = [ofType("tool_result"), ofType("tool_use"), ofType("thinking")];
  if (role !== "user" && results.length > 0) throw new Untold("a result of the assistant's");
  const texts = blocks.filter(({ type }) => !OWN_BLOCKS.has(type)).map(textOf);
  const own = {
    role,
    ...(texts.length > 0 ? { content: texts.length === 1 ? texts[0] : texts } : {}),
    ...(calls.length > 0 ? { tool_calls: calls.map(fromUse) } : {}),
    ...(thoughts.length > 0 ? { reasoning: thoughts.map(({ thinking }) => String(thinking)).join("") } : {}),
  };
  return [...results.map(fromResult), ...(blocks.length > results.length ? [own] : [])];
}

/** Blocks that are no content. */
const OWN_BLOCKS: ReadonlySet<unknown> = new Set(["tool_result", "tool_use", "thinking"]);

const fromUse = ({ id, name, input }: Json): Json => ({
  id,
  type: "function",
  function: { name, arguments: JSON.stringify(input ?? {}) },
});

/** A list is written in as many ways as there are versions of engines. */
function fromResult({ tool_use_id: id, content = "" }: Json): Json {
  if (typeof content !== "string") throw new Untold("a result is a list");
  return { role: "tool", tool_call_id: id, content };
}

/** Text is what the user says; of a list, messages alone are read: engines keep the rest in states of their own. */
function fromResponses(body: Json): Json {
  const { instructions, input, tools, reasoning } = body;
  if (tools !== undefined && !(Array.isArray(tools) && tools.length === 0)) throw new Untold("tools of responses");
  const head = typeof instructions === "string" ? [{ role: "system", content: instructions }] : [];
  const turns =
    typeof input === "string" ? [{ role: "user", content: input }] : recordsOf(input, "input").map(fromItem);
  const effort = isObject(reasoning) ? reasoning["effort"] : undefined;
  return { messages: [...head, ...turns], ...(effort === undefined ? {} : { reasoning_effort: effort }) };
}

function fromItem({ type = "message", role, content }: Json): Json {
  if (type !== "message") throw new Untold("an item is no message");
  return { role, content };
}
