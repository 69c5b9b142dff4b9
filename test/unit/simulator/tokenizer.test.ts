import fc from "fast-check";
import t from "tap";
import { planOutput, type OutputRequest } from "../../../src/simulator/engine/output.ts";
import { MAX_PIECE_LENGTH, renderChat, tokenId, tokenize } from "../../../src/simulator/engine/tokenizer.ts";

const isPrefix = (short: readonly number[], long: readonly number[]): boolean =>
  short.every((token, index) => token === long[index]);

const REQUEST: OutputRequest = {
  digest: 42,
  sample: 0,
  maxTokens: 50,
  minTokens: 0,
  ignoreEos: false,
  meanTokens: 128,
  continues: false,
};

const textOf = (request: OutputRequest): string => {
  const plan = planOutput(request);
  return plan.ids.map((_, index) => plan.text(index)).join("");
};

t.test("a token is about four bytes of text", (t) => {
  const english =
    "The operator places prefill and decode on nodes that are close, and routes requests by what is cached. ";
  const ratio = english.length / tokenize(english).length;
  t.ok(ratio > 3 && ratio < 5.5, `${ratio} bytes`);
  t.ok(tokenize("模型推理服务").length >= 3, "scripts without spaces are cut too");
  t.same(tokenize(""), []);
  t.end();
});

t.test("all text is covered, in pieces no longer than the bound", (t) => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      const tokens = tokenize(text);
      return tokens.length * MAX_PIECE_LENGTH >= text.length && (text === "" || tokens.length > 0);
    }),
  );
  t.ok(tokenize("x".repeat(1000)).length * MAX_PIECE_LENGTH >= 1000);
  t.end();
});

t.test("equal prefixes give equal tokens, but for the piece that is cut", (t) => {
  fc.assert(
    fc.property(fc.lorem({ maxCount: 60 }), fc.lorem({ maxCount: 20 }), (prefix, rest) => {
      const tokens = tokenize(prefix);
      return isPrefix(tokens.slice(0, -1), tokenize(prefix + rest));
    }),
  );
  t.pass("any texts");
  t.end();
});

t.test("a chat with one more turn begins with the chat before it", (t) => {
  const message = fc.record({
    role: fc.constantFrom("system", "user", "assistant"),
    content: fc.string({ maxLength: 80 }),
  });
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 6 }), message, (messages, next) => {
      const before = tokenize(renderChat(messages, undefined, false));
      return isPrefix(before, tokenize(renderChat([...messages, next], undefined, false)));
    }),
  );
  t.pass("any chats");
  t.end();
});

t.test("the answer, sent back as history, is the tokens that were generated", (t) => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 300 }), (digest, maxTokens) => {
      const request = { ...REQUEST, digest, maxTokens, meanTokens: 64 };
      const plan = planOutput(request);
      const question = [{ role: "user", content: "And then?" }];
      const generated = [...tokenize(renderChat(question)), ...plan.ids];
      const history = [...question, { role: "assistant", content: textOf(request) }];
      return isPrefix(generated, tokenize(renderChat(history, undefined, false)));
    }),
  );
  t.pass("any answer, ended by itself or cut");
  t.end();
});

t.test("the chat template is ChatML", (t) => {
  const messages = [
    { role: "system", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "text", text: "What is " },
        { type: "text", text: "this?" },
      ],
    },
  ];
  t.equal(
    renderChat(messages),
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n",
  );
  t.match(renderChat(messages, [{ type: "function" }]), /^<\|im_start\|>tools\n\[\{"type":"function"\}\]/);
  t.end();
});

t.test("images, tool calls and absent contents change the tokens, and nothing breaks", (t) => {
  const image = (url: string): string =>
    renderChat([{ role: "user", content: [{ type: "image_url", image_url: { url } }] }]);
  t.equal(image("a"), image("a"));
  t.not(image("a"), image("b"));
  t.ok(image("data:".padEnd(1_000_000, "x")).length < 200, "an image is a placeholder, whatever its size");
  t.match(renderChat([{ role: "assistant", content: null, tool_calls: [{ id: "1" }] }]), /assistant\n\[\{"id":"1"\}\]/);
  t.equal(renderChat([{ role: "user", content: [null, 5, "x"] }]), renderChat([{ role: "user", content: "x" }]));
  t.end();
});

t.test("ids are positive and fit 31 bits", (t) => {
  fc.assert(fc.property(fc.string(), (text) => tokenId(text) >= 0 && tokenId(text) < 2 ** 31));
  t.pass("any text");
  t.end();
});

t.test("answers are the same for the same prompt and differ between prompts and samples", (t) => {
  t.equal(textOf(REQUEST), textOf(REQUEST));
  t.not(textOf(REQUEST), textOf({ ...REQUEST, digest: 43 }));
  t.not(textOf(REQUEST), textOf({ ...REQUEST, sample: 1 }));
  t.match(textOf({ ...REQUEST, continues: true }), /^ [a-z]/);
  t.match(textOf(REQUEST), /^[a-z]/);
  t.end();
});

t.test("an answer ends where it is cut, or by itself", (t) => {
  const cases = [
    [{ maxTokens: 1 }, "length", 1],
    [{ maxTokens: 63 }, "length", 63],
    [{ maxTokens: 5000, ignoreEos: true }, "length", 5000],
    [{ maxTokens: 300, minTokens: 300 }, "length", 300],
  ] as const;
  for (const [change, finish, length] of cases) {
    const plan = planOutput({ ...REQUEST, ...change });
    t.equal(plan.finish, finish, JSON.stringify(change));
    t.equal(plan.ids.length, length);
  }
  fc.assert(
    fc.property(fc.nat(), (digest) => {
      const { finish, ids } = planOutput({ ...REQUEST, digest, maxTokens: 10_000 });
      return finish === "stop" && ids.length >= 64 && ids.length <= 192;
    }),
  );
  const longer = planOutput({ ...REQUEST, maxTokens: 10_000, minTokens: 500 });
  t.ok(longer.ids.length > 500, "never ends by itself before the minimum");
  t.equal(longer.text(longer.ids.length - 1), "", "the token that ends the turn has no text");
  t.end();
});
