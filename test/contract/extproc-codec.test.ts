/** Our codec against a protobuf library that reads the same messages by their schema; and against garbage. */
import t from "tap";
import fc from "fast-check";
import protobuf from "protobufjs";
import { BODY_MODES, decodeRequest, encodeReplies, type Reply } from "../../src/router/extproc/codec.ts";
import { Deframer } from "../../src/router/extproc/grpc.ts";
import { WireError } from "../../src/router/extproc/wire.ts";

/** Messages of envoy.service.ext_proc.v3 and what they hold, as far as the router reads or writes them. */
const SCHEMA = `syntax = "proto3";
message Value { oneof kind { int32 null_value = 1; double number_value = 2; string string_value = 3; bool bool_value = 4;
  Struct struct_value = 5; ListValue list_value = 6; } }
message ListValue { repeated Value values = 1; }
message Struct { map<string, Value> fields = 1; }
message Metadata { map<string, Struct> filter_metadata = 1; }
message HeaderValue { string key = 1; string value = 2; bytes raw_value = 3; }
message HeaderMap { repeated HeaderValue headers = 1; }
message HttpHeaders { HeaderMap headers = 1; bool end_of_stream = 3; }
message HttpBody { bytes body = 1; bool end_of_stream = 2; }
message HttpTrailers { HeaderMap trailers = 1; }
message ProtocolConfiguration { int32 request_body_mode = 1; int32 response_body_mode = 2; bool early = 3; }
message ProcessingRequest { oneof request { HttpHeaders request_headers = 2; HttpHeaders response_headers = 3;
  HttpBody request_body = 4; HttpBody response_body = 5; HttpTrailers request_trailers = 6; HttpTrailers response_trailers = 7; }
  Metadata metadata_context = 8; map<string, Struct> attributes = 9; bool observability_mode = 10;
  ProtocolConfiguration protocol_config = 11; bytes not_known_yet = 99; }
message HeaderValueOption { HeaderValue header = 1; int32 append_action = 3; }
message HeaderMutation { repeated HeaderValueOption set_headers = 1; repeated string remove_headers = 2; }
message StreamedBodyResponse { bytes body = 1; bool end_of_stream = 2; }
message BodyMutation { oneof mutation { bytes body = 1; bool clear_body = 2; StreamedBodyResponse streamed_response = 3; } }
message CommonResponse { HeaderMutation header_mutation = 2; BodyMutation body_mutation = 3; }
message Common { CommonResponse response = 1; }
message TrailersResponse { HeaderMutation header_mutation = 1; }
message HttpStatus { int32 code = 1; }
message ImmediateResponse { HttpStatus status = 1; HeaderMutation headers = 2; bytes body = 3; string details = 5; }
message ProcessingMode { int32 request_header_mode = 1; int32 response_header_mode = 2; int32 request_body_mode = 3;
  int32 response_body_mode = 4; int32 request_trailer_mode = 5; int32 response_trailer_mode = 6; }
message Duration { int64 seconds = 1; int32 nanos = 2; }
message ProcessingResponse { oneof response { Common request_headers = 1; Common response_headers = 2; Common request_body = 3;
  Common response_body = 4; TrailersResponse request_trailers = 5; TrailersResponse response_trailers = 6;
  ImmediateResponse immediate_response = 7; } Struct dynamic_metadata = 8;
  ProcessingMode mode_override = 9; Duration override_message_timeout = 10; }`;

const { root } = protobuf.parse(SCHEMA, { keepCase: true });
const Request = root.lookupType("ProcessingRequest");
const Response = root.lookupType("ProcessingResponse");
const encode = (message: object): Buffer => Buffer.from(Request.encode(Request.fromObject(message)).finish());

const name = fc.stringMatching(/^[a-z][a-z-]{0,15}$/);
const headerMap = fc
  .array(fc.tuple(name, fc.uint8Array({ maxLength: 20 })), { maxLength: 5 })
  .map((list) => ({ headers: list.map(([key, raw_value]) => ({ key, raw_value })) }));
const httpHeaders = fc.record({ headers: headerMap, end_of_stream: fc.boolean() });
const httpBody = fc.record({ body: fc.uint8Array({ maxLength: 300 }), end_of_stream: fc.boolean() });
const message = fc.oneof(
  fc.constantFrom("request_headers", "response_headers").chain((key) => httpHeaders.map((value) => ({ [key]: value }))),
  fc.constantFrom("request_body", "response_body").chain((key) => httpBody.map((value) => ({ [key]: value }))),
  fc.constantFrom("request_trailers", "response_trailers").map((key) => ({ [key]: { trailers: {} } })),
);
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string({ maxLength: 20 }).map((string_value) => ({ string_value })),
    fc.double({ noNaN: true }).map((number_value) => ({ number_value })),
    fc.boolean().map((bool_value) => ({ bool_value })),
    fc.array(tie("value"), { maxLength: 3 }).map((values) => ({ list_value: { values } })),
    fc.dictionary(name, tie("value"), { maxKeys: 3 }).map((fields) => ({ struct_value: { fields } })),
  ),
}));
const struct = fc.dictionary(name, value, { maxKeys: 3 }).map((fields) => ({ fields }));
const modes = fc.record({
  request_body_mode: fc.nat(5),
  response_body_mode: fc.nat(5),
  early: fc.boolean(),
});
const beside = fc.record(
  {
    metadata_context: fc.dictionary(name, struct, { maxKeys: 3 }).map((filter_metadata) => ({ filter_metadata })),
    attributes: fc.dictionary(name, struct, { maxKeys: 2 }),
    observability_mode: fc.boolean(),
    protocol_config: modes,
    not_known_yet: fc.uint8Array({ maxLength: 20 }),
  },
  { requiredKeys: [] },
);

