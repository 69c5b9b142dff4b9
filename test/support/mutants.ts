/**
 * Bodies that are nearly right: a request of each API with one thing wrong, or a few, drawn from a seed. With an oracle
 * of its own, which reads bodies another way than the router does.
 */
import { deflateSync, gzipSync } from "node:zlib";
import type { HeaderList } from "../../src/router/headers.ts";

export interface Mutant {
  readonly kind: string;
  readonly path: string;
  readonly headers: HeaderList;
  readonly body: Buffer;
}

type Random = () => number;
const below = (random: Random, limit: number): number => Math.floor(random() * limit);
const oneOf = <T>(random: Random, values: readonly T[]): T => values[below(random, values.length)] as T;

const MESSAGES = [
  { role: "system", content: 'be brief \\ "quoted" é 😀' },
  {
    role: "user",
    content: [
      { type: "text", text: "hi" },
      { type: "image_url", image_url: { url: "data:;base64,AAAA" } },
    ],
  },
];
const SEEDS: readonly (readonly [path: string, body: object])[] = [
  ["/v1/completions", { model: "m", prompt: "once upon a time", max_tokens: 5, stream: true, n: 1 }],
  [
    "/v1/chat/completions",
    { messages: MESSAGES, model: "m", tools: [{ a: {} }], max_completion_tokens: 7, cache_salt: "s" },
  ],
  ["/v1/responses", { model: "m", input: MESSAGES, instructions: "x", max_output_tokens: 2 }],
  ["/v1/embeddings", { model: "m", input: ["a", "b"] }],
  ["/v1/rerank", { model: "m", query: "q", documents: ["a", "b"] }],
  ["/score", { model: "m", text_1: "a", text_2: ["b"] }],
  ["/v1/messages", { model: "m", max_tokens: 5, system: "s", messages: MESSAGES, metadata: { user_id: "u" } }],
  ["/inference/v1/generate", { model: "m", token_ids: [1, 2, 3], sampling_params: { max_tokens: 4 } }],
  ["/generate", { model: "m", text: "a", sampling_params: { max_new_tokens: 4 }, lora_path: null }],
  ["/tokenize", { model: "m", prompt: "a" }],
];

const DEPTH = 100_000;
const VALUES = [
  "null", "true", "[]", "{}", '""', "-1", "0", "1e999", "-0", `1${"0".repeat(300)}`, `1${"0".repeat(500)}`, "12345678901234567890", "1.5",
  '"n"', '"m"', '"\\u0000"', '"m\\u0000"', '"\\ud800"', '"m\\udc00"', '"\\ud83d\\ude00"', `"${"m".repeat(257)}"`, '"\\u006d"', "NaN", "01", "tru",
  "'m'", '"\\x"', "[1,]", '{"a":1,"a":2}', "/**/1",
]; // prettier-ignore
const MODEL_KEYS = [
  '"model"',
  '"mod\\u0065l"',
  '"\\u006dodel"',
  '"model "',
  '"Model"',
  '"__proto__"',
  '"constructor"',
  '"messages"',
];

type Mutate = (text: string, random: Random) => string | Buffer;

const splice = (text: string, random: Random, piece: string): string => {
  const at = below(random, text.length + 1);
  return text.slice(0, at) + piece + text.slice(at);
};
const member = (text: string, random: Random, raw: string): string =>
  random() < 0.5 ? `{${raw},${text.slice(1)}` : `${text.slice(0, -1)},${raw}}`;

const BYTES = [0x00, 0x0a, 0x22, 0x2c, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d, 0x80, 0xc3, 0xe2, 0xf0, 0xff];

