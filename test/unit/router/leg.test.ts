import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { UNTRUSTED_HEADERS } from "../../../src/kinds/names.ts";
import { Callbacks } from "../../../src/router/disagg/callbacks.ts";
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
  const behind: [readonly Meaning[], string][] = [
    [["untouched"], "again"],
    [["lost"], "fail"],
    [["untouched", "lost"], "fail"],
    [["untouched", "untouched", "untouched"], "local"],
  ];
  for (const [history, wanted] of behind)
    t.equal(next(history, { endpoints: 3, attempts: 3, losses: 0 }), wanted, `${history.join()} behind decode`);
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
  t.match(first.outcome, { kind: "transferred", by: "b", usage: { cachedTokens: 48 } });
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

/** Engines that take a request or refuse it at once, and answer later, when they are told to. */
async function behind(
  starts: readonly ("sent" | EngineReply)[],
  ends: readonly EngineReply[] = [],
): Promise<{ asked: readonly string[]; outcome: unknown; told: readonly string[]; end: unknown }> {
  const [asked, told]: [string[], string[]] = [[], []];
  const answers: ((reply: EngineReply) => void)[] = [];
  const send = (request: EngineRequest): Promise<EngineReply> => {
    const start = starts[asked.push(request.address) - 1] ?? "sent";
    if (start !== "sent") return Promise.resolve(start);
    request.onSent?.();
    return new Promise((resolve) => answers.push(resolve));
  };
  const outcome = await runPrefillLeg<string>({
    endpoints: ["a", "b", "c"],
    attempts: 3,
    client: { send },
    request: (address) => ({ address, method: "POST", path: "/", timeoutMs: 1 }),
    onStart: (address) => (outcome, late) => void told.push(`${address} ${outcome}${late ? " late" : ""}`),
    concurrent: () => true,
  });
  for (const end of ends) answers.shift()?.(end);
  const end = ends.length > 0 && outcome.kind === "sent" ? await outcome.ended : undefined;
  return { asked, outcome, told, end };
}

t.test("legs that run beside decode: what happens before it is sent, and behind it", async (t) => {
  const refused: EngineReply = { kind: "refused", detail: "" };
  const lost: EngineReply = { kind: "lost", detail: "reset" };
  const table: readonly [
    name: string,
    starts: readonly ("sent" | EngineReply)[],
    ends: readonly EngineReply[],
    outcome: object,
    asked: readonly string[],
    told: readonly string[],
  ][] = [
    ["sent", ["sent"], [answer(200)], { kind: "sent", by: "a" }, ["a"], ["a done late"]],
    [
      "refused, sent",
      [refused, "sent"],
      [answer(200)],
      { kind: "sent", by: "b" },
      ["a", "b"],
      ["a untouched", "b done late"],
    ],
    ["busy, sent", [answer(503), "sent"], [], { kind: "sent", by: "b" }, ["a", "b"], ["a untouched"]],
    [
      "all refuse",
      [refused, refused, refused],
      [],
      { kind: "local" },
      ["a", "b", "c"],
      ["a untouched", "b untouched", "c untouched"],
    ],
    ["lost at once, sent", [lost, "sent"], [], { kind: "sent", by: "b" }, ["a", "b"], ["a lost"]],
    ["lost at once twice", [lost, lost], [], { kind: "failed", detail: "reset" }, ["a", "b"], ["a lost", "b lost"]],
    ["refusal at once", [answer(400)], [], { kind: "refusal", status: 400 }, ["a"], ["a refusal"]],
    ["answered at once", [answer(200)], [], { kind: "sent", by: "a" }, ["a"], ["a done"]],
    ["lost behind", ["sent"], [lost], { kind: "sent", by: "a" }, ["a"], ["a lost late"]],
    ["refusal behind", ["sent"], [answer(400)], { kind: "sent", by: "a" }, ["a"], ["a refusal late"]],
    ["busy behind", ["sent"], [answer(503)], { kind: "sent", by: "a" }, ["a"], ["a untouched late"]],
    ["cut behind", ["sent"], [{ kind: "aborted", detail: "" }], { kind: "sent", by: "a" }, ["a"], ["a aborted late"]],
  ];
  const ended: Readonly<Record<string, object>> = {
    ...{ sent: { kind: "done" }, "refused, sent": { kind: "done" }, "cut behind": { kind: "aborted" } },
    ...{ "lost behind": { kind: "failed", detail: "reset" }, "busy behind": { kind: "failed", detail: "status 503" } },
    "refusal behind": { kind: "refusal", status: 400 },
  };
  for (const [name, starts, ends, outcome, asked, told] of table) {
    const found = await behind(starts, ends);
    t.match(found.outcome, outcome, name);
    t.same(found.asked, asked, name);
    t.same(found.told, told, name);
    if (ended[name] === undefined) t.equal(found.end, undefined, name);
    else t.match(found.end, ended[name], name);
  }
});

