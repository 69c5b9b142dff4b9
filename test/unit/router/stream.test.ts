import t from "tap";
import type { BodyMode, ProcessingRequest } from "../../../src/router/extproc/codec.ts";
import { CHUNK_BYTES, ExchangeStream, type Action, type StreamEvent } from "../../../src/router/extproc/stream.ts";
import type { Routed } from "../../../src/router/exchange.ts";
import { HEADER, UNTRUSTED_HEADERS } from "../../../src/kinds/names.ts";

const head = (endOfStream: boolean, request: BodyMode, response: BodyMode = "NONE"): ProcessingRequest => ({
  kind: "requestHeaders",
  headers: [
    [":method", "POST"],
    [":path", "/v1/completions"],
  ],
  endOfStream,
  modes: { request, response },
});
const body = (text: string, endOfStream: boolean): ProcessingRequest => ({
  kind: "requestBody",
  chunk: Buffer.from(text),
  endOfStream,
});
const forward = (sent: string | Buffer): StreamEvent => ({
  kind: "routed",
  routed: {
    kind: "forward",
    destination: "10.0.0.1:8000",
    requestHeaders: [[HEADER.destination, "10.0.0.1:8000"]],
    responseHeaders: [["x-a", "b"]],
    body: typeof sent === "string" ? Buffer.from(sent) : sent,
  },
});
const answer: Routed = { kind: "answer", status: 404, headers: [], body: Buffer.from("{}"), reason: "ModelUnknown" };
const responseHeaders: ProcessingRequest = {
  kind: "responseHeaders",
  headers: [[":status", "200"]],
  endOfStream: false,
};

const run = (events: readonly StreamEvent[], limit = 1000): Action[] => {
  const stream = new ExchangeStream(limit, 5000);
  return events.flatMap((event) => stream.advance(event));
};
const replies = (actions: readonly Action[]): string[] =>
  actions.flatMap((action) => {
    if (action.kind === "timer") return [`timer ${action.event}`];
    if (action.kind !== "reply") return [action.kind];
    const { reply } = action;
    if (reply.kind === "chunk") return [`chunk ${reply.phase} ${reply.chunk.length}${reply.endOfStream ? " end" : ""}`];
    if (reply.kind === "immediate") return [`immediate ${reply.status}`];
    return [reply.kind === "wait" ? `wait ${reply.ms}` : `${reply.kind} ${reply.phase}`];
  });

t.test("what is answered, event by event", (t) => {
  const table: [string, readonly StreamEvent[], readonly string[]][] = [
    [
      "duplex holds the headers until the destination is known",
      [head(false, "FULL_DUPLEX_STREAMED"), body("ab", false), body("cd", true), forward("abcd")],
      ["precheck", "route", "headers request", "chunk request 4 end"],
    ],
    [
      "duplex with trailers: the trailers end the request, no chunk does",
      [head(false, "FULL_DUPLEX_STREAMED"), body("ab", false), { kind: "requestTrailers" }, forward("ab")],
      ["precheck", "route", "headers request", "chunk request 2", "trailers request"],
    ],
    [
      "duplex sends an empty body too",
      [head(false, "FULL_DUPLEX_STREAMED"), body("", true), forward("")],
      ["precheck", "route", "headers request", "chunk request 0 end"],
    ],
    [
      "buffered answers headers at once and the destination with the body",
      [head(false, "BUFFERED"), body("ab", true), forward("abc")],
      ["precheck", "headers request", "timer late", "route", "body request"],
    ],
    [
      "buffered with trailers: the body is whole although it does not end the stream",
      [head(false, "BUFFERED"), body("ab", false), forward("ab"), { kind: "requestTrailers" }],
      ["precheck", "headers request", "timer late", "route", "body request", "trailers request"],
    ],
    ["no body", [head(true, "FULL_DUPLEX_STREAMED"), forward("")], ["precheck", "route", "headers request"]],
    [
      "a repeated final chunk is ignored, before and after the pick",
      [head(false, "FULL_DUPLEX_STREAMED"), body("ab", true), body("ab", true), forward("ab"), body("ab", true)],
      ["precheck", "route", "headers request", "chunk request 2 end"],
    ],
    [
      "an answer of ours ends the exchange",
      [head(false, "BUFFERED"), body("ab", true), { kind: "routed", routed: answer }],
      ["precheck", "headers request", "timer late", "route", "immediate 404", "close"],
    ],
    [
      "a refusal by the headers stops the body",
      [head(false, "FULL_DUPLEX_STREAMED"), { kind: "routed", routed: answer }, body("ab", true)],
      ["precheck", "immediate 404", "close"],
    ],
    [
      "light profile: response headers and trailers",
      [head(true, "BUFFERED"), forward(""), responseHeaders, { kind: "responseTrailers" }],
      [
        ...["precheck", "timer late", "route", "headers request"],
        ...["responseStarted", "headers response", "trailers response", "responseEnded"],
      ],
    ],
    [
      "a duplex response body goes back as it came",
      [
        head(true, "BUFFERED", "FULL_DUPLEX_STREAMED"),
        forward(""),
        responseHeaders,
        { kind: "responseBody", chunk: Buffer.from("xyz"), endOfStream: true },
      ],
      [
        ...["precheck", "timer late", "route", "headers request", "responseStarted", "headers response"],
        ...["firstToken", "chunk response 3 end", "responseEnded"],
      ],
    ],
    [
      "a streamed response body is left alone",
      [
        head(true, "BUFFERED", "STREAMED"),
        forward(""),
        responseHeaders,
        { kind: "responseBody", chunk: Buffer.from("xyz"), endOfStream: true },
      ],
      [
        ...["precheck", "timer late", "route", "headers request", "responseStarted", "headers response"],
        ...["firstToken", "body response", "responseEnded"],
      ],
    ],
    [
      "a local reply of Envoy while we look for a destination: the late pick is dropped",
      [head(false, "FULL_DUPLEX_STREAMED"), body("a", true), responseHeaders, forward("a")],
      ["precheck", "route", "abandoned", "headers response"],
    ],
    [
      "a body over the limit",
      [head(false, "FULL_DUPLEX_STREAMED"), body("x".repeat(1001), false)],
      ["precheck", "tooLarge"],
    ],
    ["a mode that is not served", [head(false, "GRPC")], ["immediate 500", "close"]],
    ["nor for the answer", [head(true, "NONE", "GRPC")], ["immediate 500", "close"]],
    ["body before headers", [body("x", true)], ["violation"]],
    ["headers twice", [head(false, "BUFFERED"), head(false, "BUFFERED")], ["precheck", "headers request", "violation"]],
    [
      "an answer whose headers are not sent",
      [head(true, "BUFFERED"), forward(""), { kind: "responseBody", chunk: Buffer.alloc(0), endOfStream: true }],
      ["precheck", "timer late", "route", "headers request", "responseStarted", "body response", "responseEnded"],
    ],
  ];
  for (const [name, events, wanted] of table) t.same(replies(run(events)), wanted, name);
  t.end();
});