interface Plain {
  readonly [key: string]: { headers?: { headers?: { key: string; raw_value: Uint8Array }[] } } & Partial<HttpBodyLike>;
}
interface HttpBodyLike {
  readonly body: Uint8Array;
  readonly end_of_stream: boolean;
}

const camel = (text: string): string => text.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

interface Announced {
  readonly request_body_mode: number;
  readonly response_body_mode: number;
  readonly early: boolean;
}

const announced = (config: Announced | undefined): object | undefined =>
  config && {
    request: BODY_MODES[config.request_body_mode],
    response: BODY_MODES[config.response_body_mode],
    early: config.early,
  };

t.test("what the library writes is what we read", (t) => {
  fc.assert(
    fc.property(message, beside, (main, more) => {
      const read = decodeRequest(encode({ ...main, ...more }));
      const [[kind, wanted]] = Object.entries(main as unknown as Plain) as [[string, Plain[string]]];
      t.equal(read.kind, camel(kind));
      if ("headers" in read) {
        const list = (wanted.headers?.headers ?? []).map(({ key, raw_value }) => [
          key,
          Buffer.from(raw_value).toString("latin1"),
        ]);
        t.same(read.headers, list);
      }
      if ("chunk" in read) t.ok(read.chunk.equals(Buffer.from(wanted.body ?? [])));
      if ("endOfStream" in read) t.equal(read.endOfStream, wanted.end_of_stream ?? false);
      t.same(read.modes, announced(more.protocol_config));
      t.equal(read.observed ?? false, more.observability_mode ?? false);
    }),
    { numRuns: 300 },
  );
  t.end();
});

const ADDRESS = "10.0.0.1:8000";
const text = (string_value: string): object => ({ string_value });
const list = (...values: object[]): object => ({ list_value: { values } });
const hint = (of: object): object => ({
  filter_metadata: { "envoy.lb.subset_hint": { fields: { "x-gateway-destination-endpoint-subset": of } } },
});

t.test("subset hints in every form", (t) => {
  const table: [string, object, readonly string[] | "malformed" | undefined][] = [
    ["list", hint(list(text(ADDRESS), text("10.0.0.2"))), [ADDRESS, "10.0.0.2"]],
    ["CSV", hint(text(` ${ADDRESS} ,10.0.0.2,`)), [ADDRESS, "10.0.0.2"]],
    [
      "list of CSV",
      hint(list(text(`${ADDRESS},10.0.0.2`), text("[fd00::1]:80"))),
      [ADDRESS, "10.0.0.2", "[fd00::1]:80"],
    ],
    ["empty list", hint(list()), []],
    ["empty string", hint(text("")), []],
    ["number", hint({ number_value: 1 }), "malformed"],
    ["struct", hint({ struct_value: { fields: {} } }), "malformed"],
    ["list with a number in it", hint(list(text(ADDRESS), { number_value: 1 })), "malformed"],
    ["too many", hint(list(...Array.from({ length: 5000 }, () => text(ADDRESS)))), "malformed"],
    ["too many in one", hint(text(`${ADDRESS},`.repeat(5000))), "malformed"],
    ["far too long", hint(text("x".repeat(2_000_000))), "malformed"],
    ["another key", { filter_metadata: { "envoy.lb.subset_hint": { fields: { other: text("a") } } } }, undefined],
    [
      "another namespace",
      { filter_metadata: { "envoy.lb": { fields: { "x-gateway-destination-endpoint-subset": text("a") } } } },
      undefined,
    ],
  ];
  for (const [what, metadata_context, wanted] of table) {
    const { subset } = decodeRequest(encode({ request_headers: {}, metadata_context }));
    if (subset === undefined || "malformed" in subset) t.equal(subset && "malformed", wanted, what);
    else t.same([...subset.addresses], wanted, what);
  }
  t.end();
});

