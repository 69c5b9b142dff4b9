/** Every ext_proc body mode against the whole router with engines behind it, as Envoy would speak it. */
import t from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { HEADER, SUBSET_METADATA_NAMESPACE } from "../../src/kinds/names.ts";
import type { Connector } from "../../src/kinds/endpoint.ts";
import { ProcessClient, type ProcessStream } from "../../src/simulator/gateway/client.ts";
import { encodeBody, encodeHeaders, encodeTrailers, type DecodedReply } from "../../src/simulator/gateway/codec.ts";
import type { Modes } from "../../src/router/extproc/codec.ts";
import { messageField, textField } from "../../src/router/extproc/wire.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { startEngine } from "../../src/simulator/engine/server.ts";
import { engineOptions } from "../support/engines.ts";

const MODEL = "qwen3-32b";

interface Options {
  readonly flags?: Record<string, string>;
  readonly connector?: Connector;
  /** Another service beside it. */
  readonly other?: string;
}

async function rig({ flags = {}, connector = "nixl", other }: Options = {}) {
  const ports = createPorts(loadConfig(), SILENT_LOG);
  const start = (role: "prefill" | "decode") => startEngine(engineOptions({ role, models: [MODEL] }), ports);
  const prefill = [await start("prefill")];
  const decode = [await start("decode"), await start("decode"), await start("decode")];
  const entries = [
    ...prefill.map(({ address }) => ({ address, role: "prefill", model: MODEL, connector })),
    ...decode.map(({ address }) => ({ address, role: "decode", model: MODEL, connector })),
    ...(other === undefined ? [] : [{ address: "127.0.0.1:9", role: "decode", model: other, connector }]),
  ];
  const config = loadConfig({
    text: JSON.stringify({ router: { endpoints: { static: entries } } }),
    flags: { "router.listen": "127.0.0.1:0", "router.healthListen": "", "router.explainHeaders": "true", ...flags },
  });
  const endpoints = staticEndpoints(config.router.endpoints.static);
  const counted: string[] = [];
  const metrics = {
    ...ports.metrics,
    count: (name: string, labels: object = {}, by = 1) =>
      counted.push(`${name} ${Object.values(labels).join(" ")} ${by}`),
    observe: (name: string) => counted.push(name),
    gauge: () => undefined,
  };
  const router = await startRouterRole(
    { ...ports, metrics, config },
    { endpoints: () => endpoints, synced: () => true },
  );
  const client = new ProcessClient(router.address);
  t.teardown(async () => {
    await client.close();
    await router.stop();
    await Promise.all([...prefill, ...decode].map((engine) => engine.stop()));
  });
  const addresses = decode.map(({ address }) => address);
  return { client, prefill, decode: addresses, counted };
}

const HEADERS: readonly [string, string][] = [
  [":method", "POST"],
  [":path", "/v1/chat/completions"],
  ["content-type", "application/json"],
];
const chat = (content = "the quick brown fox ".repeat(100)): Buffer =>
  Buffer.from(JSON.stringify({ model: MODEL, max_tokens: 4, messages: [{ role: "user", content }] }));

/** Replies until one names a destination or answers, then as many more as are owed. */
async function repliesOf(stream: ProcessStream, owed: number): Promise<DecodedReply[]> {
  const replies: DecodedReply[] = [];
  let left = -1;
  while (left !== 0) {
    const reply = await stream.next();
    if (reply === undefined) break;
    replies.push(reply);
    if (left > 0) left -= 1;
    else if (reply.destination !== undefined || reply.kind === "immediate") left = owed;
  }
  return replies;
}

interface Sent {
  readonly modes: Modes;
  /** Sent with the headers, before any reply; with `false`, after the destination is known. */
  readonly chunks: readonly Buffer[];
  readonly ahead: boolean;
  /** Replies behind the one with the destination. */
  readonly owed: number;
  readonly headers?: readonly [string, string][];
  readonly open?: boolean;
}

async function ask(client: ProcessClient, sent: Sent): Promise<{ stream: ProcessStream; replies: DecodedReply[] }> {
  const stream = client.open();
  stream.send(encodeHeaders("requestHeaders", [...HEADERS, ...(sent.headers ?? [])], false, sent.modes));
  const send = (): void =>
    sent.chunks.forEach((chunk, index) =>
      stream.send(encodeBody("requestBody", chunk, index === sent.chunks.length - 1 && sent.open !== true)),
    );
  if (sent.ahead) send();
  const replies = await repliesOf(stream, sent.ahead ? sent.owed : 0);
  if (!sent.ahead) {
    send();
    for (let each = 0; each < sent.chunks.length; each++) replies.push((await stream.next())!);
  }
  return { stream, replies };
}