t.test("large bodies are cut into chunks that Envoy takes, in order", (t) => {
  const text = "0123456789".repeat(20_000);
  const actions = run([head(false, "FULL_DUPLEX_STREAMED"), body("a", true), forward(text)], 10);
  const chunks = actions.flatMap((action) =>
    action.kind === "reply" && action.reply.kind === "chunk" ? [action.reply] : [],
  );
  t.equal(chunks.length, Math.ceil(200_000 / CHUNK_BYTES));
  t.equal(Buffer.concat(chunks.map(({ chunk }) => chunk)).toString(), text);
  t.same(
    chunks.map(({ endOfStream }) => endOfStream),
    [false, false, false, true],
  );
  t.end();
});

t.test("routing headers of the client are removed on every way to an engine", (t) => {
  const ways: [string, readonly StreamEvent[]][] = [
    ["duplex", [head(false, "FULL_DUPLEX_STREAMED"), body("a", true), forward("a")]],
    ["buffered", [head(false, "BUFFERED"), body("a", true), forward("a")]],
    ["no body", [head(true, "BUFFERED"), forward("")]],
  ];
  for (const [name, events] of ways) {
    const changes = run(events).flatMap((action) =>
      action.kind === "reply" && "changes" in action.reply ? [action.reply.changes ?? {}] : [],
    );
    const removed = new Set(changes.flatMap(({ remove }) => remove ?? []));
    const set = new Set(changes.flatMap(({ set }) => (set ?? []).map(([key]) => key)));
    for (const header of UNTRUSTED_HEADERS) t.ok(removed.has(header) || set.has(header), `${name}: ${header}`);
    t.ok(set.has(HEADER.destination), name);
  }
  t.end();
});

t.test("a buffered body that changed carries its length, one that did not is not sent", (t) => {
  const stream = new ExchangeStream(1000, 5000);
  stream.advance(head(false, "BUFFERED"));
  const [, route] = stream.advance(body("ab", true));
  if (route?.kind !== "route") throw new Error("no route");
  const [same] = stream.advance(forward(route.request.body));
  t.ok(same?.kind === "reply" && same.reply.kind === "body" && same.reply.body === undefined);
  const changed = run([head(false, "BUFFERED"), body("ab", true), forward("abcd")]).at(-1);
  t.match(changed, {
    reply: {
      body: Buffer.from("abcd"),
      changes: {
        set: [
          [HEADER.destination, "10.0.0.1:8000"],
          ["content-length", "4"],
        ],
      },
    },
  });
  t.end();
});