t.test(
  "legs that decode asked for: others are asked while nothing was lost, and decode is told at the first",
  async (t) => {
    const lost: EngineReply = { kind: "lost", detail: "reset" };
    const table: readonly [string, readonly EngineReply[], object, readonly string[], told: number][] = [
      ["done", [answer(200)], { kind: "local", kept: "nothing" }, ["a done late"], 1],
      ["busy, done", [answer(503), answer(200)], { kept: "nothing" }, ["a untouched late", "b done late"], 2],
      ["lost", [lost, answer(200)], { kind: "failed", detail: "reset" }, ["a lost late"], 1],
      ["busy, lost", [answer(429), lost], { kind: "failed" }, ["a untouched late", "b lost late"], 2],
      ["refusal", [answer(400)], { kind: "refusal", status: 400 }, ["a refusal late"], 1],
    ];
    for (const [name, replies, outcome, told, asked] of table) {
      const [left, lines] = [[...replies], [] as string[]];
      let calls = 0;
      const found = await runPrefillLeg<string>({
        ...{ endpoints: ["a", "b", "c"], attempts: 3 },
        client: { send: ({ onSent }) => Promise.resolve(onSent?.()).then(() => left.shift()!) },
        request: (address) => ({ address, method: "POST", path: "/", timeoutMs: 1 }),
        onStart: (address) => (meant, late) => void lines.push(`${address} ${meant}${late ? " late" : ""}`),
        asked: () => (calls += 1),
      });
      t.match(found, outcome, name);
      t.same(lines, told, name);
      t.equal(calls, asked, name);
    }
  },
);

t.test(
  "an endpoint of which something must be known and is not counts as refusing, and is never sent to",
  async (t) => {
    const asked: string[] = [];
    const outcome = await runPrefillLeg<string>({
      endpoints: ["a", "b"],
      attempts: 3,
      client: { send: ({ address }) => Promise.resolve(asked.push(address) > 0 ? answer(200) : answer(500)) },
      ready: (address) => Promise.resolve(address === "b"),
      request: (address) => ({ address, method: "POST", path: "/", timeoutMs: 1 }),
      onStart: () => () => undefined,
      concurrent: () => true,
    });
    t.match(outcome, { kind: "sent", by: "b" });
    t.same(asked, ["b"]);
  },
);

t.test("calls of decode: who may ask, and what the answer is", async (t) => {
  const callbacks = new Callbacks(() => "http://r:1/v1/metaserver");
  const posted: string[] = [];
  const open = (token: string, taken: boolean) =>
    callbacks.open(token, "id-1", (body) => {
      posted.push(body.toString());
      return Promise.resolve(taken);
    });
  const call = (token: string, body: unknown): Promise<number> =>
    callbacks.post(token, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  const first = open("secret", true);
  t.equal(first.url, "http://r:1/v1/metaserver/secret");
  const own = { request_id: "chatcmpl-id-1", remote_host: "h" };
  const table: readonly [string, unknown, number][] = [
    ["other", own, 404],
    ["secret", "{", 400],
    ["secret", "[]", 400],
    ["secret", { request_id: 7 }, 400],
    ["secret", { request_id: "cmpl-else-0" }, 404],
    ["secret", own, 200],
    ["secret", own, 200],
  ];
  for (const [token, body, status] of table) t.equal(await call(token, body), status, JSON.stringify(body));
  t.same(posted, ['{"remote_host":"h"}'], "its prefill begins once, with what was posted but for its own name");
  first.close();
  t.equal(await call("secret", own), 404, "the request is over");
  open("none", false);
  t.equal(await call("none", own), 503, "no prefill engine took it");
  t.equal(callbacks.size, 1);
});

t.test("the request of a leg is let go once decode has asked: its answer may take minutes", async (t) => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const callbacks = new Callbacks(() => "http://router");
  const open = (token: string): WeakRef<object> => {
    const request = { body: Buffer.alloc(1024) };
    callbacks.open(token, "id", () => Promise.resolve(request.body.length > 0));
    return new WeakRef(request);
  };
  const [asked, waits] = [open("asked"), open("waits")];
  const post = (): Promise<number> => callbacks.post("asked", Buffer.from('{"request_id":"id"}'));
  t.equal(await post(), 200);
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  t.equal(asked.deref(), undefined);
  t.ok(waits.deref());
  t.equal(await post(), 200, "and is asked again");
  t.equal(callbacks.size, 2);
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
    t.match(outcome, { kind: "transferred", usage: { cachedTokens: undefined } }, count);
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

t.test("an error of our own behind decode is a failure like others", async (t) => {
  const outcome = await runPrefillLeg<string>({
    ...{ endpoints: ["a"], attempts: 1, concurrent: () => true },
    client: { send: ({ onSent }) => Promise.resolve(onSent?.()).then(() => answer(200)) },
    request: (address) => ({ address, method: "POST", path: "/", timeoutMs: 1 }),
    onStart: () => () => {
      throw new Error("a bug");
    },
  });
  t.match(outcome, { kind: "sent", by: "a" });
  t.match(outcome.kind === "sent" && (await outcome.ended), { kind: "failed", detail: /a bug/ });
});
