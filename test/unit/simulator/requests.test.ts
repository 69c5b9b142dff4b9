import fc from "fast-check";
import t from "tap";
import { parseBody, WireError } from "../../../src/simulator/engine/fields.ts";
import { readGeneration, readTokenize, type GenerationKind } from "../../../src/simulator/engine/requests.ts";
import { tokenize } from "../../../src/simulator/engine/tokenizer.ts";

const LIMITS = { models: ["llama", "alias"], maxModelLen: 1000 };
const CHAT = { model: "llama", messages: [{ role: "user", content: "Hello" }] };
const COMPLETION = { model: "llama", prompt: "Hello" };

const refusal = (act: () => unknown): WireError => {
  try {
    act();
  } catch (error) {
    if (error instanceof WireError) return error;
    throw error;
  }
  throw new Error("was not refused");
};

t.test("defaults are those of vLLM", (t) => {
  t.match(readGeneration("completion", COMPLETION, LIMITS), {
    model: "llama",
    prompts: [tokenize("Hello")],
    samples: 1,
    maxTokens: 16,
    minTokens: 0,
    stream: false,
    includeUsage: false,
    salt: "",
    transfer: { kind: "none" },
    requestId: undefined,
  });
  t.equal(readGeneration("chat", CHAT, LIMITS).maxTokens, undefined, "a chat has the whole context");
  t.equal(readGeneration("completion", { prompt: "x" }, LIMITS).model, "llama", "no model means the first");
  t.equal(readGeneration("completion", { ...COMPLETION, max_tokens: null, stream: null }, LIMITS).maxTokens, 16);
  t.end();
});

