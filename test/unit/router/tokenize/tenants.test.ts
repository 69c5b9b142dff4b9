/** What is kept of one tenant's prompts answers no other's: the time it takes would tell what was sent. */
import t from "tap";
import type { EngineClient } from "../../../../src/ports.ts";
import { apiOf } from "../../../../src/router/request/apis.ts";
import { isProblem, readFacts } from "../../../../src/router/request/facts.ts";
import { EngineTokens } from "../../../../src/router/tokenize/engine.ts";
import { jobOf, type Job } from "../../../../src/router/tokenize/job.ts";
import { createPieceCache, probesOf, SegmentTokenizer } from "../../../../src/router/tokenize/segments.ts";
import { systemClock } from "../../../../src/telemetry/process.ts";

/** The job of a prompt, as the router makes it where tenants are kept apart. */
function jobFor(tenant: string, more: object = {}, saltKey = Buffer.alloc(32, 7)): Job {
  const [api, body] = [
    apiOf("/v1/completions"),
    Buffer.from(JSON.stringify({ model: "m", prompt: "secret", ...more })),
  ];
  if (api === undefined) throw new Error("no such API");
  const config = { aliases: {}, rates: { bytesPerToken: 4, mediaTokens: 0 }, unsalted: "route", saltKey } as const;
  const facts = readFacts(config, { api, body, headers: [], tenant, extent: "whole" });
  if (isProblem(facts)) throw new Error(facts.message);
  const asked = jobOf(facts, body, "vllm");
  if (asked.kind !== "job") throw new Error(asked.kind);
  return asked.job;
}

/** Each asks twice; the second time nothing is made anew. */
const PROMPTS = [jobFor("a"), jobFor("a"), jobFor("b"), jobFor("b"), jobFor("a", { cache_salt: "x" }), jobFor("")];

t.test("pieces on the thread", async (t) => {
  const added = { normalized: false, lstrip: false, rstrip: false, single_word: false };
  const tokens = [{ ...added, id: 1, content: "<|end|>" }];
  const encoded: string[] = [];
  const encode = (text: string): Promise<number[]> => {
    encoded.push(text);
    const pieces = text.split("<|end|>").map((piece) => Array.from(piece, (letter) => letter.charCodeAt(0) + 100));
    return Promise.resolve(pieces.flatMap((piece, index) => (index === 0 ? piece : [1, ...piece])));
  };
  const segments = new SegmentTokenizer("m", { encode }, tokens, createPieceCache(2 ** 20));
  await segments.prove(probesOf(tokens));
  t.equal(segments.segments, true);
  encoded.length = 0;
  for (const { scope } of PROMPTS) await segments.tokens("secret<|end|>", false, scope);
  t.same(encoded, ["secret", "secret", "secret", "secret"], "of a, of b, of a with a salt, of nobody");
});

t.test("answers of engines", async (t) => {
  let calls = 0;
  const send: EngineClient["send"] = () => {
    calls += 1;
    return Promise.resolve({ kind: "answer", status: 200, headers: {}, body: Buffer.from('{"tokens":[1]}') });
  };
  const options = { client: { send }, clock: systemClock, timeoutMs: 1000, calls: 8, cacheBytes: 2 ** 20 };
  const engine = new EngineTokens(options);
  for (const job of PROMPTS) await engine.ask({ model: "m", job, address: "10.0.0.1:1" });
  t.equal(calls, 4);
});
