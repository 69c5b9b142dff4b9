import t from "tap";
import fc from "fast-check";
import { UsageReader } from "../../../src/router/extproc/usage.ts";
import type { Usage } from "../../../src/router/exchange.ts";

const read = (chunks: readonly Buffer[]): Usage | undefined => {
  const reader = new UsageReader();
  for (const chunk of chunks) reader.push(chunk);
  return reader.read();
};

const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
const delta = (content: string): object => ({ choices: [{ index: 0, delta: { content } }], usage: null });
const OPENAI = { prompt_tokens: 900, completion_tokens: 7, prompt_tokens_details: { cached_tokens: 640 } };
const WANTED = { promptTokens: 900, cachedTokens: 640, completionTokens: 7 };

const ANSWERS: [string, string, Usage | undefined][] = [
  ["whole answer", JSON.stringify({ choices: [{ message: { content: "x" } }], usage: OPENAI }), WANTED],
  ["spread over lines", JSON.stringify({ usage: OPENAI }, undefined, 2), WANTED],
  ["events", [delta("a"), delta("b"), { choices: [], usage: OPENAI }].map(event).join("") + "data: [DONE]\n\n", WANTED],
  [
    "usage in every event",
    [1, 2, 7].map((completion_tokens) => event({ usage: { ...OPENAI, completion_tokens } })).join(""),
    WANTED,
  ],
  [
    "no details",
    event({ usage: { ...OPENAI, prompt_tokens_details: null } }),
    { promptTokens: 900, completionTokens: 7 },
  ],
  [
    "Responses API",
    event({
      type: "response.completed",
      response: { usage: { input_tokens: 9, input_tokens_details: { cached_tokens: 4 }, output_tokens: 2 } },
    }),
    { promptTokens: 9, cachedTokens: 4, completionTokens: 2 },
  ],
  [
    "Anthropic",
    event({
      type: "message_start",
      message: { usage: { input_tokens: 10, cache_read_input_tokens: 90, output_tokens: 1 } },
    }) +
      event({ type: "content_block_delta", delta: { text: "x" } }) +
      event({ type: "message_delta", usage: { output_tokens: 12 } }),
    { promptTokens: 100, cachedTokens: 90, completionTokens: 12 },
  ],
  ["text that speaks of usage", JSON.stringify({ content: '"usage": {"prompt_tokens": 1}' }), undefined],
  ["a value that is the word", JSON.stringify({ a: "usage", b: { prompt_tokens: 1 } }), undefined],
  ["strings with braces", '{"usage":{"note":"}\\"}{","prompt_tokens":3}}', { promptTokens: 3 }],
  ["nothing", JSON.stringify({ usage: null }), undefined],
  ["numbers that are none", JSON.stringify({ usage: { prompt_tokens: -1, completion_tokens: "7" } }), undefined],
  ["cut off", '{"usage":{"prompt_tokens":3', undefined],
  ["too long to be usage", `{"usage":{"a":"${"x".repeat(5000)}","prompt_tokens":3}}`, undefined],
  ["the next one after it", `{"usage":{"a":"${"x".repeat(5000)}"}}{"usage":{"prompt_tokens":3}}`, { promptTokens: 3 }],
  ["no JSON", '{"usage":{prompt_tokens}}', undefined],
];

t.test("usage of each kind of answer, whole and byte by byte", (t) => {
  for (const [name, text, wanted] of ANSWERS) {
    const bytes = Buffer.from(text);
    t.same(read([bytes]), wanted, name);
    t.same(read([...bytes].map((byte) => Buffer.from([byte]))), wanted, `${name}, byte by byte`);
  }
  t.end();
});

t.test("however an answer is cut, the same is read", (t) => {
  const cuts = fc.array(fc.nat(400), { maxLength: 8 });
  fc.assert(
    fc.property(fc.constantFrom(...ANSWERS), cuts, ([, text, wanted], at) => {
      const bytes = Buffer.from(text);
      const borders = [0, ...at.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      const chunks = borders.slice(1).map((end, index) => bytes.subarray(borders[index], end));
      t.same(read(chunks), wanted);
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test("garbage is never more than ignored", (t) => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 30 }),
    fc.constantFrom('"usage"', '"usage":{', "{", "}", '"', "\\"),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      read(pieces.map((each) => Buffer.from(each as string)));
    }),
    { numRuns: 1000 },
  );
  t.end();
});
