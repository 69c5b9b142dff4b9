/** Bodies of every API become the tokens that Transformers makes of them; piece by piece as well as whole. */
import { readFileSync } from "node:fs";
import t from "tap";
import { Untold, type EngineDialect } from "../../../../src/router/tokenize/chat.ts";
import type { Shape } from "../../../../src/router/tokenize/job.ts";
import { createPieceCache } from "../../../../src/router/tokenize/segments.ts";
import { jobWith, smallModel } from "../../../support/tokenizer/small.ts";

interface Case {
  readonly name: string;
  readonly shape: Shape;
  readonly dialect: EngineDialect;
  readonly body: Readonly<Record<string, unknown>>;
  readonly ids: readonly number[];
}

const file = new URL("../../../golden/tokenize/chats.json", import.meta.url);
const cases = JSON.parse(readFileSync(file, "utf8")) as Case[];

t.test("tokens are those of the reference", async (t) => {
  const model = await smallModel();
  t.ok(model.segments, "pieces are kept");
  t.ok(cases.length >= 15);
  for (const { name, shape, dialect, body, ids } of cases) {
    t.same([...(await model.tokens(jobWith(body, shape, dialect)))], ids, name);
    t.same([...(await model.tokens(jobWith(body, shape, dialect)))], ids, `${name}, again`);
  }
});

t.test("what cannot be known is not guessed", async (t) => {
  const model = await smallModel(createPieceCache(100_000));
  const user = (content: unknown): object => ({ messages: [{ role: "user", content }] });
  const untold: readonly (readonly [why: string, body: object, shape?: Shape])[] = [
    ["no messages", {}],
    ["messages are text", { messages: "hi" }],
    ["an image", user([{ type: "image_url", image_url: { url: "http://x" } }])],
    ["a message without a role", { messages: [{ content: "x" }] }],
    ["a tool that is no function", { ...user("x"), tools: [{ type: "web_search" }] }],
    [
      "a result that is a list",
      { messages: [{ role: "user", content: [{ type: "tool_result", content: [] }] }] },
      "messages",
    ],
    ["items that are no messages", { input: [{ type: "reasoning", id: "r" }] }, "responses"],
    ["the template fails", { ...user("x"), chat_template_kwargs: { messages: 5 } }],
  ];
  for (const [why, body, shape = "chat"] of untold)
    t.ok((await model.tokens(jobWith(body, shape)).catch((error: unknown) => error)) instanceof Untold, why);
});
