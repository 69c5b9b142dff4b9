/** What is read off the body of each API, and what becomes of requests that are not looked into. */
import { gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
import t from "tap";
import type { Problem } from "../../../src/router/answers.ts";
import type { HeaderList } from "../../../src/router/headers.ts";
import { API_PATHS, apiOf, APIS, OPAQUE } from "../../../src/router/request/apis.ts";
import { isProblem, readFacts, type FactsConfig, type RequestFacts } from "../../../src/router/request/facts.ts";
import { apisReference } from "../../../src/router/request/reference.ts";
import { onlyPrefill, PARAMS } from "../../../src/router/disagg/bodies.ts";
import { KEEP_FOR_REMOTE } from "../../../src/router/disagg/wires/pull.ts";
import { Routing } from "../../support/routing.ts";

const CONFIG: FactsConfig = {
  aliases: { short: "m" },
  rates: { bytesPerToken: 4, mediaTokens: 1024 },
  unsalted: "refuse",
};
const read = (path: string, body: object | string): RequestFacts | Problem =>
  readFacts(CONFIG, {
    api: apiOf(path) ?? OPAQUE,
    body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
    headers: [],
    tenant: "",
    extent: "whole",
  });

function facts(path: string, body: object | string): RequestFacts {
  const found = read(path, body);
  if (isProblem(found)) throw new Error(`${path}: ${found.message}`);
  return found;
}
const promptText = ({ prompt }: RequestFacts): string => Buffer.concat(prompt.parts).toString();
const MESSAGES = [{ role: "user", content: "hi" }];
const M = '[{"role":"user","content":"hi"}';

/** Path, body, the prompt's bytes, and what else is known. */
const TABLE: readonly (readonly [string, object, string, object])[] = [
  ["/v1/completions", { model: "m", prompt: "hi", max_tokens: 3 }, '"hi', { maxTokens: 3, single: true }],
  [
    "/v1/chat/completions",
    { messages: MESSAGES, model: "short", tools: [1], max_tokens: 3, max_completion_tokens: 2, priority: 4, user: "u" },
    `[1]${M}`,
    { model: "m", maxTokens: 2, priority: 4, user: "u" },
  ],
  [
    "/v1/responses",
    { model: "m", input: MESSAGES, instructions: "be", tools: [], max_output_tokens: 7, previous_response_id: "r" },
    `[]"be"${M}`,
    { maxTokens: 7, single: false, session: "r" },
  ],
  ["/v1/embeddings", { model: "m", input: ["a", "b"] }, '["a","b"', { maxTokens: 1, single: false }],
  ["/v1/embeddings", { model: "m", messages: MESSAGES }, M, { maxTokens: 1 }],
  ["/v1/rerank", { model: "m", documents: ["d"], query: "q" }, '"q"["d"', { maxTokens: 1 }],
  ["/v2/rerank", { model: "m", documents: ["d"], query: "q" }, '"q"["d"', {}],
  ["/score", { model: "m", text_1: "a", text_2: ["b"] }, '"a"["b"', { maxTokens: 1 }],
  [
    "/v1/messages",
    { model: "m", system: "be", messages: MESSAGES, max_tokens: 9, stream: true, metadata: { user_id: "u" } },
    `"be"${M}`,
    { maxTokens: 9, stream: true, single: true, user: "u" },
  ],
  ["/v1/messages/count_tokens", { model: "m", messages: MESSAGES }, "", { maxTokens: 1, single: false }],
  ["/tokenize", { prompt: "hi" }, "", { model: undefined }],
  ["/detokenize", { model: "m", tokens: [1] }, "", { model: "m" }],
  [
    "/inference/v1/generate",
    { token_ids: [1, 2], sampling_params: { max_tokens: 5, n: 1 } },
    "[1,2",
    { maxTokens: 5, single: true, prompt: { bytesPerToken: 6.5 } },
  ],
  ["/inference/v1/generate", { token_ids: [1], sampling_params: { n: 2 } }, "[1", { single: false }],
  [
    "/generate",
    { text: "hi", sampling_params: { max_new_tokens: 5 }, lora_path: "a", extra_key: "s" },
    '"hi',
    { maxTokens: 5, adapter: '"a"', salt: "s", single: false },
  ],
];

t.test("facts of each API", (t) => {
  for (const [path, body, prompt, rest] of TABLE) {
    const found = facts(path, body);
    t.equal(promptText(found), prompt, path);
    t.match(found, rest, path);
  }
  const untested = APIS.filter(({ paths }) => !TABLE.some(([path]) => paths.includes(path)));
  t.same(
    untested.map(({ name }) => name),
    [],
  );
  t.end();
});

t.test("the page of APIs is their table", (t) => {
  const page = readFileSync(new URL("../../../docs/reference/apis.md", import.meta.url), "utf8");
  t.equal(page, apisReference(), "run npm run docs");
  t.end();
});

const TRANSFER = { kv_transfer_params: { do_remote_prefill: true, remote_host: "10.9.9.9" } };

t.test("what one token of a prefill leg cannot serve is not cut in two", (t) => {
  const cuttable = (path: string, more: object): boolean => facts(path, { model: "m", ...more }).cuttable;
  const named = { type: "function", function: { name: "f" } };
  const chat = (more: object): boolean => cuttable("/v1/chat/completions", { messages: MESSAGES, ...more });
  const choices = [null, "auto", "none", "required", named].map((choice) => chat({ tool_choice: choice }));
  t.same(choices, [true, true, true, false, false]);
  const anthropic = ["auto", "none", "any", "tool"].map((type) =>
    cuttable("/v1/messages", { messages: MESSAGES, tool_choice: { type } }),
  );
  t.same(anthropic, [true, true, false, false]);
  t.same([{ prompt_logprobs: null }, { prompt_logprobs: 0 }, { logprobs: true, top_logprobs: 3 }].map(chat), [
    true,
    false,
    true,
  ]);
  const text = (more: object): boolean => cuttable("/v1/completions", { prompt: "a", ...more });
  t.same([{ echo: true }, { logprobs: 1 }, { echo: true, logprobs: 0 }].map(text), [true, true, false]);
  const tokens = { token_ids: [1], sampling_params: { prompt_logprobs: 1 } };
  t.notOk(cuttable("/inference/v1/generate", tokens));
  t.end();
});

t.test("SGLang hands over what asks for no probabilities of the prompt itself", (t) => {
  const unscored = (more: object, path = "/generate"): boolean => facts(path, { model: "m", ...more }).unscored;
  const ids = { input_ids: [5, 6, 7], return_logprob: true };
  const text = { text: "a b c", return_logprob: true };
  const table: readonly (readonly [object, boolean])[] = [
    [{ input_ids: [5, 6, 7], logprob_start_len: 0 }, true],
    [{ ...ids, return_logprob: false, logprob_start_len: 0 }, true],
    [ids, true],
    [{ ...ids, logprob_start_len: null }, true],
    [{ ...ids, logprob_start_len: -1 }, true],
    [{ ...ids, logprob_start_len: 0 }, false],
    [{ ...ids, logprob_start_len: 1 }, false],
    [{ ...ids, logprob_start_len: 2 }, true],
    [{ ...ids, logprob_start_len: 3 }, true],
    [{ ...ids, logprob_start_len: "2" }, false],
    [{ ...text, logprob_start_len: 4 }, false],
    [{ ...text, logprob_start_len: 100 }, true],
    [{ text: ["a", "b"], return_logprob: [true, false], logprob_start_len: [-1, null] }, true],
    [{ text: ["a", "b"], return_logprob: [true, false], logprob_start_len: [0, -1] }, false],
    [{ text: ["a"], return_logprob: true, logprob_start_len: Array<number>(40_000).fill(-1) }, false],
  ];
  for (const [more, wanted] of table) t.equal(unscored(more), wanted, JSON.stringify(more).slice(0, 100));
  t.notOk(unscored({ prompt: "a", echo: true, logprobs: 1 }, "/v1/completions"));
  t.ok(unscored({ prompt: "a", logprobs: 1 }, "/v1/completions"));
  t.ok(
    unscored({ messages: MESSAGES, tool_choice: "required" }, "/v1/chat/completions"),
    "a forced call is split there",
  );
  t.end();
});

t.test("what a body lacks is named", (t) => {
  const table: [string, object, RegExp][] = [
    ["/v1/embeddings", { model: "m" }, /^input, or messages is missing$/],
    ["/v1/rerank", { model: "m", query: "q" }, /^documents is missing$/],
    ["/v1/rerank", { model: "m", query: 3, documents: [] }, /^query must be a string or a list or an object$/],
    ["/v1/responses", { model: "m", input: {} }, /^input must be a string or a list$/],
    ["/v1/messages", { messages: MESSAGES }, /^model is missing$/],
    ["/tokenize", { model: 3, prompt: "a" }, /^model must be a string/],
    ["/inference/v1/generate", { token_ids: [] }, /^token_ids must not be empty$/],
    ["/generate", { text: "a", sampling_params: { max_new_tokens: -1 } }, /^sampling_params\.max_new_tokens must be/],
    ["/v1/completions", { model: "m", prompt: "a", cache_salt: "" }, /^cache_salt must be a string that is not empty$/],
    // vLLM reads parameters of a transfer there as well, and they name hosts.
    ...(
      [
        ["/v1/completions", { model: "m", prompt: "a", vllm_xargs: TRANSFER }, /^vllm_xargs must not hold kv_transfer/],
        [
          "/v1/completions",
          { model: "m", prompt: "a", vllm_xargs: { ec_transfer_params: "" } },
          /^vllm_xargs must not hold ec_transfer/,
        ],
        ["/v1/responses", { model: "m", input: "a", vllm_xargs: TRANSFER }, /^vllm_xargs must not hold kv_transfer/],
        [
          "/inference/v1/generate",
          { token_ids: [1], sampling_params: { extra_args: TRANSFER } },
          /^sampling_params\.extra_args must not hold kv_transfer/,
        ],
      ] as const
    ).map(([path, body, message]): [string, object, RegExp] => [path, body, message]),
  ];
  for (const [path, body, message] of table) {
    const found = read(path, body);
    t.match(isProblem(found) ? found.message : "accepted", message);
  }
  const escaped = '{"token_ids":[1],"sampling_params":{"extra_\\u0061rgs":{"kv_transfer\\u005fparams":{}}}}';
  t.match(read("/inference/v1/generate", escaped), { status: 400 });
  t.match(read("/generate", '{"text":"a","sampling_params":{"max_new_tokens":1,"max_new_tokens":2}}'), { status: 400 });
  t.end();
});

t.test("an image counts as its tokens, by its digest; a URL by its text and an estimate", (t) => {
  const image = (bytes: string): object => ({
    type: "image_url",
    image_url: { url: `data:image/png;base64,${bytes}` },
  });
  const chat = (part: object): RequestFacts =>
    facts("/v1/chat/completions", {
      model: "m",
      messages: [{ role: "user", content: [part, { type: "text", text: "a" }] }],
    });
  const [a, b] = ["A", "B"].map((letter) => chat(image(letter.repeat(1_000_000))));
  t.match(a?.prompt, { media: 1, extraTokens: 0 });
  t.ok((a?.prompt.bytes ?? 0) < 4096 + 200, "a megabyte of base64 is no text");
  t.equal(a?.prompt.bytes, b?.prompt.bytes);
  t.not(promptText(a!), promptText(b!));
  t.match(chat({ type: "image_url", image_url: { url: "https://x/y.png" } }).prompt, { media: 1, extraTokens: 1024 });
  const source = { type: "base64", media_type: "image/png", data: "C".repeat(2000) };
  const anthropic = { model: "m", messages: [{ role: "user", content: [{ type: "image", source }] }] };
  t.match(facts("/v1/messages", anthropic).prompt, { media: 1, extraTokens: 0 });
  t.match(facts("/generate", { image_data: "D".repeat(9000), text: "a" }).prompt, { media: 1, bytes: 4096 + 2 });
  t.match(chat({ type: "text", text: `{"type":"image_url"} data: ${"x".repeat(3000)}` }).prompt, { media: 0 });
  t.end();
});

const KEPT = { do_remote_decode: true };

t.test("the prefill leg limits the answer where its API keeps the limit", (t) => {
  const leg = (path: string, body: object): object => {
    const bytes = Buffer.from(JSON.stringify(body));
    return JSON.parse(onlyPrefill(bytes, facts(path, body), new Map([[PARAMS, KEEP_FOR_REMOTE]])).toString()) as object;
  };
  const tokens = { token_ids: [1], sampling_params: { seed: 5, max_tokens: 99 }, stream: true };
  t.match(leg("/inference/v1/generate", tokens), {
    sampling_params: { seed: 5, max_tokens: 1, min_tokens: 1, extra_args: { kv_transfer_params: KEPT } },
    stream: false,
    kv_transfer_params: KEPT,
  });
  const more = { token_ids: [1], sampling_params: { extra_args: { a: 1 } } };
  t.match(leg("/inference/v1/generate", more), { sampling_params: { extra_args: { a: 1, kv_transfer_params: KEPT } } });
  for (const sampling_params of [null, { extra_args: null }])
    t.match(leg("/inference/v1/generate", { token_ids: [1], sampling_params }), {
      sampling_params: { max_tokens: 1, extra_args: { kv_transfer_params: KEPT } },
    });
  t.match(leg("/v1/messages", { model: "short", messages: MESSAGES, max_tokens: 5 }), { model: "m", max_tokens: 1 });
  t.end();
});

const JSON_TYPE: HeaderList = [["content-type", "application/json"]];
const TWO = { "127.0.0.1:1": { model: "m" }, "127.0.0.1:2": { model: "n" } };
const ONE = { "127.0.0.1:1": { model: "m" }, "127.0.0.1:2": { role: "prefill", model: "m" } };

t.test("an alias is written into the body, and nothing else", async (t) => {
  const world = new Routing({ router: { aliases: { short: "n" } }, endpoints: TWO });
  const text = '{"x":1e400, "mod\\u0065l" : "short","messages":[ 1 ],"z":12345678901234567890}';
  const { destination, body } = await world.forward({ body: Buffer.from(text) });
  t.equal(destination, "127.0.0.1:2");
  t.equal(body.toString(), text.replace('"short"', '"n"'));
  const bytes = Buffer.from(text.replace("short", "m"));
  t.equal((await world.forward({ body: bytes })).body, bytes, "the very same buffer");
  const models = await world.route({ method: "GET", path: "/v1/models", headers: [], body: {} });
  t.match(JSON.parse(models.body.toString()), { data: [{ id: "m" }, { id: "n" }, { id: "short", root: "n" }] });
});

t.test("a request that names no model goes to the only service, or nowhere", async (t) => {
  const body = { prompt: "a" };
  t.match(await new Routing({ endpoints: ONE }).route({ path: "/tokenize", body }), { destination: "127.0.0.1:1" });
  const two = new Routing({ endpoints: TWO });
  t.match(await two.route({ path: "/tokenize", body }), { status: 400, reason: "ModelUnnamed" });
  const headers: HeaderList = [...JSON_TYPE, ["x-gateway-model-name", "n"]];
  t.match(await two.route({ path: "/tokenize", headers, body }), { destination: "127.0.0.1:2" });
});

t.test("encoded bodies and other paths: refused, or passed on by load where configured", async (t) => {
  const body = gzipSync(JSON.stringify({ model: "n", messages: MESSAGES }));
  const headers: HeaderList = [...JSON_TYPE, ["content-encoding", "gzip"]];
  const hidden: HeaderList = [...JSON_TYPE, ["content-encoding", "identity"], ["content-encoding", "gzip"]];
  const plain = new Routing({ endpoints: ONE });
  t.match(await plain.route({ headers, body }), { status: 415 });
  t.match(await plain.route({ headers: hidden, body }), { status: 415 });
  t.match(await plain.route({ path: "/v1/audio", body }), { status: 404, reason: "PathUnknown" });
  const router = { encodedBodies: "route", passthrough: [{ path: "/v1/audio", methods: ["POST"] }, { path: "/v1/x" }] };
  const open = new Routing({ router, endpoints: ONE });
  t.equal((await open.forward({ headers, body })).body, body);
  t.equal((await open.forward({ headers, body })).destination, "127.0.0.1:1", "never to a prefill endpoint");
  const form: HeaderList = [["content-type", "multipart/form-data; boundary=x"]];
  t.match(await open.route({ path: "/v1/audio?a=b", headers: form, body }), { destination: "127.0.0.1:1" });
  t.match(await open.route({ path: "/v1/audio", method: "GET", body }), { status: 405 });
  t.match(await open.route({ path: "/v1/x", headers: form, body }), { kind: "forward" }, "POST is the default");
});

t.test("of a body that is cut the start is used, and of one that is not seen the head", (t) => {
  const bytes = Buffer.from(JSON.stringify({ model: "short", messages: [{ role: "user", content: "x".repeat(900) }] }));
  const base = { api: apiOf("/v1/chat/completions") ?? OPAQUE, headers: [], tenant: "" };
  const cut = readFacts(CONFIG, { ...base, body: bytes.subarray(0, 500), extent: "cut" });
  t.match(cut, { model: "m", single: false, edits: new Map() });
  t.ok(!isProblem(cut) && cut.prompt.bytes > 400);
  const early = readFacts(CONFIG, { ...base, body: bytes.subarray(0, 5), extent: "cut" });
  t.match(early, { model: undefined, prompt: { bytes: 0 } });
  const value = bytes.indexOf('"short"');
  for (let end = value; end <= value + 8; end++) {
    const model = end < value + 7 ? undefined : "m";
    const [head, named] = [[], [["x-gateway-model-name", "n"]]] as const;
    const input = { ...base, body: bytes.subarray(0, end), extent: "cut" } as const;
    t.match(readFacts(CONFIG, { ...input, headers: head }), { model }, `cut at ${end - value} of its name`);
    t.match(readFacts(CONFIG, { ...input, headers: named }), { model: model ?? "n" }, "the header says it");
  }
  const half = Buffer.from('{"model":"short","model":"sho');
  t.match(readFacts(CONFIG, { ...base, body: half, extent: "cut" }), { status: 400 }, "given twice");
  t.match(readFacts(CONFIG, { ...base, body: bytes, extent: "none" }), { model: undefined, prompt: { bytes: 0 } });
  t.end();
});

t.test("errors have the shape of the path's API", async (t) => {
  const world = new Routing({ endpoints: ONE });
  const openai = await world.route({ body: Buffer.from("{") });
  t.match(JSON.parse(openai.body.toString()), { error: { type: "invalid_request_error", code: "invalid_request" } });
  for (const path of ["/v1/messages", "/v1/messages/count_tokens?beta=true"]) {
    const { body } = await world.route({ path, body: Buffer.from("{") });
    t.match(JSON.parse(body.toString()), { type: "error", error: { type: "invalid_request_error", message: /JSON/ } });
  }
  const unknown = await world.route({ body: { model: "z", messages: MESSAGES } });
  t.match(JSON.parse(unknown.body.toString()), { error: { code: "model_not_found" } });
  t.equal(new Set(API_PATHS).size, API_PATHS.length);
});
