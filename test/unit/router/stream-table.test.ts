/**
 * Every cell of the two tables of one ext_proc stream, for every mode: what each event does in each state. The cells
 * stand in test/golden/extproc/, one file a side; `UPDATE_GOLDEN=1` writes them anew, to be read before they are kept.
 */
import t from "tap";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { BODY_MODES, type Modes, type ProcessingRequest, type Reply } from "../../../src/router/extproc/codec.ts";
import { ExchangeStream, type Action, type StreamEvent } from "../../../src/router/extproc/stream.ts";
import type { Answer, Routed } from "../../../src/router/exchange.ts";

const FOLDER = join(import.meta.dirname, "../../golden/extproc");

const headers = (modes: Modes | undefined, endOfStream = false): ProcessingRequest => ({
  ...{ kind: "requestHeaders", headers: [[":path", "/v1/completions"]], endOfStream },
  ...(modes === undefined ? {} : { modes }),
});
const chunk = (kind: "requestBody" | "responseBody", endOfStream: boolean): ProcessingRequest => ({
  ...{ kind, chunk: Buffer.from("ab"), endOfStream },
});
const FORWARD: Routed = {
  ...{ kind: "forward", destination: "10.0.0.1:8000", requestHeaders: [], responseHeaders: [] },
  body: Buffer.from("abc"),
};
const ANSWER: Answer = { kind: "answer", status: 404, headers: [], body: Buffer.alloc(0), reason: "ModelUnknown" };
const responseHeaders = (endOfStream: boolean, modes?: Modes): ProcessingRequest => ({
  ...{ kind: "responseHeaders", headers: [[":status", "200"]], endOfStream },
  ...(modes === undefined ? {} : { modes }),
});
const STREAM_HEAD: ProcessingRequest = {
  kind: "responseHeaders",
  headers: [
    [":status", "200"],
    ["content-type", "text/event-stream; charset=utf-8"],
  ],
  endOfStream: false,
};
const FAILED_HEAD: ProcessingRequest = {
  ...STREAM_HEAD,
  headers: [[":status", "500"], ...STREAM_HEAD.headers.slice(1)],
};
const observed: ProcessingRequest = { ...headers(undefined), observed: true };

/** How a request may come in: the announced modes, and whether its headers end it. */
const REQUESTS: readonly (readonly [name: string, modes: Modes, bodiless: boolean])[] = [
  ...BODY_MODES.map((request) => [request, { request, response: "NONE" } as const, false] as const),
  ["STREAMED, sent without waiting", { request: "STREAMED", response: "NONE", early: true }, false],
  ["BUFFERED, no body", { request: "BUFFERED", response: "NONE" }, true],
  ["FULL_DUPLEX_STREAMED, no body", { request: "FULL_DUPLEX_STREAMED", response: "NONE" }, true],
];

const REQUEST_EVENTS: Readonly<Record<string, StreamEvent>> = {
  headers: headers(undefined),
  chunk: chunk("requestBody", false),
  "last chunk": chunk("requestBody", true),
  trailers: { kind: "requestTrailers" },
  forward: { kind: "routed", routed: FORWARD },
  answer: { kind: "routed", routed: ANSWER },
  hold: { kind: "hold" },
  late: { kind: "late" },
  observed,
};

/** Ways into each state; the first that leads there in a mode is taken. */
const WAYS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  start: [[]],
  reading: [["first"]],
  routing: [["first"], ["first", "last chunk"]],
  "routing, cut": [
    ["first", "chunk", "hold"],
    ["first", "chunk"],
  ],
  "routing, trailers": [
    ["first", "chunk", "trailers"],
    ["first", "trailers"],
  ],
  open: [
    ["first", "forward"],
    ["first", "last chunk", "forward"],
  ],
  "open, ended": [
    ["first", "last chunk", "forward"],
    ["first", "forward", "last chunk"],
  ],
  dropped: [["first", "response"]],
  closed: [["first", "answer"]],
  observed: [["observed"]],
};

const STATE_OF: Readonly<Record<string, string>> = {
  ...{ "routing, cut": "routing", "routing, trailers": "routing", "open, ended": "open" },
};

const play = (stream: ExchangeStream, event: StreamEvent): string => {
  const state = stream.states.request;
  const actions = stream.advance(event);
  const said = actions.map(told).join(", ");
  if (said === "") return stream.states.request === state ? "nothing" : `-> ${stream.states.request}`;
  return stream.states.request === state ? said : `${said} -> ${stream.states.request}`;
};

function told(action: Action): string {
  switch (action.kind) {
    case "route":
      return `route ${action.request.extent ?? "whole"} (${action.request.body.length} bytes)`;
    case "timer":
      return `timer ${action.event}`;
    case "violation":
      return `violation: ${action.detail}`;
    case "reply":
      return `>${repliedWith(action.reply)}`;
    default:
      return action.kind;
  }
}

