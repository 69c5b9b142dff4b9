import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { UNTRUSTED_HEADERS } from "../../../src/kinds/names.ts";
import { legHeaders, mayGoAlong } from "../../../src/router/disagg/headers.ts";
import { meaning, next, runPrefillLeg, type Meaning } from "../../../src/router/disagg/leg.ts";
import type { EngineReply, EngineRequest } from "../../../src/ports.ts";

const answer = (status: number, body: object = {}): EngineReply => ({
  kind: "answer",
  status,
  headers: {},
  body: Buffer.from(JSON.stringify(body)),
});
const PARAMS = { do_remote_prefill: true, remote_block_ids: [[1, 2]], remote_engine_id: "e" };

t.test("what a reply means", (t) => {
  const table: [EngineReply, Meaning][] = [
    [answer(200), "done"],
    [answer(429), "untouched"],
    [answer(503), "untouched"],
    [answer(500), "lost"],
    [answer(400), "refusal"],
    [answer(404), "refusal"],
    [answer(307), "lost"],
    [{ kind: "refused", detail: "" }, "untouched"],
    [{ kind: "lost", detail: "" }, "lost"],
    [{ kind: "late", detail: "" }, "lost"],
    [{ kind: "aborted", detail: "" }, "aborted"],
  ];
  for (const [reply, wanted] of table)
    t.equal(meaning(reply), wanted, `${reply.kind} ${reply.kind === "answer" ? reply.status : ""}`);
  t.end();
});

t.test("how a leg goes on", (t) => {
  const table: [readonly Meaning[], number, string][] = [
    [[], 2, "again"],
    [["untouched"], 2, "again"],
    [["untouched", "untouched"], 2, "local"],
    [["untouched"], 1, "local"],
    [["lost"], 2, "again"],
    [["lost"], 1, "local"],
    [["lost", "lost"], 3, "fail"],
    [["lost", "untouched"], 2, "local"],
    [["untouched", "lost"], 2, "local"],
    [["done"], 2, "stop"],
    [["refusal"], 2, "stop"],
    [["aborted"], 2, "stop"],
    [["untouched", "untouched", "untouched"], 9, "local"],
  ];
  for (const [history, endpoints, wanted] of table)
    t.equal(next(history, { endpoints, attempts: 3 }), wanted, `${history.join()} of ${endpoints}`);
  t.end();
});

const run = async (replies: readonly EngineReply[], endpoints: readonly string[]) => {
  const asked: string[] = [];
  const outcome = await runPrefillLeg<string>({
    endpoints,
    attempts: 3,
    client: { send: (request: EngineRequest) => Promise.resolve(replies[asked.push(request.address) - 1]!) },
    request: (address) => ({ address, method: "POST", path: "/", timeoutMs: 1 }),
    onStart: () => () => undefined,
  });
  return { asked, outcome };
};

t.test("legs over scripted engines", async (t) => {
  const done = answer(200, {
    id: 1,
    kv_transfer_params: PARAMS,
    usage: { prompt_tokens_details: { cached_tokens: 48 } },
  });
  const first = await run([{ kind: "refused", detail: "" }, done], ["a", "b"]);
  t.same(first.asked, ["a", "b"]);
  t.match(first.outcome, { kind: "transferred", by: "b", cachedTokens: 48 });
  if (first.outcome.kind === "transferred") t.same(JSON.parse(first.outcome.params.toString()), PARAMS);
  t.match(
    (
      await run(
        [
          { kind: "lost", detail: "" },
          { kind: "lost", detail: "reset" },
        ],
        ["a", "b", "c"],
      )
    ).outcome,
    { kind: "failed", detail: "reset" },
  );
  t.match((await run([{ kind: "refused", detail: "" }], ["a"])).outcome, { kind: "local" });
  t.match((await run([answer(400, { error: 1 })], ["a", "b"])).outcome, { kind: "refusal", status: 400 });
  t.match(
    (await run([answer(200, { kv_transfer_params: null })], ["a"])).outcome,
    { kind: "local" },
    "an engine that kept nothing",
  );
  t.match((await run([], [])).outcome, { kind: "local" });
});

t.test("a 200 with garbage means prefill on the decode endpoint, never a failure of ours", async (t) => {
  const raw = (text: string): EngineReply => ({ kind: "answer", status: 200, headers: {}, body: Buffer.from(text) });
  const garbage = [
    "",
    "<html>",
    "[]",
    "null",
    '{"usage":{"a":}}',
    '{"kv_transfer_params":{"a":}}',
    '{"kv_transfer_params":{"a":1}',
    '{"kv_transfer_params":[1]}',
    '{"kv_transfer_params":"x"}',
    `{"kv_transfer_params":${"[".repeat(100)}${"]".repeat(100)}}`,
  ];
  for (const text of garbage)
    t.same((await run([raw(text)], ["a", "b"])).outcome, { kind: "local", kept: "nothing" }, text.slice(0, 40));
  for (const count of ["1e400", "-1", '"7"', "null", "1.5"]) {
    const usage = `{"prompt_tokens_details":{"cached_tokens":${count}}}`;
    const { outcome } = await run([raw(`{"kv_transfer_params":{},"usage":${usage}}`)], ["a"]);
    t.match(outcome, { kind: "transferred", cachedTokens: undefined }, count);
  }
});

t.test("headers of the leg: those of the list, and none that routes or frames", (t) => {
  const own = { "content-type": "application/json", "x-request-id": "id" };
  const given = [
    ["authorization", "Bearer a"],
    ["authorization", "Bearer b"],
    ["traceparent", "00-1"],
    ["x-team", "red"],
    ["content-type", "text/plain"],
    ["x-request-id", "forged"],
    ...UNTRUSTED_HEADERS.map((name) => [name, "10.9.9.9:1"] as const),
  ] as const;
  const { headers } = loadConfig({}).router.prefill;
  t.same(headers, ["authorization", "traceparent", "tracestate"]);
  t.same(legHeaders(given, headers, "id"), { authorization: "Bearer a", traceparent: "00-1", ...own });
  t.same(legHeaders(given, ["x-team", "absent"], "id"), { "x-team": "red", ...own });
  const all = given.map(([name]) => name);
  t.same(legHeaders(given, all, "id"), { authorization: "Bearer a", traceparent: "00-1", "x-team": "red", ...own });
  const never = [
    ...UNTRUSTED_HEADERS,
    ":path",
    "host",
    "transfer-encoding",
    "x-envoy-original-dst-host",
    "x-request-id",
  ];
  t.same(never.filter(mayGoAlong), []);
  t.end();
});
