/**
 * What routing needs to know of a request, read off its bytes in one scan: model, prompt, limits.
 *
 * Never decodes the prompt: its raw JSON bytes are the text that block keys are made of. Two requests share a prefix
 * where their bytes do, which holds for a client that appends turns. Wrong values are refused here as an engine would.
 */
import type { Problem } from "../answers.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { scanObject, ScanError, valueBytes, type Member, type Scan } from "./scan.ts";

/** The API that a path belongs to. */
export type Api = "completions" | "chat";

/** A Map: a path is the client's word, and every object has a `constructor`. */
const PATHS: ReadonlyMap<string, Api> = new Map([
  ["/v1/completions", "completions"],
  ["/v1/chat/completions", "chat"],
]);

export const MODELS_PATH = "/v1/models";

/** Up to here the whole body is parsed too, so that broken JSON inside a message is refused by us (22 us at 33 KB). */
const PARSE_LIMIT_BYTES = 65536;
const MAX_MODEL_LENGTH = 256;

export interface RequestFacts {
  readonly api: Api;
  readonly model: string;
  readonly stream: boolean;
  /** Limit of generated tokens, where the request has one. */
  readonly maxTokens: number | undefined;
  /** Text that block keys are made of: what the engine's template puts first stands first. */
  readonly prompt: readonly Buffer[];
  readonly promptBytes: number;
  /** One prompt, one answer. Engines hand over KV blocks of one sequence: the decode leg of a batch would read the wrong ones. */
  readonly single: boolean;
  readonly scan: Scan;
}

const bad = (message: string, param?: string): Problem => ({
  status: 400,
  reason: "BodyInvalid",
  message,
  ...(param === undefined ? {} : { param }),
});

/** Path without its query. */
export const pathOf = (path: string): string => path.split("?", 1)[0] ?? "";

/** Refuses what headers alone tell: path, method, media type, encoding, announced length. */
export function checkHead(
  method: string,
  path: string,
  headers: HeaderList,
  maxBodyBytes: number,
): Problem | undefined {
  const known = pathOf(path);
  if (known === MODELS_PATH) return method === "GET" ? undefined : wrongMethod(method, known, "GET");
  if (!PATHS.has(known)) {
    const accepted = [...PATHS.keys(), MODELS_PATH].join(", ");
    return { status: 404, reason: "RequestMalformed", message: `path ${known} is not served; accepted: ${accepted}` };
  }
  if (method !== "POST") return wrongMethod(method, known, "POST");
  return checkMedia(headers) ?? checkLength(headers, maxBodyBytes);
}

const wrongMethod = (method: string, path: string, accepted: string): Problem => ({
  status: 405,
  reason: "RequestMalformed",
  message: `method ${method} is not accepted on ${path}; accepted: ${accepted}`,
});

function checkMedia(headers: HeaderList): Problem | undefined {
  const type = headerOf(headers, "content-type").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  const encoding = headerOf(headers, "content-encoding").toLowerCase();
  const unsupported = (message: string): Problem => ({ status: 415, reason: "MediaTypeUnsupported", message });
  if (type !== "application/json")
    return unsupported(`content-type ${type || "(none)"} is not accepted; accepted: application/json`);
  if (encoding !== "" && encoding !== "identity")
    return unsupported(`content-encoding ${encoding} is not accepted; accepted: identity`);
  return undefined;
}

function checkLength(headers: HeaderList, maxBodyBytes: number): Problem | undefined {
  return Number(headerOf(headers, "content-length")) > maxBodyBytes ? tooLarge(maxBodyBytes) : undefined;
}

export const tooLarge = (maxBodyBytes: number): Problem => ({
  status: 413,
  reason: "BodyTooLarge",
  message: `the request body exceeds ${maxBodyBytes} bytes`,
});

/** The facts, or why the body is refused. */
export function readFacts(path: string, body: Buffer): RequestFacts | Problem {
  const api = PATHS.get(pathOf(path)) ?? "chat";
  try {
    const scan = scanObject(body);
    if (body.length <= PARSE_LIMIT_BYTES) JSON.parse(body.toString("utf8"));
    return factsOf(api, body, scan);
  } catch (error) {
    if (error instanceof ScanError || error instanceof SyntaxError)
      return bad(`the request body is not valid JSON: ${error.message}`);
    throw error;
  }
}

export const isProblem = (value: RequestFacts | Problem): value is Problem => "status" in value;