const halves = (body: Buffer): Buffer[] => [body.subarray(0, 500), body.subarray(500)];
const destinationOf = (replies: readonly DecodedReply[]): string | undefined =>
  replies.find(({ destination }) => destination !== undefined)?.destination;
const summary = (replies: readonly DecodedReply[]): string =>
  replies
    .map(({ kind, destination, body, waitMs, streamed, status }) =>
      [
        kind,
        status,
        destination && "to",
        body && (body.length > 0 ? "changed" : "empty"),
        waitMs && "wait",
        streamed && "chunk",
      ]
        .filter((part) => part !== undefined && part !== "" && part !== 0)
        .join(" "),
    )
    .join(", ");

t.test("what each mode can do: where the destination rides, and whether the body can follow it", async (t) => {
  const { client, prefill, decode } = await rig();
  const body = (): Buffer => chat(`${Math.random()} ${"word ".repeat(400)}`);
  const table: [string, Sent, string, number][] = [
    [
      "duplex",
      { modes: { request: "FULL_DUPLEX_STREAMED", response: "NONE" }, chunks: halves(body()), ahead: true, owed: 1 },
      "headers to, body chunk",
      1,
    ],
    [
      "buffered",
      { modes: { request: "BUFFERED", response: "NONE" }, chunks: [body()], ahead: true, owed: 0 },
      "headers, body to changed",
      1,
    ],
    [
      "partial, whole",
      { modes: { request: "BUFFERED_PARTIAL", response: "NONE" }, chunks: [body()], ahead: true, owed: 0 },
      "headers, body to changed",
      1,
    ],
    [
      "streamed, sent without waiting",
      { modes: { request: "STREAMED", response: "NONE", early: true }, chunks: halves(body()), ahead: true, owed: 2 },
      "headers to, body, body changed",
      1,
    ],
  ];
  for (const [name, sent, wanted, legs] of table) {
    const before = prefill[0]!.facts().prefillLegs;
    const { stream, replies } = await ask(client, sent);
    t.equal(summary(replies), wanted, name);
    t.ok(decode.includes(destinationOf(replies) ?? ""), `${name}: a decode engine`);
    t.equal(prefill[0]!.facts().prefillLegs - before, legs, `${name}: prefilled elsewhere`);
    stream.end();
  }
});

t.test("bodies that are not seen whole: by load, and only where no client's parameters can do harm", async (t) => {
  const unseen: [string, Sent][] = [
    ["none", { modes: { request: "NONE", response: "NONE" }, chunks: [], ahead: false, owed: 0 }],
    ["streamed", { modes: { request: "STREAMED", response: "NONE" }, chunks: halves(chat()), ahead: false, owed: 0 }],
    [
      "partial, cut",
      {
        modes: { request: "BUFFERED_PARTIAL", response: "NONE" },
        chunks: [chat().subarray(0, 600)],
        ahead: true,
        owed: 0,
        open: true,
      },
    ],
    [
      "early, cut",
      {
        modes: { request: "STREAMED", response: "NONE", early: true },
        chunks: [chat().subarray(0, 600)],
        ahead: true,
        owed: 1,
        open: true,
      },
    ],
  ];
  const plain = await rig({ connector: "none", other: "other" });
  const kv = await rig();
  const any = await rig({ flags: { "router.unseenBodies": "any" } });
  for (const [name, sent] of unseen) {
    const named = { ...sent, headers: [[HEADER.model, MODEL]] as const as [string, string][] };
    for (const { client, decode, prefill } of [plain, any]) {
      const { stream, replies } = await ask(client, named);
      t.ok(decode.includes(destinationOf(replies) ?? ""), `${name}: ${summary(replies)}`);
      t.notOk(
        replies.some(({ body }) => body !== undefined),
        `${name}: the body stays as it is`,
      );
      t.equal(prefill[0]!.facts().prefillLegs, 0, name);
      stream.end();
    }
    const refused = (await ask(kv.client, { ...named, chunks: sent.ahead ? sent.chunks : [] })).replies.at(-1)!;
    t.match([refused.status, refused.body?.toString()], [503, /not seen whole/], name);
  }
  const { replies } = await ask(plain.client, unseen[0]![1]);
  t.match(
    [replies.at(-1)?.status, replies.at(-1)?.body?.toString()],
    [400, /x-gateway-model-name/],
    "several services",
  );
});