const KINDS: Readonly<Record<string, Mutate>> = {
  cut: (text, random) => text.slice(0, below(random, text.length)),
  flippedByte: (text, random) => {
    const bytes = Buffer.from(text);
    bytes[below(random, bytes.length)] = oneOf(random, BYTES);
    return bytes;
  },
  inserted: (text, random) =>
    splice(text, random, oneOf(random, ['"', "\\", "{", "}", "[", "]", ",", ":", "\u0000", " "])),
  removed: (text, random) => {
    const at = below(random, text.length);
    return text.slice(0, at) + text.slice(at + 1 + below(random, 8));
  },
  twiceModel: (text, random) =>
    member(text, random, `${oneOf(random, MODEL_KEYS)}:${oneOf(random, ['"n"', '"m"', "1"])}`),
  twiceAny: (text, random) => {
    const keys = Object.keys(JSON.parse(text) as object);
    return member(text, random, `${JSON.stringify(oneOf(random, keys))}:${oneOf(random, VALUES)}`);
  },
  value: (text, random) => {
    const body = JSON.parse(text) as Record<string, unknown>;
    const key = oneOf(random, Object.keys(body));
    return `{${Object.keys(body)
      .map((each) => `${JSON.stringify(each)}:${each === key ? oneOf(random, VALUES) : JSON.stringify(body[each])}`)
      .join(",")}}`;
  },
  truncatedUtf8: (text, random) => {
    const bytes = Buffer.from(splice(text, random, "é😀"));
    const at = bytes.findIndex((byte) => byte >= 0x80);
    return Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(at + 2)]);
  },
  otherEncoding: (text, random) =>
    random() < 0.5 ? Buffer.from(text, "utf16le") : Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(text)]),
  compressed: (text, random) => (random() < 0.5 ? gzipSync(text) : deflateSync(text)),
  nested: (text, random) =>
    splice(text, random, oneOf(random, ["[", '{"a":']).repeat(oneOf(random, [10, 63, 64, 65, 66, 200]))),
  members: (text, random) => {
    const count = oneOf(random, [10, 240, 256, 300]);
    return member(text, random, Array.from({ length: count }, (_, index) => `"k${index}":${index}`).join(","));
  },
  behind: (text, random) => text + oneOf(random, [text, "x", "\u0000", "{}", "\n\n", "\r", "\u00a0"]),
  untouched: (text) => text,
};
/** A hundred times larger than the others, so a hundred times as rare. */
const LARGE: Readonly<Record<string, Mutate>> = {
  deep: (text, random) => {
    const [open, close] = oneOf(random, [
      ["[", "]"],
      ['{"a":', "}"],
    ] as const);
    const deep = open.repeat(DEPTH) + (random() < 0.5 ? `1${close.repeat(DEPTH)}` : "");
    return member(text, random, `"x":${deep}`);
  },
  long: (text, random) => splice(text, random, oneOf(random, ["\\", '\\"', "a", " ", '"",', "é", "9"]).repeat(70_000)),
  bomb: () => gzipSync(Buffer.alloc(1_000_000)),
};
const LARGE_SHARE = 1 / 200;

/** The next mutant; the same numbers make the same one. */
export function mutant(random: Random): Mutant {
  const [path, seed] = oneOf(random, SEEDS);
  const table = random() < LARGE_SHARE ? LARGE : KINDS;
  const kind = oneOf(random, Object.keys(table));
  const once = table[kind]?.(JSON.stringify(seed), random) ?? "";
  const headers: HeaderList = [["content-type", "application/json"]];
  const told = kind === "compressed" && random() < 0.5;
  return { kind, path, headers: told ? [...headers, ["content-encoding", "gzip"]] : headers, body: Buffer.from(once) };
}

const TOKEN = /"(?:[^"\\]|\\[\s\S])*"|[{}[\]:,]|[^\s{}[\]:,"]+/g;

/** Tokens between the outermost braces; of an array or object within them only its opening bracket. */
function outerTokens(text: string): string[] {
  const tokens: string[] = [];
  let depth = 0;
  for (const [token] of text.matchAll(TOKEN)) {
    if (depth === 1) tokens.push(token);
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
  }
  return tokens;
}

/** Names at the top level with the token behind each, in order: as a reader that knows nothing of the scan. */
const topLevel = (text: string): [name: string, value: string][] =>
  outerTokens(text).flatMap((token, index, all) =>
    token.startsWith('"') && (index === 0 || all[index - 1] === ",")
      ? [[JSON.parse(token) as string, all[index + 2] ?? ""]]
      : [],
  );

/** Larger bodies are looked at from the outside: what is broken within a value there is the engine's to refuse. */
const PARSED_BYTES = 65_536;

/** The one model that every reader of the body finds; undefined where two could differ, or one would refuse. */
export function plainModel(body: Buffer): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    if (body.length <= PARSED_BYTES) JSON.parse(text);
    const members = topLevel(text);
    const [, model = ""] = members.find(([name]) => name === "model") ?? [];
    const plain = new Set(members.map(([name]) => name)).size === members.length && model.startsWith('"');
    return plain ? (JSON.parse(model) as string) : undefined;
  } catch {
    return undefined;
  }
}
