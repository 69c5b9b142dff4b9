/** Tokens of prompts from the thread and from engines: in time or not at all, and what comes late serves the next. */
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { createStarted } from "../../src/cli/roles/running.ts";
import { startTokenizing } from "../../src/cli/roles/tokenizing.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import type { EngineClient, Log } from "../../src/ports.ts";
import { createEngineClient } from "../../src/router/disagg/client.ts";
import { apiOf } from "../../src/router/request/apis.ts";
import { isProblem, readFacts } from "../../src/router/request/facts.ts";
import type { PromptTokenizer, PromptTokens } from "../../src/router/tokenize/tokens.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { SMALL } from "../support/tokenizer/small.ts";
import { call, start, until } from "./engine.ts";

t.setTimeout(300_000);

const NO_ENGINE: EngineClient = { send: () => Promise.resolve({ kind: "refused", detail: "no engine" }) };

interface Rig {
  readonly tokenizer: PromptTokenizer;
  readonly logged: string[];
  readonly page: () => Promise<string>;
  readonly ask: (body: object, path?: string) => Promise<PromptTokens | undefined> | undefined;
}

function rig(t: Test, tokenizer: object, { client = NO_ENGINE, address = "127.0.0.1:9", live = true } = {}): Rig {
  const logged: string[] = [];
  const say = (line: string, fields: object = {}): void => void logged.push(`${line} ${JSON.stringify(fields)}`);
  const log: Log = { ...SILENT_LOG, info: say, warn: say, error: say };
  const text = JSON.stringify({ router: { tokenizer, endpoints: { static: [{ address, model: "llama" }] } } });
  const ports = createPorts(loadConfig({ text }), log);
  const begun = createStarted(log);
  t.teardown(() => begun.stop());
  const events = { anyLive: live, isLive: () => live };
  const made = startTokenizing(ports, { client, events }, begun);
  if (made === undefined) throw new Error("off");
  const { config } = ports;
  const known = staticEndpoints(config.router.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
  const ask: Rig["ask"] = (asked, path = "/v1/chat/completions") => {
    const [api, body] = [apiOf(path), Buffer.from(JSON.stringify({ model: "llama", ...asked }))];
    if (api === undefined) throw new Error(path);
    const input = { api, body, headers: [], tenant: "", extent: "whole" } as const;
    const facts = readFacts({ aliases: {}, rates: config.router.index, unsalted: "route" }, input);
    if (isProblem(facts)) throw new Error(facts.message);
    return made.tokens({ facts, body, model: "llama", endpoints: [known] });
  };
  return { tokenizer: made, logged, page: () => ports.metrics.page(), ask };
}

const HERE = { models: { "lla*": SMALL }, budgetMs: 1000, engine: false };
const hello = (content = "hello"): object => ({ messages: [{ role: "user", content }] });
const ready = ({ logged }: Rig): boolean => logged.some((line) => line.startsWith("tokenizer ready"));

t.test("from the model's own files, on a thread", async (t) => {
  const world = rig(t, HERE);
  t.equal(world.ask(hello()), undefined, "not before they are read");
  await until(() => ready(world));
  const first = await world.ask(hello());
  t.match(first, { how: "tokenizer" });
  t.equal(first?.ids[0], 1501, "<|im_start|>");
  t.same((await world.ask(hello()))?.ids, first?.ids);
  t.same([...((await world.ask({ prompt: [5, 6, 7] }, "/v1/completions"))?.ids ?? [])], [5, 6, 7], "given as tokens");
  t.match(await world.page(), /tandem_router_tokenizer_ready\{model="lla\*"\} 1/);
});

t.test("what cannot be tokenised is not waited for", async (t) => {
  const world = rig(t, HERE);
  await until(() => ready(world));
  const image = [{ role: "user", content: [{ type: "image_url", image_url: { url: "http://x/y.png" } }] }];
  t.equal(world.ask({ messages: image }), undefined, "images");
  t.equal(world.ask({ prompt: ["a", "b"] }, "/v1/completions"), undefined, "batches");
  t.equal(world.ask({ prompt: [[1], [2]] }, "/v1/completions"), undefined, "batches of tokens");
  t.equal(world.ask({ ...hello(), chat_template: "{{ 1 }}" }), undefined, "a template of the client's");
  t.equal(world.ask({ ...hello(), truncate_prompt_tokens: 5 }), undefined, "a cut prompt");
  t.equal(world.ask({ input: "x", previous_response_id: "r" }, "/v1/responses"), undefined, "what an engine keeps");
  t.equal(world.ask({ input: "x" }, "/v1/embeddings"), undefined, "another API");
  t.equal(world.ask(hello("x".repeat(2 ** 21))), undefined, "half a million tokens");
  const kwargs = { chat_template_kwargs: { a: "x".repeat(2 ** 21) } };
  t.equal(world.ask({ ...hello(), ...kwargs }), undefined, "megabytes that are no prompt");
  t.equal(world.ask({ input: "x", truncation: "auto" }, "/v1/responses"), undefined, "what an engine cuts");
  t.equal(world.ask({ prompt: "a", suffix: "b" }, "/v1/completions"), undefined, "a text with a hole");
  t.equal(await world.ask({ messages: [{ content: "x" }] }), undefined, "what no template takes");
  const turns = (length: number): object => ({
    messages: Array.from({ length }, () => ({ role: "user", content: "" })),
  });
  t.ok(await world.ask(turns(4096)));
  t.equal(await world.ask(turns(4097)), undefined, "more turns than a template gets through in a second");
  const parts = Array.from({ length: 4096 }, () => ({ type: "text", text: "" }));
  t.equal(await world.ask({ messages: [{ role: "user", content: parts }] }), undefined, "or parts of one");
  const own = { chat_template_kwargs: { chat_template: "{{ 1 }}" } };
  t.equal(await world.ask({ ...hello(), ...own }), undefined, "a template of the client's among the variables");
  t.match(await world.page(), /tokenizations_total\{how="none",outcome="unable"\} 11/);
});

t.test("files that change are read again; files that cannot be read are told of", async (t) => {
  const folder = join(t.testdir({}), "model");
  const world = rig(t, { models: { llama: folder }, engine: false, budgetMs: 1000 });
  await until(() => world.logged.some((line) => line.startsWith("tokenizer not read")));
  t.equal(world.ask(hello()), undefined);
  mkdirSync(folder);
  cpSync(SMALL, folder, { recursive: true });
  await until(() => ready(world));
  rmSync(folder, { recursive: true });
  await until(() => world.logged.some((line) => line.includes('"ready":true,"problem"')));
  t.ok(await world.ask(hello()), "the last that could be read serve on");
});

t.test("no events, no question", async (t) => {
  const world = rig(t, HERE, { live: false });
  t.equal(world.tokenizer.idle, true);
  await until(() => ready(world));
  t.equal(world.ask(hello()), undefined);
  const always = rig(t, { ...HERE, mode: "always" }, { live: false });
  t.equal(always.tokenizer.idle, false);
  await until(() => ready(always));
  t.ok(await always.ask(hello()));
});

t.test("from the engine, as it tokenises itself", async (t) => {
  const engine = await start(t);
  const client = createEngineClient();
  t.teardown(() => client.close());
  const { ask, page } = rig(t, { budgetMs: 1000 }, { client, address: engine.address });
  const tools = [{ type: "function", function: { name: "f" } }];
  for (const body of [hello(), { ...hello("你好"), tools }, { ...hello(), add_generation_prompt: false }]) {
    const { json } = await call(engine, "/tokenize", { method: "POST", body: { model: "llama", ...body } });
    const made = await ask(body);
    t.equal(made?.how, "engine");
    t.same([...(made?.ids ?? [])], json["tokens"]);
    const usage = await call(engine, "/v1/chat/completions", {
      method: "POST",
      body: { model: "llama", ...body, max_tokens: 1 },
    });
    t.match(usage.json, { usage: { prompt_tokens: made?.ids.length } });
  }
  const text = await ask({ prompt: "once upon a time" }, "/v1/completions");
  t.equal(text?.ids.length, 4);
  t.equal(await ask({ input: "x" }, "/v1/responses"), undefined, "what /tokenize does not take");
  t.match(await page(), /tokenizations_total\{how="engine",outcome="made"\} 4/);
});

t.test("the budget ends the wait; what comes later is there for the next", async (t) => {
  const waiting: (() => void)[] = [];
  let calls = 0;
  const tokens = Buffer.from('{"count":2,"tokens":[3,4]}');
  const client: EngineClient = {
    send: () => {
      calls += 1;
      return new Promise((resolve) =>
        waiting.push(() => resolve({ kind: "answer", status: 200, headers: {}, body: tokens })),
      );
    },
  };
  const { ask, page } = rig(t, { budgetMs: 20, engineCalls: 2 }, { client });
  t.equal(await ask(hello()), undefined, "late");
  t.equal(await ask(hello()), undefined, "late again, by the same call");
  t.equal(calls, 1);
  t.equal(await ask(hello("other")), undefined);
  t.equal(ask(hello("third")), undefined, "as many calls run as may");
  for (const answer of waiting) answer();
  await new Promise((resolve) => setImmediate(resolve));
  t.notMatch(await page(), /tokenizations_total\{how="engine",outcome="made"/, "late is all that it was");
  await until(() => ask(hello()) !== undefined);
  t.same([...((await ask(hello()))?.ids ?? [])], [3, 4]);
  t.equal(calls, 2);
  t.match(await page(), /tokenizations_total\{how="engine",outcome="late"\} 3/);
  t.match(await page(), /tokenizations_total\{how="engine",outcome="full"\} 1/);
});

t.test("an engine without /tokenize is left alone", async (t) => {
  let calls = 0;
  const client: EngineClient = {
    send: () => {
      calls += 1;
      return Promise.resolve({ kind: "answer", status: 404, headers: {}, body: Buffer.alloc(0) });
    },
  };
  const { ask } = rig(t, { budgetMs: 1000 }, { client });
  t.equal(await ask(hello()), undefined);
  t.equal(ask(hello("other")), undefined);
  t.equal(calls, 1);
});

t.test("an engine that refuses prompts is asked for others; one that fails is left alone", async (t) => {
  for (const [status, asked] of [
    [400, 6],
    [500, 3],
  ] as const) {
    let calls = 0;
    const send = (): ReturnType<EngineClient["send"]> => {
      calls += 1;
      return Promise.resolve({ kind: "answer", status, headers: {}, body: Buffer.alloc(0) });
    };
    const { ask } = rig(t, { budgetMs: 1000 }, { client: { send } });
    for (let prompt = 0; prompt < 6; prompt++) t.equal(await ask(hello(String(prompt))), undefined);
    t.equal(calls, asked, `status ${status}`);
  }
});

t.test("tokens that are not the engine's are given up", async (t) => {
  const world = rig(t, HERE);
  await until(() => ready(world));
  const made = (await world.ask(hello()))?.ids.length ?? 0;
  const counted = (promptTokens: number): void =>
    world.tokenizer.counted(
      { model: "llama", api: "chat", tenant: "", tokens: "tokenizer", count: made },
      promptTokens,
    );
  for (const engines of [made, made + 1, made, made + 1]) counted(engines);
  t.ok(await world.ask(hello()), "two of the last four");
  counted(made + 1);
  t.equal(await world.ask(hello()), undefined, "three of the last five");
  t.match(world.logged.at(-1), /tokens are not the engine's.*"off":1,"cause":"tokens that begin or end a prompt/);
});
