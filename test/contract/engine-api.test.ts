import { connect } from "node:net";
import t from "tap";
import { startEngine } from "../../src/simulator/engine/server.ts";
import { call, CHAT_PATH, COMPLETION_PATH, events, PORTS, start, until } from "./engine.ts";

const CHAT = { model: "llama", messages: [{ role: "user", content: "Tell me of tides." }], max_tokens: 5 };
const COMPLETION = { model: "llama", prompt: "Tides are", max_tokens: 5 };

t.test("a chat completion is answered in vLLM's shape", async (t) => {
  const engine = await start(t);
  const answer = await call(engine, CHAT_PATH, { body: CHAT, headers: { "x-request-id": "abc" } });
  t.equal(answer.status, 200);
  t.equal(answer.headers["content-type"], "application/json");
  t.match(answer.json, {
    id: "chatcmpl-abc",
    object: "chat.completion",
    created: Number,
    model: "llama",
    choices: [{ index: 0, message: { role: "assistant", content: /^[a-z]+( [a-z]+){4}$/ }, finish_reason: "length" }],
    usage: { completion_tokens: 5, prompt_tokens: Number, prompt_tokens_details: { cached_tokens: 0 } },
    kv_transfer_params: null,
  });
  const usage = answer.json["usage"] as Record<string, number>;
  t.equal(usage["total_tokens"], (usage["prompt_tokens"] ?? 0) + 5);
});

t.test("a completion is answered in vLLM's shape", async (t) => {
  const engine = await start(t);
  const answer = await call(engine, COMPLETION_PATH, { body: { ...COMPLETION, model: "alias" } });
  t.match(answer.json, {
    id: /^cmpl-[0-9a-f-]{36}$/,
    object: "text_completion",
    model: "alias",
    choices: [{ index: 0, text: /^( [a-z]+){5}$/, finish_reason: "length" }],
    usage: { completion_tokens: 5 },
  });
});

t.test("the request id of the body counts where there is no header", async (t) => {
  const engine = await start(t);
  const answer = await call(engine, COMPLETION_PATH, { body: { ...COMPLETION, request_id: "mine" } });
  t.equal(answer.json["id"], "cmpl-mine");
});

t.test("an answer that ends by itself ends with stop", async (t) => {
  const engine = await start(t, { meanOutputTokens: 6 });
  const answer = await call(engine, CHAT_PATH, { body: { ...CHAT, max_tokens: 100 } });
  t.match(answer.json, { choices: [{ finish_reason: "stop" }] });
  const longer = await call(engine, CHAT_PATH, { body: { ...CHAT, max_tokens: 100, ignore_eos: true } });
  t.match(longer.json, { choices: [{ finish_reason: "length" }], usage: { completion_tokens: 100 } });
});

t.test("a streamed chat has the role, then one chunk a token, then the end", async (t) => {
  const engine = await start(t);
  const body = { ...CHAT, max_tokens: 3, stream: true };
  const answer = await call(engine, CHAT_PATH, { body, headers: { "x-request-id": "s1" } });
  t.match(answer.headers["content-type"], /^text\/event-stream/);
  const head = { id: "chatcmpl-s1", object: "chat.completion.chunk", model: "llama" };
  t.match(events(answer), [
    { ...head, choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] },
    { ...head, choices: [{ delta: { content: /^[a-z]+$/ }, finish_reason: null }] },
    { ...head, choices: [{ delta: { content: /^ [a-z]+$/ }, finish_reason: null }] },
    { ...head, choices: [{ delta: { content: /^ [a-z]+$/ }, finish_reason: "length" }] },
    "[DONE]",
  ]);
  t.equal(events(answer).length, 5, "and no usage, which nobody asked for");
});

t.test("a streamed completion has no role, and usage last when asked for", async (t) => {
  const engine = await start(t);
  const body = { ...COMPLETION, max_tokens: 2, stream: true, stream_options: { include_usage: true } };
  const answer = await call(engine, COMPLETION_PATH, { body });
  t.match(events(answer), [
    { object: "text_completion", choices: [{ text: /^ [a-z]+$/, finish_reason: null }] },
    { choices: [{ text: /^ [a-z]+$/, finish_reason: "length" }] },
    { choices: [], usage: { completion_tokens: 2, prompt_tokens_details: { cached_tokens: 0 } } },
    "[DONE]",
  ]);
});