const subset = (value: Buffer): Buffer => {
  const entry = (key: string, of: Buffer): Buffer => messageField(1, [textField(1, key), messageField(2, [of])]);
  return messageField(8, [entry(SUBSET_METADATA_NAMESPACE, entry(HEADER.destinationSubset, value))]);
};

t.test("the proxy's word on endpoints is binding, and its fallbacks are ours", async (t) => {
  const { client, decode } = await rig({ flags: { "router.fallbacks": "2" } });
  const table: [string, Buffer, readonly string[] | number][] = [
    ["one", subset(textField(3, decode[1]!)), [decode[1]!]],
    ["two", subset(textField(3, `${decode[1]},${decode[2]}`)), [decode[1]!, decode[2]!]],
    ["an address alone", subset(textField(3, "127.0.0.1")), decode],
    ["none of them", subset(textField(3, "10.9.9.9:80")), 503],
    ["empty", subset(textField(3, "")), 503],
    ["malformed", subset(Buffer.from([0x20, 1])), 500],
  ];
  for (const [name, metadata, wanted] of table) {
    const stream = client.open();
    const modes: Modes = { request: "FULL_DUPLEX_STREAMED", response: "NONE" };
    stream.send(Buffer.concat([encodeHeaders("requestHeaders", HEADERS, false, modes), metadata]));
    stream.send(encodeBody("requestBody", chat("short"), true));
    const replies = await repliesOf(stream, 0);
    const [reply] = replies;
    if (typeof wanted === "number") t.equal(reply?.status, wanted, name);
    else {
      t.same((reply?.destination ?? "").split(",").sort(), [...wanted].sort(), name);
      t.equal(new Map(reply?.set).get(HEADER.destination), reply?.destination, `${name}: header and metadata agree`);
    }
    stream.end();
  }
});

t.test("what was served elsewhere, and what an answer says of its tokens, is told", async (t) => {
  const { client, decode, counted } = await rig();
  const modes: Modes = { request: "BUFFERED", response: "STREAMED" };
  const { stream, replies } = await ask(client, { modes, chunks: [chat("short")], ahead: true, owed: 0 });
  const elsewhere = decode.find((address) => address !== destinationOf(replies))!;
  const served = messageField(9, [
    textField(1, "envoy.filters.http.ext_proc"),
    messageField(2, [messageField(1, [textField(1, "upstream.address"), messageField(2, [textField(3, elsewhere)])])]),
  ]);
  stream.send(Buffer.concat([encodeHeaders("responseHeaders", [[":status", "200"]], false), served]));
  const usage = { prompt_tokens: 90, completion_tokens: 7, prompt_tokens_details: { cached_tokens: 64 } };
  const answer = Buffer.from(`data: {"choices":[]}\n\ndata: ${JSON.stringify({ usage })}\n\n`);
  for (const chunk of [answer.subarray(0, 40), answer.subarray(40)])
    stream.send(encodeBody("responseBody", chunk, false));
  stream.send(encodeTrailers("responseTrailers"));
  const kinds: string[] = [];
  while (kinds.length < 4) kinds.push((await stream.next())!.kind);
  t.same(kinds, ["headers", "body", "body", "trailers"]);
  stream.end();
  t.ok(counted.includes("tandem_router_served_elsewhere_total  1"));
  t.ok(counted.includes("tandem_router_first_token_seconds"));
  for (const each of ["prompt 90", "cached 64", "completion 7"])
    t.ok(counted.includes(`tandem_router_answer_tokens_total ${each}`), each);
});

t.test("Anthropic's clients get Anthropic's errors", async (t) => {
  const { client } = await rig();
  for (const request of ["FULL_DUPLEX_STREAMED", "GRPC"] as const) {
    const stream = client.open();
    const headers: [string, string][] = [...HEADERS.filter(([name]) => name !== ":path"), [":path", "/v1/messages"]];
    stream.send(encodeHeaders("requestHeaders", headers, false, { request, response: "NONE" }));
    stream.send(encodeBody("requestBody", Buffer.from("{}"), true));
    const reply = (await repliesOf(stream, 0)).at(-1);
    t.match(JSON.parse(reply?.body?.toString() ?? "{}"), { type: "error", error: { type: String, message: String } });
  }
});