t.test("fields are read", (t) => {
  const body = { ...CHAT, model: "alias", max_tokens: 9, max_completion_tokens: 7, min_tokens: 3, ignore_eos: true };
  const request = readGeneration("chat", { ...body, n: 2, cache_salt: "s", request_id: "r" }, LIMITS);
  t.match(request, {
    model: "alias",
    maxTokens: 7,
    minTokens: 3,
    ignoreEos: true,
    samples: 2,
    salt: "s",
    requestId: "r",
  });
  const streamed = { ...CHAT, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  t.match(readGeneration("chat", streamed, LIMITS), { stream: true, includeUsage: true, continuousUsage: true });
  t.match(readGeneration("chat", { ...streamed, stream_options: {} }, LIMITS), { includeUsage: true });
  t.match(readGeneration("chat", { ...streamed, stream_options: { include_usage: false } }, LIMITS), {
    includeUsage: false,
  });
  t.end();
});

t.test("a prompt is a text, token ids, or a list of either", (t) => {
  const prompts = (prompt: unknown): unknown => readGeneration("completion", { prompt }, LIMITS).prompts;
  t.same(prompts([1, 2, 3]), [[1, 2, 3]]);
  t.same(prompts([[1, 2], [3]]), [[1, 2], [3]]);
  t.same(prompts(["a", "b"]), [tokenize("a"), tokenize("b")]);
  t.end();
});

t.test("unknown fields are ignored", (t) => {
  t.ok(readGeneration("chat", { ...CHAT, whatever: { deep: 1 }, logit_bias: {}, seed: 3, stop: ["x"] }, LIMITS));
  t.end();
});

/** What is wrong, and how vLLM's answer begins. */
const REFUSED: readonly (readonly [GenerationKind, Record<string, unknown>, number, string, RegExp])[] = [
  ["chat", { model: "other" }, 404, "NotFoundError", /^The model `other` does not exist\.$/],
  ["chat", { model: 5 }, 400, "Bad Request", /'loc': \('body', 'model'\), 'msg': 'Input should be a valid string'/],
  ["chat", { messages: undefined }, 400, "Bad Request", /'type': 'missing', 'loc': \('body', 'messages'\)/],
  ["chat", { messages: "Hello" }, 400, "Bad Request", /valid list/],
  ["chat", { messages: [] }, 400, "BadRequestError", /no element 0/],
  ["chat", { messages: ["Hello"] }, 400, "Bad Request", /valid dictionary/],
  ["chat", { messages: [{ content: "Hello" }] }, 400, "Bad Request", /Field required/],
  ["chat", { messages: [{ role: "user", content: 5 }] }, 400, "Bad Request", /valid string/],
  ["chat", { max_tokens: -1 }, 400, "BadRequestError", /^max_tokens must be at least 1, got -1\.$/],
  ["chat", { max_completion_tokens: 0 }, 400, "BadRequestError", /^max_tokens must be at least 1, got 0\.$/],
  ["chat", { max_tokens: "5" }, 400, "Bad Request", /valid integer/],
  ["chat", { max_tokens: 1.5 }, 400, "Bad Request", /fractional part/],
  [
    "chat",
    { max_tokens: 1, min_tokens: 5 },
    400,
    "BadRequestError",
    /^min_tokens must be less than or equal to max_tokens=1, got 5/,
  ],
  ["chat", { min_tokens: -2 }, 400, "BadRequestError", /^min_tokens must be greater/],
  ["chat", { stream: "yes" }, 400, "Bad Request", /valid boolean/],
  ["chat", { stream_options: { include_usage: true } }, 400, "BadRequestError", /only be defined when `stream=True`/],
  ["chat", { stream: true, stream_options: 5 }, 400, "Bad Request", /valid dictionary/],
  ["chat", { temperature: -0.1 }, 400, "BadRequestError", /^temperature must be non-negative, got -0\.1/],
  ["chat", { temperature: "hot" }, 400, "Bad Request", /valid number/],
  ["chat", { top_p: 0 }, 400, "BadRequestError", /^top_p must be in \(0, 1\], got 0/],
  ["chat", { top_k: -5 }, 400, "BadRequestError", /^top_k must be 0/],
  ["chat", { presence_penalty: 3 }, 400, "BadRequestError", /^presence_penalty must be in \[-2, 2\]/],
  ["chat", { n: 0 }, 400, "BadRequestError", /^n must be at least 1, got 0/],
  ["chat", { n: 1000 }, 400, "BadRequestError", /at most 128 sequences/],
  ["chat", { stop: 5 }, 400, "Bad Request", /valid string/],
  ["chat", { cache_salt: "" }, 400, "BadRequestError", /non-empty string/],
  ["chat", { kv_transfer_params: "x" }, 400, "Bad Request", /valid dictionary/],
  [
    "chat",
    { max_tokens: 1000 },
    400,
    "BadRequestError",
    /^'max_tokens' or 'max_completion_tokens' is too large: 1000\./,
  ],
  ["completion", { prompt: undefined }, 400, "BadRequestError", /^Either prompt or prompt_embeds/],
  ["completion", { prompt: "" }, 400, "BadRequestError", /^Either prompt or prompt_embeds/],
  ["completion", { prompt: 5 }, 400, "Bad Request", /valid string/],
  ["completion", { prompt: [1, -1] }, 400, "Bad Request", /valid string/],
  [
    "completion",
    { prompt: " word".repeat(1200) },
    400,
    "BadRequestError",
    /^This model's maximum context length is 1000 tokens\. However, your request has 1200 input tokens/,
  ],
  ["completion", { prompt: "x".repeat(1_000_000) }, 400, "BadRequestError", /^You passed 1000000 characters/],
];

t.test("bad values are refused as by vLLM", (t) => {
  for (const [kind, change, status, type, message] of REFUSED) {
    const error = refusal(() => readGeneration(kind, { ...(kind === "chat" ? CHAT : COMPLETION), ...change }, LIMITS));
    const what = `${kind} ${JSON.stringify(change).slice(0, 60)}`;
    t.match(error.body, { error: { message, type, code: status } }, what);
  }
  t.end();
});

t.test("bodies that are no JSON object are refused", (t) => {
  for (const text of ["", "{", "not json", "[1]", "null", '"x"'])
    t.match(refusal(() => parseBody(text)).body, { error: { type: "Bad Request", code: 400 } }, text);
  t.same(parseBody('{"a":1}'), { a: 1 });
  t.end();
});

t.test("tokenising takes a prompt or a chat", (t) => {
  t.same(readTokenize(COMPLETION, LIMITS), tokenize("Hello"));
  t.same(readTokenize(CHAT, LIMITS), readGeneration("chat", CHAT, LIMITS).prompts[0]);
  const closed = readTokenize({ ...CHAT, add_generation_prompt: false }, LIMITS);
  t.ok(closed.length < readTokenize(CHAT, LIMITS).length);
  t.match(refusal(() => readTokenize({ model: "llama" }, LIMITS)).message, /Field required/);
  t.equal(refusal(() => readTokenize({ ...COMPLETION, model: "x" }, LIMITS)).status, 404);
  t.end();
});

t.test("whatever a body holds, it is decoded or refused", (t) => {
  const fields = ["model", "prompt", "messages", "max_tokens", "min_tokens", "n", "stream", "stream_options", "stop"];
  const values = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.integer(), fc.constant("llama"), fc.constant(null));
  const body = fc.dictionary(fc.constantFrom(...fields, "tools", "kv_transfer_params", "cache_salt", "top_k"), values);
  fc.assert(
    fc.property(fc.constantFrom<GenerationKind>("chat", "completion"), body, (kind, change) => {
      try {
        const { prompts, samples } = readGeneration(kind, { ...CHAT, ...COMPLETION, ...change }, LIMITS);
        return prompts.length * samples >= 1 && prompts.every((prompt) => prompt.length < LIMITS.maxModelLen);
      } catch (error) {
        return error instanceof WireError && error.status < 500;
      }
    }),
    { numRuns: 2000 },
  );
  t.pass("2,000 bodies");
  t.end();
});