t.test("a stream and a whole answer say the same", async (t) => {
  const engine = await start(t);
  const whole = await call(engine, COMPLETION_PATH, { body: COMPLETION });
  const streamed = events(await call(engine, COMPLETION_PATH, { body: { ...COMPLETION, stream: true } }));
  const pieces = streamed.map((event) => (event as { choices?: { text: string }[] }).choices?.[0]?.text ?? "");
  t.match(whole.json, { choices: [{ text: pieces.join("") }] });
});

t.test("usage can be told with every chunk", async (t) => {
  const engine = await start(t);
  const options = { include_usage: true, continuous_usage_stats: true };
  const body = { ...CHAT, max_tokens: 2, stream: true, stream_options: options };
  const counts = events(await call(engine, CHAT_PATH, { body })).map(
    (event) => (event as { usage?: { completion_tokens: number } }).usage?.completion_tokens,
  );
  t.same(counts, [0, 1, 2, 2, undefined]);
});

t.test("the head of a stream leaves before the first token", async (t) => {
  // At this speed a token takes minutes, so whatever arrives is the head.
  const engine = await start(t, { timeScale: 1e-5 });
  const [host = "", port = ""] = engine.address.split(":");
  const socket = connect(Number(port), host);
  t.teardown(() => socket.destroy());
  const body = JSON.stringify({ ...CHAT, stream: true });
  socket.write(
    `POST ${CHAT_PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const first = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
  t.match(first.toString(), /^HTTP\/1\.1 200 OK/);
});

t.test("several prompts and several answers to each are told apart by index", async (t) => {
  const engine = await start(t);
  const body = { ...COMPLETION, prompt: ["One", "Two"], n: 2, max_tokens: 3 };
  const { json } = await call(engine, COMPLETION_PATH, { body });
  const choices = json["choices"] as { index: number; text: string }[];
  t.same(
    choices.map((choice) => choice.index),
    [0, 1, 2, 3],
  );
  t.equal(new Set(choices.map((choice) => choice.text)).size, 4);
  t.match(json, { usage: { prompt_tokens: 2, completion_tokens: 12 } });
  const streamed = events(await call(engine, COMPLETION_PATH, { body: { ...body, stream: true } }));
  t.equal(streamed.length, 13, "three tokens each, and one end");
});

t.test("the same prompt again is found in the prefix cache, with another salt it is not", async (t) => {
  const engine = await start(t);
  const body = { ...COMPLETION, prompt: "Tides are the rise and fall of sea levels. ".repeat(20) };
  const cached = async (change: object): Promise<unknown> => {
    const { json } = await call(engine, COMPLETION_PATH, { body: { ...body, ...change } });
    return (json["usage"] as { prompt_tokens_details: unknown }).prompt_tokens_details;
  };
  t.same(await cached({}), { cached_tokens: 0 });
  const { json } = await call(engine, "/tokenize", { body });
  const expected = 16 * Math.floor((Number(json["count"]) - 1) / 16);
  t.same(await cached({}), { cached_tokens: expected });
  t.same(await cached({ cache_salt: "tenant" }), { cached_tokens: 0 });
  t.match(engine.facts(), { cachedTokens: expected, promptTokens: 3 * Number(json["count"]) });
  t.equal((await call(engine, "/reset_prefix_cache", { method: "POST" })).status, 200);
  t.same(await cached({}), { cached_tokens: 0 });
});

t.test("the next turn of a chat hits the turn before it, answer included", async (t) => {
  const engine = await start(t);
  const question = { role: "user", content: "Tides are the rise and fall of sea levels. ".repeat(10) };
  const first = await call(engine, CHAT_PATH, { body: { ...CHAT, messages: [question], max_tokens: 60 } });
  const [{ message }] = first.json["choices"] as [{ message: { content: string } }];
  const history = [question, { role: "assistant", content: message.content }, { role: "user", content: "More?" }];
  const second = await call(engine, CHAT_PATH, { body: { ...CHAT, messages: history } });
  const { total_tokens: total = 0 } = first.json["usage"] as Record<string, number>;
  t.match(second.json, { usage: { prompt_tokens_details: { cached_tokens: 16 * Math.floor((total - 1) / 16) } } });
});

t.test("models, health and version", async (t) => {
  const engine = await start(t, { maxModelLen: 4096 });
  const models = await call(engine, "/v1/models");
  t.match(models.json, {
    object: "list",
    data: [
      { id: "llama", object: "model", owned_by: "vllm", root: "llama", max_model_len: 4096 },
      { id: "alias", root: "llama" },
    ],
  });
  for (const path of ["/health", "/ping"]) t.match(await call(engine, path), { status: 200, text: "" });
  t.match((await call(engine, "/version")).json, { version: String });
});

t.test("tokenize counts what a request would", async (t) => {
  const engine = await start(t);
  const { json } = await call(engine, "/tokenize", { body: { model: "llama", messages: CHAT.messages } });
  const answer = await call(engine, CHAT_PATH, { body: CHAT });
  t.match(answer.json, { usage: { prompt_tokens: json["count"] } });
  t.equal((json["tokens"] as number[]).length, json["count"]);
  t.match(json, { max_model_len: Number });
});

t.test("errors have vLLM's shape", async (t) => {
  const engine = await start(t, { maxModelLen: 200 });
  const cases = [
    [CHAT_PATH, { body: "{" }, 400, { type: "Bad Request", message: /JSON decode error/ }],
    [CHAT_PATH, { body: "[]" }, 400, { type: "Bad Request" }],
    [CHAT_PATH, { method: "POST" }, 400, { message: /Only 'application\/json' is allowed/ }],
    [CHAT_PATH, { body: CHAT, headers: { "content-type": "text/plain" } }, 400, { message: /Unsupported Media Type/ }],
    [CHAT_PATH, { body: { ...CHAT, model: "other" } }, 404, { type: "NotFoundError", param: "model" }],
    [
      COMPLETION_PATH,
      { body: { ...COMPLETION, max_tokens: -5 } },
      400,
      { message: "max_tokens must be at least 1, got -5." },
    ],
    [
      COMPLETION_PATH,
      { body: { ...COMPLETION, prompt: " word".repeat(300) } },
      400,
      { message: /maximum context length is 200 tokens/ },
    ],
    [COMPLETION_PATH, { body: { ...COMPLETION, max_tokens: 200 } }, 400, { message: /is too large: 200/ }],
    ["/nowhere", {}, 404, { message: "Not Found" }],
    [CHAT_PATH, { method: "GET" }, 405, { message: "Method Not Allowed" }],
    ["/tokenize", { body: { model: "llama" } }, 400, { type: "Bad Request" }],
    ["/simulator/pull", { body: { engine_id: "x", request_id: "y" } }, 404, { type: "NotFoundError" }],
  ] as const;
  for (const [path, what, status, error] of cases) {
    const answer = await call(engine, path, what);
    t.equal(answer.status, status, `${path} ${JSON.stringify(what).slice(0, 80)}`);
    t.match(answer.json, { error: { ...error, code: status } });
  }
  t.equal(engine.facts().requests, 0, "and nothing of it reached the engine");
});

t.test("content types with a charset are JSON too", async (t) => {
  const engine = await start(t);
  const headers = { "content-type": "Application/JSON; charset=utf-8" };
  t.equal((await call(engine, CHAT_PATH, { body: CHAT, headers })).status, 200);
});

t.test("a body beyond the bound is refused, not read to its end", async (t) => {
  const engine = await start(t);
  const body = JSON.stringify({ ...COMPLETION, prompt: "x".repeat(65 * 2 ** 20) });
  const outcome = await call(engine, COMPLETION_PATH, { body }).catch((error: unknown) => error as Error);
  // The engine answers and closes while the client still sends: it may see either.
  t.ok(outcome instanceof Error || outcome.status === 413, "refused");
  t.equal((await call(engine, "/health")).status, 200, "and the engine lives");
});

t.test("the metrics page has vLLM's names, labels and counts", async (t) => {
  const engine = await start(t, { capacityBlocks: 1000, role: "prefill" });
  for (let i = 0; i < 2; i += 1)
    await call(engine, COMPLETION_PATH, { body: { ...COMPLETION, prompt: " word".repeat(33) } });
  const { text, headers } = await call(engine, "/metrics");
  t.match(headers["content-type"], /^text\/plain; version=0\.0\.4/);
  const labels = 'model_name="llama",engine="0"';
  for (const line of [
    `vllm:num_requests_running{${labels}} 0`,
    `vllm:num_requests_waiting{${labels}} 0`,
    `vllm:kv_cache_usage_perc{${labels}} 0`,
    `vllm:prefix_cache_queries_total{${labels}} 66`,
    `vllm:prefix_cache_hits_total{${labels}} 32`,
    `vllm:prompt_tokens_total{${labels}} 66`,
    `vllm:generation_tokens_total{${labels}} 10`,
    `vllm:request_success_total{finished_reason="length",${labels}} 2`,
    `vllm:time_to_first_token_seconds_count{${labels}} 2`,
    `vllm:inter_token_latency_seconds_count{${labels}} 8`,
    `vllm:e2e_request_latency_seconds_count{${labels}} 2`,
    `vllm:num_preemptions_total{${labels}} 0`,
    `simulator_prefill_legs_total{${labels}} 0`,
    `simulator_decode_legs_total{prefill="local",${labels}} 2`,
    `simulator_decode_legs_total{prefill="remote",${labels}} 0`,
  ])
    t.ok(text.split("\n").includes(line), line);
  t.match(text, /vllm:cache_config_info\{block_size="16",num_gpu_blocks="1000",kv_cache_size_tokens="16000"/);
  t.match(text, /simulator_info\{role="prefill",connector="nixl",engine_id="[0-9a-f-]{36}"/);
  t.equal((await call(engine, "/metrics")).text, text, "reading changes nothing");
});

t.test("load is seen while requests run", async (t) => {
  const engine = await start(t, { maxSequences: 2, timeScale: 1 });
  const calls = Array.from({ length: 5 }, (_, index) =>
    call(engine, COMPLETION_PATH, { body: { ...COMPLETION, prompt: `Number ${index}`, max_tokens: 20 } }),
  );
  await until(() => engine.facts().running === 2 && engine.facts().waiting > 0);
  t.match((await call(engine, "/metrics")).text, /vllm:num_requests_running\{.*\} 2/);
  t.ok((await Promise.all(calls)).every((answer) => answer.status === 200));
  t.match(engine.facts(), { running: 0, waiting: 0, requests: 5, decodeLegsLocal: 5, usedBlocks: 0 });
});

t.test("200 requests at once are all served", async (t) => {
  const engine = await start(t, { capacityBlocks: 200 });
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      call(engine, CHAT_PATH, {
        body: {
          ...CHAT,
          stream: index % 2 === 0,
          max_tokens: 8,
          messages: [{ role: "user", content: `Say ${index}` }],
        },
      }),
    ),
  );
  t.same([...new Set(answers.map((answer) => answer.status))], [200]);
  t.match(engine.facts(), { requests: 200, generatedTokens: 1600, usedBlocks: 0, finished: { length: 200 } });
});

t.test("a client that goes away frees its blocks", async (t) => {
  const engine = await start(t, { timeScale: 1 });
  for (const stream of [true, false]) {
    const before = engine.facts().aborted;
    const abort = new AbortController();
    const body = JSON.stringify({ ...CHAT, stream, max_tokens: 50_000, ignore_eos: true });
    const headers = { "content-type": "application/json" };
    const going = fetch(`http://${engine.address}${CHAT_PATH}`, {
      method: "POST",
      body,
      headers,
      signal: abort.signal,
    });
    going.catch(() => undefined);
    await until(() => engine.facts().running === 1);
    t.ok(engine.facts().usedBlocks > 0);
    abort.abort();
    await until(() => engine.facts().aborted === before + 1);
    t.match(engine.facts(), { running: 0, waiting: 0, usedBlocks: 0 });
  }
});

