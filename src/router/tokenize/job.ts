/**
 * What is to be tokenised of a request: taken out of its bytes by the scan, not parsed on the thread that serves.
 *
 * A prompt whose tokens cannot be known exactly here has no job: an image stands for as many tokens as the engine's
 * processor makes of it, a batch is several prompts, a template of the client's is the engine's to trust.
 */
import type { EngineDialect } from "./chat.ts";
import { Fields } from "../request/fields.ts";
import { seedFor, type RequestFacts } from "../request/facts.ts";

/** Members of a body, as their JSON stands in it. */
export type Members = readonly (readonly [key: string, json: Uint8Array])[];

export type Shape = "text" | "chat" | "messages" | "responses";

export interface Job {
  readonly shape: Shape;
  readonly dialect: EngineDialect;
  /** Whose it is: what is kept of one tenant's prompts answers no other's, or the time it takes would tell. */
  readonly scope: string;
  readonly members: Members;
}

/** Why tokens are not to be had for a prompt. */
export type Unable = "api" | "media" | "unseen" | "batch" | "template" | "truncated" | "stored" | "size";

export type Asked =
  | { readonly kind: "ids"; readonly ids: Int32Array }
  | { readonly kind: "job"; readonly job: Job }
  | { readonly kind: "unable"; readonly why: Unable };

interface Form {
  readonly shape: Shape;
  /** The member with text or tokens; absent where messages are rendered. */
  readonly prompt?: string;
  /** Token ids are given, or nothing. */
  readonly tokens?: string;
  readonly members: readonly string[];
}

const TOOLS = ["tools", "tool_choice"] as const;
const TEMPLATE = [
  "add_generation_prompt",
  "continue_final_message",
  "chat_template_kwargs",
  "reasoning_effort",
] as const;

/** By the name of the API in `apis.ts`. */
const FORMS: ReadonlyMap<string, Form> = new Map<string, Form>([
  ["completions", { shape: "text", prompt: "prompt", members: ["prompt", "add_special_tokens"] }],
  ["SGLang generate", { shape: "text", prompt: "text", tokens: "input_ids", members: ["text"] }],
  ["vLLM generate", { shape: "text", tokens: "token_ids", members: [] }],
  ["chat", { shape: "chat", members: ["messages", "documents", "add_special_tokens", ...TOOLS, ...TEMPLATE] }],
  ["messages", { shape: "messages", members: ["messages", "system", "tools", "chat_template_kwargs"] }],
  ["responses", { shape: "responses", members: ["instructions", "input", "reasoning", ...TOOLS] }],
]);

/** Members whose presence makes tokens of ours differ from the engine's. */
const SPOILERS: readonly (readonly [key: string, why: Unable])[] = [
  ["chat_template", "template"],
  ["truncate_prompt_tokens", "truncated"],
  ["truncation", "truncated"],
  ["suffix", "template"],
  ["prompt_embeds", "media"],
  ["mm_processor_kwargs", "media"],
  ["previous_response_id", "stored"],
  ["prompt", "stored"],
  ["conversation", "stored"],
];

/** Half a million tokens. Longer prompts would hold up the thread that serves for milliseconds: to be copied, or read. */
const MAX_BYTES = 2 * 2 ** 20;

const unable = (why: Unable): Asked => ({ kind: "unable", why });

/** What is to be done for the tokens of a request. */
export function jobOf(facts: RequestFacts, body: Buffer, dialect: EngineDialect): Asked {
  const form = FORMS.get(facts.api.name);
  if (form === undefined) return unable("api");
  const { prompt, scan } = facts;
  if (scan.open !== undefined || scan.members.length === 0) return unable("unseen");
  if (prompt.media > 0) return unable("media");
  if (prompt.bytes > MAX_BYTES) return unable("size");
  const fields = new Fields(body, scan);
  const spoiler = SPOILERS.find(([key]) => key !== form.prompt && isGiven(fields, key));
  return spoiler === undefined ? asked(form, fields, { dialect, scope: seedFor(facts, "") }) : unable(spoiler[1]);
}

function asked({ shape, prompt, tokens, members }: Form, fields: Fields, of: Pick<Job, "dialect" | "scope">): Asked {
  const given = tokens !== undefined && isGiven(fields, tokens) ? tokens : prompt;
  const first = given === undefined ? '"' : fields.first(given);
  if (first === "[") return listed(fields.raw(given ?? ""));
  if (first !== '"') return unable("api");
  // Settings and variables of templates are no prompt, and as long as the client likes.
  const bytes = members.reduce((sum, key) => sum + (fields.raw(key)?.length ?? 0), 0);
  return bytes > MAX_BYTES
    ? unable("size")
    : { kind: "job", job: { ...of, shape, members: membersOf(fields, members) } };
}

const isGiven = (fields: Fields, key: string): boolean => !["n", "\0"].includes(fields.first(key));

/** Copies: a view would carry the whole of its body to the other thread. */
const membersOf = (fields: Fields, keys: readonly string[]): Members =>
  keys.flatMap((key) => {
    const raw = isGiven(fields, key) ? fields.raw(key) : undefined;
    return raw === undefined ? [] : [[key, Uint8Array.from(raw)] as const];
  });

function listed(raw: Buffer | undefined): Asked {
  const ids = raw === undefined ? undefined : tokensOf(raw);
  return ids === undefined ? unable("batch") : { kind: "ids", ids };
}

const [COMMA, OPEN, CLOSE, ZERO, NINE] = [0x2c, 0x5b, 0x5d, 0x30, 0x39];
/** A token and its comma have two bytes at least. */
const BYTES_OF_TOKEN = 2;
const MAX_DIGITS = 10;
const MAX_ID = 0x7fffffff;

/** The numbers of a flat JSON list without making an array of them; undefined where it holds anything else. */
export function tokensOf(raw: Uint8Array): Int32Array | undefined {
  if (raw[0] !== OPEN) return undefined;
  const ids = new Int32Array(Math.ceil(raw.length / BYTES_OF_TOKEN));
  let [count, value, digits] = [0, 0, 0];
  for (let at = 1; at < raw.length; at++) {
    const byte = raw[at] ?? 0;
    if (isDigit(byte)) {
      value = value * 10 + byte - ZERO;
      digits += 1;
    } else if (ends(byte)) {
      if (!isId(value, digits)) return undefined;
      ids[count++] = value;
      value = digits = 0;
    } else if (byte > 0x20) return undefined;
  }
  return ids.slice(0, count);
}

const isDigit = (byte: number): boolean => byte >= ZERO && byte <= NINE;
const ends = (byte: number): boolean => byte === COMMA || byte === CLOSE;
const isId = (value: number, digits: number): boolean => digits > 0 && digits <= MAX_DIGITS && value <= MAX_ID;