function repliedWith(reply: Reply): string {
  switch (reply.kind) {
    case "immediate":
      return `answer ${reply.status}`;
    case "chunk":
      return `chunk${reply.endOfStream ? " end" : ""}`;
    case "body":
      return withDestination(
        reply.body === undefined ? "body" : `body ${reply.body === "clear" ? "cleared" : "changed"}`,
        reply,
      );
    case "headers":
      return withDestination("headers", reply);
    default:
      return reply.kind;
  }
}

const withDestination = (text: string, { destination }: { readonly destination?: string }): string =>
  destination === undefined ? text : `${text} with destination`;

function reach(ways: readonly (readonly string[])[], events: Readonly<Record<string, StreamEvent>>, state: string) {
  for (const way of ways) {
    const stream = new ExchangeStream(100, 5000);
    for (const step of way) {
      const event = events[step];
      if (event === undefined) throw new Error(`no event ${step}`);
      stream.advance(event);
    }
    if (stream.states.request === state) return { stream, way };
  }
  return undefined;
}

/** Rows that read alike stand together. */
function print(name: string, rows: readonly (readonly [state: string, cells: string])[]): string[] {
  const states = new Map<string, string[]>();
  for (const [state, cells] of rows) states.set(cells, [...(states.get(cells) ?? []), state]);
  return [...states].map(([cells, names]) => `${name} | ${names.join("; ")}\n${cells}\n`);
}

const cellsOf = (cells: readonly (readonly [event: string, does: string])[]): string =>
  cells.every(([, does]) => does === "nothing")
    ? "  anything: nothing"
    : cells.map(([event, does]) => `  ${event}: ${does}`).join("\n");

function requestTable(): string {
  return REQUESTS.flatMap(([name, modes, bodiless]) => {
    const first = headers(modes, bodiless);
    const all = { ...REQUEST_EVENTS, first, response: responseHeaders(false) };
    const rows = Object.entries(WAYS).flatMap(([state, ways]) => {
      const wanted = STATE_OF[state] ?? state;
      if (reach(ways, all, wanted) === undefined) return [];
      const cells = Object.entries(REQUEST_EVENTS).map(([event, value]) => {
        const { stream } = reach(ways, all, wanted)!;
        return [event, play(stream, event === "headers" && state === "start" ? first : value)] as const;
      });
      return [[state, cellsOf(cells)] as const];
    });
    return print(name, rows);
  }).join("\n");
}

const RESPONSE_EVENTS: Readonly<Record<string, StreamEvent>> = {
  headers: responseHeaders(false),
  "headers, end": responseHeaders(true),
  chunk: chunk("responseBody", false),
  "last chunk": chunk("responseBody", true),
  trailers: { kind: "responseTrailers" },
  deserted: { kind: "deserted", answer: ANSWER },
};

/** What happened before: to the request, then to the answer. */
const BEFORE: Readonly<Record<string, readonly StreamEvent[]>> = {
  "nothing came": [],
  "request under way": [REQUEST_EVENTS["late"]!],
  before: [REQUEST_EVENTS["forward"]!],
  answering: [REQUEST_EVENTS["forward"]!, RESPONSE_EVENTS["headers"]!],
  "answering, with tokens": [REQUEST_EVENTS["forward"]!, RESPONSE_EVENTS["headers"]!, RESPONSE_EVENTS["chunk"]!],
  "a stream, empty": [REQUEST_EVENTS["forward"]!, STREAM_HEAD],
  "a stream, with tokens": [REQUEST_EVENTS["forward"]!, STREAM_HEAD, RESPONSE_EVENTS["chunk"]!],
  "an error of the engine": [REQUEST_EVENTS["forward"]!, FAILED_HEAD],
  ended: [REQUEST_EVENTS["forward"]!, RESPONSE_EVENTS["headers, end"]!],
  "ended by us": [REQUEST_EVENTS["forward"]!, RESPONSE_EVENTS["deserted"]!],
  "answered by us": [REQUEST_EVENTS["answer"]!],
  observed: [observed],
};

function responseTable(): string {
  return BODY_MODES.filter((mode) => mode !== "GRPC")
    .flatMap((response) => {
      const modes: Modes = { request: "NONE", response };
      const rows = Object.entries(BEFORE).map(([name, events]) => {
        const cells = Object.entries(RESPONSE_EVENTS).map(([event, value]) => {
          const stream = new ExchangeStream(100, 5000);
          for (const each of events.length > 0 ? [headers(modes), ...events] : []) stream.advance(each);
          const first = events.length === 0 ? { ...value, modes } : value;
          return [event, `${play(stream, first)}${ends(stream)}`] as const;
        });
        return [name, cellsOf(cells)] as const;
      });
      return print(response, rows);
    })
    .join("\n");
}