function factsOf(api: Api, body: Buffer, scan: Scan): RequestFacts | Problem {
  const members = new Map<string, Member>();
  for (const member of scan.members) {
    // Engines take the last of two, scanners the first: whoever disagrees is an attack surface.
    if (members.has(member.key)) return bad(`"${member.key.slice(0, 64)}" is given twice`, member.key.slice(0, 64));
    members.set(member.key, member);
  }
  const fields = new Fields(body, members);
  const problem = checkFields(api, fields);
  if (problem !== undefined) return problem;
  const prompt = promptOf(api, fields);
  return {
    api,
    model: fields.value("model") as string,
    stream: fields.value("stream") === true,
    maxTokens: (fields.value("max_completion_tokens") ?? fields.value("max_tokens") ?? undefined) as number | undefined,
    prompt,
    promptBytes: prompt.reduce((sum, part) => sum + part.length, 0),
    single: ONE_ANSWER.every((key) => isOne(fields.raw(key))) && isOnePrompt(fields),
    scan,
  };
}

/** Top-level members by name; small ones are parsed when asked for. */
class Fields {
  readonly #body: Buffer;
  readonly #members: ReadonlyMap<string, Member>;

  constructor(body: Buffer, members: ReadonlyMap<string, Member>) {
    this.#body = body;
    this.#members = members;
  }

  raw(key: string): Buffer | undefined {
    const member = this.#members.get(key);
    return member === undefined ? undefined : valueBytes(this.#body, member);
  }

  /** First byte of the value as a character: `"`, `[`, `{`, ... */
  first(key: string): string {
    return String.fromCharCode(this.raw(key)?.[0] ?? 0);
  }

  value(key: string): unknown {
    const raw = this.raw(key);
    return raw === undefined ? undefined : (JSON.parse(raw.toString("utf8")) as unknown);
  }
}

type Check = (fields: Fields, api: Api) => Problem | undefined;

const modelIsName: Check = (fields) => {
  if (fields.raw("model") === undefined) return bad("model is missing", "model");
  const length = fields.raw("model")?.length ?? 0;
  const value = length <= MAX_MODEL_LENGTH * 6 ? fields.value("model") : undefined;
  const fine =
    typeof value === "string" &&
    value !== "" &&
    value.length <= MAX_MODEL_LENGTH &&
    value.isWellFormed() &&
    !value.includes("\0");
  return fine ? undefined : bad(`model must be a string of 1 to ${MAX_MODEL_LENGTH} characters`, "model");
};

const promptIsThere: Check = (fields, api) => {
  const [key, kinds, words] = api === "chat" ? ["messages", "[", "a list"] : ["prompt", '"[', "a string or a list"];
  if (fields.raw(key) === undefined) return bad(`${key} is missing`, key);
  if (!kinds.includes(fields.first(key))) return bad(`${key} must be ${words}`, key);
  return /^\[\s*\]$/.test(fields.raw(key)?.toString("latin1", 0, 16) ?? "")
    ? bad(`${key} must not be empty`, key)
    : undefined;
};

const limitIsPositive =
  (key: string): Check =>
  (fields) => {
    if (fields.raw(key) === undefined) return undefined;
    const value = fields.first(key) === "[" || fields.first(key) === "{" ? undefined : fields.value(key);
    return value === null || (Number.isSafeInteger(value) && (value as number) >= 1)
      ? undefined
      : bad(`${key} must be an integer of at least 1`, key);
  };

const streamIsFlag: Check = (fields) =>
  ["t", "f", "n", "\0"].includes(fields.first("stream")) ? undefined : bad("stream must be true or false", "stream");

/** In this order; the first refusal is the answer. */
const CHECKS: readonly Check[] = [
  modelIsName,
  promptIsThere,
  limitIsPositive("max_tokens"),
  limitIsPositive("max_completion_tokens"),
  streamIsFlag,
];

function checkFields(api: Api, fields: Fields): Problem | undefined {
  for (const check of CHECKS) {
    const problem = check(fields, api);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Members that ask for several answers of one prompt. */
const ONE_ANSWER = ["n", "best_of"];
const isOne = (raw: Buffer | undefined): boolean =>
  raw === undefined || ["1", "null"].includes(raw.toString("latin1", 0, 8));

/** `prompt` as text or as tokens; a list of texts or of token lists is a batch, be it of one. */
const isOnePrompt = (fields: Fields): boolean =>
  !/^\[\s*["[]/.test(fields.raw("prompt")?.toString("latin1", 0, 64) ?? "");

/** Chat templates put tools before the messages. The closing bracket is left out: the next turn goes on from there. */
function promptOf(api: Api, fields: Fields): Buffer[] {
  const text = fields.raw(api === "chat" ? "messages" : "prompt") ?? Buffer.alloc(0);
  const tools = api === "chat" ? fields.raw("tools") : undefined;
  return [...(tools === undefined ? [] : [tools]), text.subarray(0, text.length - 1)];
}