t.test("stopping refuses connections at once and cuts the open ones", async (t) => {
  const engine = await start(t, { timeScale: 1 });
  const body = { ...CHAT, max_tokens: 50_000, ignore_eos: true };
  const cut = call(engine, CHAT_PATH, { body }).then(
    () => "answered",
    (error: unknown) => (error as NodeJS.ErrnoException).code,
  );
  await until(() => engine.facts().running === 1);
  const stopping = engine.stop();
  const refused = await call(engine, "/health").catch((error: unknown) => (error as NodeJS.ErrnoException).code);
  t.equal(refused, "ECONNREFUSED");
  t.equal(await cut, "ECONNRESET");
  await stopping;
  await engine.stop();
  t.equal(engine.facts().running, 0);
});

t.test("an address in use is an error of the start", async (t) => {
  const engine = await start(t);
  const port = Number(engine.address.split(":")[1]);
  await t.rejects(startEngine({ host: "127.0.0.1", port, models: ["m"], connector: "nixl" }, PORTS), {
    code: "EADDRINUSE",
  });
});

t.test("engines stand on loopback addresses of their own with the same port", async (t) => {
  const first = await start(t, { host: "127.64.9.1" });
  const port = Number(first.address.split(":")[1]);
  const second = await start(t, { host: "127.64.9.2", port });
  t.same([first.address, second.address], [`127.64.9.1:${port}`, `127.64.9.2:${port}`]);
  await call(first, CHAT_PATH, { body: CHAT });
  t.same([first.facts().requests, second.facts().requests], [1, 0]);
});