const ends = (stream: ExchangeStream): string => (stream.states.response === "ended" ? " (ended)" : "");

for (const [name, table] of [
  ["request.txt", requestTable()],
  ["response.txt", responseTable()],
] as const)
  t.test(`every cell of ${name}`, (t) => {
    const file = join(FOLDER, name);
    if (process.env["UPDATE_GOLDEN"] === "1") {
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(file, table);
    }
    t.equal(table, readFileSync(file, "utf8"));
    t.end();
  });

/** What Envoy counts: a message that waits gets one reply, and no other message gets any. */
t.test("in any order of events nothing is said twice, and nothing after the end", (t) => {
  const event = fc.constantFrom(
    ...Object.values(REQUEST_EVENTS).slice(1, 8),
    ...Object.values(RESPONSE_EVENTS),
    STREAM_HEAD,
  );
  fc.assert(
    fc.property(fc.constantFrom(...REQUESTS), fc.array(event, { maxLength: 12 }), ([, modes, bodiless], events) => {
      const stream = new ExchangeStream(100, 5000);
      const actions = [headers(modes, bodiless), ...events].flatMap((each) => stream.advance(each));
      const said = actions.flatMap((action) => (action.kind === "reply" ? [action.reply] : []));
      const count = (of: (reply: (typeof said)[number]) => boolean): number => said.filter(of).length;
      const headersReplies = count((reply) => reply.kind === "headers" && reply.phase === "request");
      const destinations = count((reply) => "destination" in reply);
      const immediate = said.findIndex(({ kind }) => kind === "immediate");
      t.ok(headersReplies <= 1 && destinations <= 1, "one headers reply, one destination");
      t.ok(count(({ kind }) => kind === "wait") <= 1);
      t.ok(immediate === -1 || immediate === said.length - 1, "an answer of ours is the last word");
      t.ok(actions.filter(({ kind }) => kind === "route").length <= 1);
      t.ok(actions.filter(({ kind }) => kind === "responseEnded").length <= 1);
      t.ok(count((reply) => reply.kind === "trailers" && reply.phase === "request") <= 1);
    }),
    { numRuns: 1000 },
  );
  t.end();
});

t.test("in STREAMED every chunk gets one reply, whenever it came", (t) => {
  const steps = fc.array(fc.constantFrom("chunk" as const, "forward" as const, "hold" as const, "late" as const), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(steps, fc.boolean(), fc.boolean(), (names, early, changed) => {
      const stream = new ExchangeStream(1000, 5000);
      stream.advance(headers({ request: "STREAMED", response: "NONE", early }));
      const body = changed ? FORWARD : { ...FORWARD, body: Buffer.alloc(0) };
      const all: StreamEvent[] = [
        ...names.map((name) =>
          name === "forward" ? ({ kind: "routed", routed: body } as const) : REQUEST_EVENTS[name]!,
        ),
        chunk("requestBody", true),
        { kind: "requestTrailers" },
        { kind: "routed", routed: body },
      ];
      let chunks = 0;
      let replies = 0;
      for (const each of all) {
        // A destination is sought before it is found: the router never does otherwise.
        if (each.kind === "routed" && stream.states.request === "reading") continue;
        if (each.kind === "requestBody") chunks += 1;
        for (const action of stream.advance(each))
          if (action.kind === "reply" && action.reply.kind === "body") replies += 1;
      }
      return replies === chunks;
    }),
    { numRuns: 1000 },
  );
  t.end();
});

t.test(
  "trailers of an answer whose body is not seen are asked for once, with the first reply, unless in duplex",
  (t) => {
    const asked = (modes: Modes | undefined): unknown[] => {
      const stream = new ExchangeStream(1000, 1000);
      const events: StreamEvent[] = [headers(modes), chunk("requestBody", true), { kind: "routed", routed: FORWARD }];
      const replies = events.flatMap((each) => stream.advance(each)).filter((action) => action.kind === "reply");
      return replies.map(({ reply }) => "trailers" in reply && reply.trailers);
    };
    for (const request of BODY_MODES.filter((mode) => mode !== "GRPC"))
      for (const response of BODY_MODES.filter((mode) => mode !== "GRPC")) {
        const [first, ...later] = asked({ request, response });
        const wanted = response === "NONE" && request !== "FULL_DUPLEX_STREAMED";
        t.same(first, wanted ? { request, response } : false, `${request}, ${response}`);
        t.ok(later.every((each) => each === false));
      }
    t.notOk(asked(undefined).some(Boolean), "of an Envoy that announces nothing nothing is asked");
    t.end();
  },
);
