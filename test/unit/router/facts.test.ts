import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Problem } from "../../../src/router/answers.ts";
import { apiOf, OPAQUE } from "../../../src/router/request/apis.ts";
import {
  isProblem,
  readFacts as read,
  type FactsConfig,
  type RequestFacts,
} from "../../../src/router/request/facts.ts";
import { checkHead as check, type HeadConfig } from "../../../src/router/request/head.ts";

const PLAIN: FactsConfig = { aliases: {}, rates: { bytesPerToken: 4, mediaTokens: 1024 }, unsalted: "refuse" };
const readFacts = (path: string, body: Buffer): RequestFacts | Problem =>
  read(PLAIN, { api: apiOf(path) ?? OPAQUE, body, headers: [], tenant: "", extent: "whole" });
const HEAD: HeadConfig = { ...loadConfig().router, maxBodyBytes: 1000 };
const checkHead = (method: string, path: string, headers: [string, string][]): Problem | undefined =>
  check(HEAD, { method, path, headers });

const CHAT = "/v1/chat/completions";
const chat = (more: object): Buffer =>
  Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content: "hi" }], ...more }));

t.test("facts of a chat request", (t) => {
  const facts = readFacts(CHAT, chat({ stream: true, max_tokens: 5, tools: [{ type: "function" }] }));
  if (isProblem(facts)) throw new Error(facts.message);
  t.match(facts, { api: { name: "chat" }, model: "m", stream: true, maxTokens: 5 });
  t.equal(Buffer.concat(facts.prompt.parts).toString(), '[{"type":"function"}][{"role":"user","content":"hi"}');
  t.end();
});

t.test("a conversation's next turn begins with the bytes of the turn before", (t) => {
  const first = readFacts(CHAT, chat({}));
  const messages = [
    { role: "user", content: "hi" },
    { role: "assistant", content: "hello" },
  ];
  const second = readFacts(CHAT, chat({ messages }));
  if (isProblem(first) || isProblem(second)) throw new Error("refused");
  t.ok(Buffer.concat(second.prompt.parts).toString().startsWith(Buffer.concat(first.prompt.parts).toString()));
  t.end();
});

t.test("bad bodies are refused by name", (t) => {
  const table: [string, Buffer, RegExp, string | undefined][] = [
    ["not JSON", Buffer.from("hello"), /not valid JSON/, undefined],
    ["cut off", chat({}).subarray(0, 30), /not valid JSON/, undefined],
    ["brackets that do not match", Buffer.from('{"model":"m","messages":[{"role":1]]}'), /not valid JSON/, undefined],
    ["no model", chat({ model: undefined }), /model is missing/, "model"],
    ["model of a wrong type", chat({ model: 3 }), /model must be a string/, "model"],
    ["model of a megabyte", chat({ model: "x".repeat(1e6) }), /model must be a string/, "model"],
    ["model with NUL", chat({ model: "a\0" }), /model must be a string/, "model"],
    ["two models", Buffer.from('{"model":"a","messages":[1],"model":"b"}'), /"model" is given twice/, "model"],
    [
      "two models, one escaped",
      Buffer.from('{"model":"a","messages":[1],"mod\\u0065l":"b"}'),
      /"model" is given twice/,
      "model",
    ],
    ["no messages", chat({ messages: undefined }), /messages is missing/, "messages"],
    ["empty messages", chat({ messages: [] }), /messages must not be empty/, "messages"],
    ["messages of a wrong type", chat({ messages: "x" }), /messages must be a list/, "messages"],
    ["negative limit", chat({ max_tokens: -1 }), /max_tokens must be an integer of at least 1/, "max_tokens"],
    ["limit of zero", chat({ max_completion_tokens: 0 }), /max_completion_tokens must be/, "max_completion_tokens"],
    ["limit as text", chat({ max_tokens: "9" }), /max_tokens must be/, "max_tokens"],
    ["stream as text", chat({ stream: "yes" }), /stream must be true or false/, "stream"],
  ];
  for (const [name, body, message, param] of table) {
    const problem = readFacts(CHAT, body);
    if (!isProblem(problem)) throw new Error(`${name} was accepted`);
    t.equal(problem.status, 400, name);
    t.match(problem.message, message, name);
    t.equal(problem.param, param, name);
  }
  t.end();
});

t.test("heads are refused before any body byte", (t) => {
  const json: [string, string][] = [["content-type", "application/json; charset=utf-8"]];
  const table: [string, string, [string, string][], number | undefined][] = [
    ["POST", CHAT, json, undefined],
    ["POST", `${CHAT}?x=1`, json, undefined],
    ["GET", "/v1/models", [], undefined],
    ["POST", "/v1/models", json, 405],
    ["GET", CHAT, [], 405],
    ["POST", "/v1/images", json, 404],
    ["POST", "/constructor", json, 404],
    ["POST", "constructor", json, 404],
    ["POST", "__proto__", json, 404],
    ["POST", CHAT, [["content-type", "text/plain"]], 415],
    ["POST", CHAT, [], 415],
    ["POST", CHAT, [...json, ["content-encoding", "gzip"]], 415],
    ["POST", CHAT, [...json, ["content-length", "2000"]], 413],
  ];
  for (const [method, path, headers, status] of table)
    t.equal(checkHead(method, path, headers)?.status, status, `${method} ${path}`);
  t.end();
});

t.test("forms of a prompt: batches and several answers are not single", (t) => {
  const table: [object, boolean][] = [
    [{ prompt: "hi" }, true],
    [{ prompt: "[" }, true],
    [{ prompt: [1, 2, 3] }, true],
    [{ prompt: ["a", "b"] }, false],
    [{ prompt: ["a"] }, false],
    [{ prompt: [[1, 2], [3]] }, false],
    [{ prompt: "hi", n: 1, best_of: null }, true],
    [{ prompt: "hi", n: 2 }, false],
    [{ prompt: "hi", best_of: 3 }, false],
  ];
  for (const [more, single] of table) {
    const text = JSON.stringify({ model: "m", ...more }, undefined, 1);
    const facts = readFacts("/v1/completions", Buffer.from(text));
    t.match(facts, { api: { name: "completions" }, single }, text);
  }
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
  const chatted = readFacts(
    CHAT,
    chat({ messages: [{ role: "user", content: [image, { type: "text", text: "hi" }] }] }),
  );
  t.match(chatted, { api: { name: "chat" }, single: true });
  t.end();
});
