import t from "tap";
import fc from "fast-check";
import { decodeReply } from "../../../src/simulator/gateway/codec.ts";
import { encodeReplies, type Reply } from "../../../src/router/extproc/codec.ts";
import { Deframer } from "../../../src/router/extproc/grpc.ts";
import { COPY_BYTES, sizeOf, Writer } from "../../../src/router/extproc/writer.ts";
import { plainReplies } from "../../support/plain-encoder.ts";

/** Lengths around every border: of a length's second and third byte, of the copy, of the buffer. */
const LENGTHS = [0, 1, 63, 64, 65, 127, 128, 129, 1000, 1024, 2000, 16383, COPY_BYTES, COPY_BYTES + 1, 70_000];
const size = fc.oneof(fc.constantFrom(...LENGTHS), fc.nat(300));
const bytes = size.map((length) => Buffer.alloc(length, "xyz"));
const bytesOrClear = fc.oneof(bytes, fc.constant("clear" as const));
const text = fc.oneof(
  fc.string({ maxLength: 100 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  size.map((n) => "h".repeat(n % 3000)),
);
const latin1 = fc.oneof(
  fc.uint8Array({ maxLength: 100 }).map((raw) => Buffer.from(raw).toString("latin1")),
  text,
);
const phase = fc.constantFrom("request" as const, "response" as const);
const set = fc.array(fc.tuple(text, latin1), { maxLength: 5 });
const changes = fc.record({ set, remove: fc.array(text, { maxLength: 5 }) }, { requiredKeys: [] });
const optional: { requiredKeys: ("kind" | "phase")[] } = { requiredKeys: ["kind", "phase"] };

const reply: fc.Arbitrary<Reply> = fc.oneof(
  fc.record({ kind: fc.constant("headers" as const), phase, changes, destination: text }, optional),
  fc.record({ kind: fc.constant("body" as const), phase, changes, destination: text, body: bytesOrClear }, optional),
  fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(3_600_000) }),
  fc.record({ kind: fc.constant("chunk" as const), phase, chunk: bytes, endOfStream: fc.boolean() }),
  fc.record({ kind: fc.constant("trailers" as const), phase }),
  fc.record({ kind: fc.constant("immediate" as const), status: fc.nat(999), headers: set, body: bytes, details: text }),
);

t.test("byte for byte what plain nested buffers give", (t) => {
  fc.assert(
    fc.property(fc.array(reply, { maxLength: 6 }), (replies) =>
      Buffer.concat(encodeReplies(replies)).equals(plainReplies(replies)),
    ),
    { numRuns: 2000 },
  );
  t.end();
});

t.test("large bodies are handed on, small ones are copied", (t) => {
  const [small, large] = [Buffer.alloc(COPY_BYTES), Buffer.alloc(COPY_BYTES + 1)];
  const chunk = (bytes: Buffer): Reply => ({ kind: "chunk", phase: "request", chunk: bytes, endOfStream: true });
  t.equal(encodeReplies([chunk(small)]).length, 1);
  t.ok(encodeReplies([chunk(large)]).includes(large), "the very same bytes");
  t.end();
});

t.test("what is encoded is what Envoy's side reads", (t) => {
  const destination = "10.0.0.1:8000";
  const parts = encodeReplies([
    { kind: "headers", phase: "request", destination, changes: { set: [["a", "\u00e9"]], remove: ["b"] } },
    { kind: "chunk", phase: "request", chunk: Buffer.from("xyz"), endOfStream: true },
  ]);
  const [headers, chunk] = new Deframer(10_000).push(Buffer.concat(parts)).map(decodeReply);
  t.match(headers, { kind: "headers", phase: "request", destination, set: [["a", "\u00e9"]], remove: ["b"] });
  t.same(chunk?.streamed, { chunk: Buffer.from("xyz"), endOfStream: true });
  t.end();
});

t.test("varints", (t) => {
  for (const value of [0, 1, 127, 128, 16383, 16384, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    const out = new Writer();
    out.varint(value);
    t.equal(out.parts()[0]?.length, sizeOf(value), String(value));
  }
  t.end();
});