t.test("where a request was served: metadata before the attribute", (t) => {
  const attributes = { "envoy.filters.http.ext_proc": { fields: { "upstream.address": text("10.0.0.9:80") } } };
  const served = { fields: { "x-gateway-destination-endpoint-served": text(ADDRESS) } };
  const metadata_context = { filter_metadata: { "envoy.lb": served } };
  const table: [object, string | undefined][] = [
    [{ attributes }, "10.0.0.9:80"],
    [{ metadata_context }, ADDRESS],
    [{ metadata_context, attributes }, ADDRESS],
    [{ attributes: { other: attributes["envoy.filters.http.ext_proc"] } }, undefined],
    [{ metadata_context: { filter_metadata: { other: served } } }, undefined],
    [
      {
        metadata_context: {
          filter_metadata: { "envoy.lb": { fields: { "x-gateway-destination-endpoint-served": list(text("a")) } } },
        },
      },
      undefined,
    ],
  ];
  for (const [more, wanted] of table) t.equal(decodeRequest(encode({ response_headers: {}, ...more })).served, wanted);
  t.end();
});

t.test("Structs of any depth are skipped", (t) => {
  let deep: object = text("x");
  for (let depth = 0; depth < 24; depth++)
    deep = depth % 2 === 0 ? list(deep) : { struct_value: { fields: { a: deep } } };
  const read = decodeRequest(
    encode({ request_headers: {}, metadata_context: hint(deep), attributes: { a: { fields: { b: deep } } } }),
  );
  t.ok(read.subset !== undefined && "malformed" in read.subset);
  t.end();
});

t.test("garbage is refused with WireError or read, and nothing else", (t) => {
  const messages = fc.tuple(message, beside).map(([main, more]) => encode({ ...main, ...more }));
  const flips = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 });
  const broken = fc.tuple(messages, flips).map(([bytes, changes]) => {
    for (const [at, to] of changes) if (at < bytes.length) bytes[at] = to;
    return bytes;
  });
  const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(broken, noise), (bytes) => {
      try {
        decodeRequest(bytes);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
      }
    }),
    { numRuns: 5000 },
  );
  t.end();
});

t.test("a field without a number hides nothing that follows it", (t) => {
  const headers = Buffer.from(encode({ request_headers: { end_of_stream: true } }));
  t.match(decodeRequest(headers), { kind: "requestHeaders", endOfStream: true });
  for (const key of [0x00, 0x02, 0x07])
    t.throws(() => decodeRequest(Buffer.concat([headers, Buffer.of(key, 0)])), /field number 0/, `key ${key}`);
  t.end();
});

t.test("what we write is what the library reads", (t) => {
  const destination = ADDRESS;
  const replies: readonly [Reply, object][] = [
    [
      { kind: "headers", phase: "request", destination, changes: { set: [["a", "\u00e9"]], remove: ["b"] } },
      {
        request_headers: {
          response: {
            header_mutation: {
              set_headers: [{ header: { key: "a", raw_value: "6Q==" }, append_action: 2 }],
              remove_headers: ["b"],
            },
          },
        },
        dynamic_metadata: {
          fields: { "envoy.lb": { struct_value: { fields: { "x-gateway-destination-endpoint": text(destination) } } } },
        },
      },
    ],
    [{ kind: "body", phase: "request" }, { request_body: { response: {} } }],
    [
      { kind: "body", phase: "request", body: "clear" },
      { request_body: { response: { body_mutation: { clear_body: true } } } },
    ],
    [
      { kind: "body", phase: "response", body: Buffer.from("xyz") },
      { response_body: { response: { body_mutation: { body: "eHl6" } } } },
    ],
    [
      { kind: "chunk", phase: "response", chunk: Buffer.from("xyz"), endOfStream: true },
      { response_body: { response: { body_mutation: { streamed_response: { body: "eHl6", end_of_stream: true } } } } },
    ],
    [{ kind: "trailers", phase: "request" }, { request_trailers: {} }],
    [{ kind: "wait", ms: 121_500 }, { override_message_timeout: { seconds: "121", nanos: 500_000_000 } }],
    [
      { kind: "immediate", status: 404, headers: [["a", "b"]], body: Buffer.from("{}"), details: "No" },
      {
        immediate_response: {
          status: { code: 404 },
          headers: { set_headers: [{ header: { key: "a", raw_value: "Yg==" }, append_action: 2 }] },
          ...{ body: "e30=", details: "No" },
        },
      },
    ],
  ];
  for (const [reply, wanted] of replies) {
    const [bytes] = new Deframer(10_000).push(Buffer.concat(encodeReplies([reply])));
    t.same(Response.toObject(Response.decode(bytes!), { bytes: String, longs: String }), wanted, reply.kind);
  }
  t.end();
});

t.test("asked for trailers, Envoy keeps the modes of bodies that it announced", (t) => {
  for (const request of BODY_MODES)
    for (const response of BODY_MODES) {
      const reply: Reply = { kind: "headers", phase: "request", trailers: { request, response } };
      const message = Buffer.concat(encodeReplies([reply])).subarray(5);
      t.same(Response.toObject(Response.decode(message), { defaults: true }).mode_override, {
        ...{ request_header_mode: 0, response_header_mode: 1, request_trailer_mode: 0, response_trailer_mode: 1 },
        ...{ request_body_mode: BODY_MODES.indexOf(request), response_body_mode: BODY_MODES.indexOf(response) },
      });
    }
  t.end();
});
