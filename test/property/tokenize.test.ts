/** Pieces of a text have the tokens that the whole has, wherever it is cut, and whatever is kept of it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import fc from "fast-check";
import { loadModel, openTokenizers } from "../../src/cli/roles/token-library.ts";
import { tokensOf } from "../../src/router/tokenize/job.ts";
import {
  createPieceCache,
  Cutter,
  probesOf,
  SegmentTokenizer,
  type AddedToken,
} from "../../src/router/tokenize/segments.ts";
import { SMALL, smallFiles } from "../support/tokenizer/small.ts";

const piece = fc.oneof(
  fc.constantFrom("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "<|im_", "|>", "\n", " ", "\t"),
  fc.string({ unit: "grapheme", maxLength: 12 }),
  fc.constantFrom("Licensed under the", "e\u0301", "\u0301", "你好", "🙂", "1234", "'s", "don't", "\r\n\r\n"),
);
const text = fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join(""));

t.test("pieces are the whole", async (t) => {
  const { encoder, added } = await smallFiles();
  // So small that most of it is forgotten again.
  const tokenizer = new SegmentTokenizer("small", encoder, added, createPieceCache(4096));
  await tokenizer.prove(["x <|im_end|> y"]);
  t.ok(tokenizer.segments);
  await fc.assert(
    fc.asyncProperty(text, async (whole) => {
      t.same([...(await tokenizer.tokens(whole, true))], await encoder.encode(whole, true));
    }),
    { numRuns: 400 },
  );
});

t.test("pieces are the whole where spaces belong to tokens", async (t) => {
  const file = JSON.parse(readFileSync(join(SMALL, "tokenizer.json"), "utf8")) as { added_tokens: AddedToken[] };
  const stripping: Readonly<Record<string, object>> = {
    "<|im_end|>": { rstrip: true },
    "<tool_call>": { lstrip: true },
    "<|endoftext|>": { lstrip: true, rstrip: true },
  };
  file.added_tokens = file.added_tokens.map((token) => ({ ...token, ...stripping[token.content] }));
  const folder = t.testdir({ "tokenizer.json": JSON.stringify(file) });
  const { encoder, added } = loadModel(folder, await openTokenizers());
  const tokenizer = new SegmentTokenizer("stripping", encoder, added, createPieceCache(100_000));
  await tokenizer.prove(probesOf(added));
  t.ok(tokenizer.segments);
  await fc.assert(
    fc.asyncProperty(text, async (whole) => {
      t.same([...(await tokenizer.tokens(whole, true))], await encoder.encode(whole, true));
    }),
    { numRuns: 400 },
  );
});

t.test("a tokenizer whose pieces are others is found out", async (t) => {
  // As Llama 2's: the first piece of a text begins with a space that the others have not.
  const encode = (whole: string): Promise<number[]> =>
    Promise.resolve(Array.from(` ${whole}`, (each) => each.charCodeAt(0)));
  const tokens = [added("<s>", 1)];
  const tokenizer = new SegmentTokenizer("first", { encode }, tokens, createPieceCache(100_000));
  await tokenizer.prove(probesOf(tokens));
  t.notOk(tokenizer.segments);
  t.same([...(await tokenizer.tokens("a<s>b", true))], await encode("a<s>b"), "whole, then");
});

const added = (content: string, id: number, more: Partial<AddedToken> = {}): AddedToken => ({
  ...{ id, content, normalized: false, lstrip: false, rstrip: false, single_word: false },
  ...more,
});

t.test("the cut: leftmost, then longest, with the spaces that belong to a token", (t) => {
  const cutter = new Cutter([
    added("<a>", 1),
    added("<a><b>", 2),
    added("[r]", 3, { rstrip: true }),
    added("[l]", 4, { lstrip: true }),
    added("no", 5, { normalized: true }),
  ]);
  const cases: [string, (string | number)[]][] = [
    ["", []],
    ["plain", ["plain"]],
    ["<a>", [1]],
    ["x<a><b>y", ["x", 2, "y"]],
    ["<a><a><b><a>", [1, 2, 1]],
    ["<a", ["<a"]],
    ["a [r] \n b", ["a ", 3, "b"]],
    ["a \u0085[l] b", ["a", 4, " b"]],
    ["[r] [l]", [3, 4]],
    ["\ufeff[l]no", ["\ufeff", 4, "no"]],
  ];
  for (const [whole, pieces] of cases) t.same(cutter.cut(whole), pieces, JSON.stringify(whole));
  t.notOk(new Cutter([added("<w>", 1, { single_word: true })]).canCut);
  t.end();
});

t.test("lists of tokens are read as JSON reads them", (t) => {
  const list = fc.array(fc.nat({ max: 0x7fffffff }), { maxLength: 50 });
  fc.assert(
    fc.property(list, fc.constantFrom(",", " , ", ",\n\t"), (ids, comma) => {
      const raw = Buffer.from(`[${ids.join(comma)}]`);
      t.same([...(tokensOf(raw) ?? [-1])], ids.length === 0 ? [-1] : ids);
    }),
  );
  for (const other of ["[]", "[[1]]", "[1,]", "[-1]", "[1.5]", '["1"]', "[4294967296]", "[99999999999]", "{}", "[1e3]"])
    t.equal(tokensOf(Buffer.from(other)), undefined, other);
  t.end();
});
