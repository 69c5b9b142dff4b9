/** What a stream holds is counted: messages cut anywhere, bodies in any pieces, headers of any size. */
import t from "tap";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { BodyBuffer } from "../../../src/router/extproc/body.ts";
import { Deframer, frame } from "../../../src/router/extproc/grpc.ts";
import { decodeRequest, type Modes } from "../../../src/router/extproc/codec.ts";
import { ExchangeStream } from "../../../src/router/extproc/stream.ts";
import { bytesField } from "../../../src/router/extproc/wire.ts";
import { encodeBody, encodeHeaders } from "../../../src/simulator/gateway/codec.ts";

const framed = (message: Uint8Array): Buffer => Buffer.concat(frame([message]));
/** As it comes from a socket: a piece of a read of 64 KiB, of which others hold nothing. */
const READ_BYTES = 65_536;
const piecesOf = (bytes: Buffer, count: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / count) }, (_, index) => {
    const read = Buffer.alloc(READ_BYTES);
    const length = bytes.copy(read, 0, index * count, (index + 1) * count);
    return read.subarray(0, length);
  });

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function memory(): number {
  // Buffers are swept beside the program: the second run waits for that of the first.
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Bytes of memory that a run makes the process hold, garbage aside. */
function heldBy(make: () => object): number {
  const before = memory();
  const kept = [make()];
  const bytes = memory() - before;
  return kept.length === 0 ? 0 : bytes;
}

t.test("messages are the same wherever their bytes are cut", (t) => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 });
  const cuts = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(messages, cuts, (sent, sizes) => {
      const bytes = Buffer.concat(sent.map(framed));
      const frames = new Deframer(300);
      const got: Buffer[] = [];
      for (let at = 0, n = 0; at < bytes.length; n++) {
        const size = sizes[n % sizes.length] ?? 1;
        got.push(...frames.push(bytes.subarray(at, at + size)));
        at += size;
      }
      return frames.held === 0 && Buffer.concat(got.map(framed)).equals(bytes) && got.length === sent.length;
    }),
    { numRuns: 3000 },
  );
  t.end();
});

t.test("what is too large or compressed is refused as soon as its prefix is here", (t) => {
  const large = Buffer.of(0, 0, 0, 1, 1);
  for (const size of [1, 2, 5]) {
    const [whole, cut] = [new Deframer(256), new Deframer(256)];
    t.throws(() => piecesOf(large, size).flatMap((piece) => whole.push(piece)), /larger than 256/);
    t.throws(() => piecesOf(Buffer.of(1, 0, 0, 0, 0), size).flatMap((piece) => cut.push(piece)), /compressed/);
  }
  t.end();
});

t.test("a message in any pieces: counted is what is held, and a claim is not believed", (t) => {
  const bytes = framed(Buffer.alloc(1_000_000)).subarray(0, 700_000);
  for (const size of [1, 9, 1000, 16_384]) {
    const frames = new Deframer(16 * 2 ** 20);
    const some = bytes.subarray(0, Math.min(bytes.length, size * 2000));
    const held = heldBy(() => {
      for (const piece of piecesOf(some, size)) frames.push(piece);
      return frames;
    });
    t.ok(frames.held >= some.length && frames.held <= 4 * some.length + 1000, `pieces of ${size}: ${frames.held}`);
    t.ok(held <= 2 * frames.held + 100_000, `pieces of ${size}: ${held} held, ${frames.held} counted`);
  }
  t.end();
});

t.test("a body: small pieces of large reads are copied, others are not", (t) => {
  for (const size of [1, 100, 20_000]) {
    const bodies: BodyBuffer[] = [];
    const held = heldBy(() => {
      for (const piece of piecesOf(Buffer.alloc(size * 100), size)) {
        const body = new BodyBuffer();
        body.append(piece);
        bodies.push(body);
      }
      return bodies;
    });
    const counted = bodies.reduce((sum, body) => sum + body.held, 0);
    t.ok(held <= 4 * counted + 100_000, `pieces of ${size}: ${held} held, ${counted} counted`);
  }
  const chunk = Buffer.from("x".repeat(20_000));
  const body = new BodyBuffer();
  body.append(chunk);
  t.equal(body.whole().buffer, chunk.buffer);
  t.end();
});

const MODES: Modes = { request: "FULL_DUPLEX_STREAMED", response: "NONE" };

t.test("headers are counted with the body, until the request is answered", (t) => {
  const machine = new ExchangeStream(1000, 1000);
  const headers = Array.from({ length: 100 }, (_, n): [string, string] => [`h${n}`, "x".repeat(1000)]);
  machine.advance(decodeRequest(encodeHeaders("requestHeaders", headers, false, MODES)));
  t.ok(machine.held > 100_000 && machine.held < 150_000, String(machine.held));
  machine.advance(decodeRequest(encodeBody("requestBody", Buffer.from("{}"), true)));
  const answer = { kind: "answer", status: 429, headers: [], body: Buffer.alloc(0), reason: "Saturated" } as const;
  machine.advance({ kind: "routed", routed: answer });
  t.equal(machine.held, 0);
  t.end();
});

t.test("one header in a large message does not keep the message", (t) => {
  const inner = Buffer.concat([
    encodeHeaders("requestHeaders", [["content-type", "application/json; long enough to be a piece"]], false),
  ]);
  const padding = bytesField(15, Buffer.alloc(2_000_000));
  const read = (): object => decodeRequest(Buffer.concat([inner.subarray(0, 1), lengthOf(inner, padding), padding]));
  t.match(read(), { headers: [["content-type", /piece/]] });
  const held = heldBy(() => Array.from({ length: 20 }, read));
  t.ok(held < 4_000_000, `${held} bytes for 20 headers`);
  t.end();
});

/** Length and content of the headers' own message, grown by so much behind it. */
function lengthOf(message: Buffer, more: Buffer): Buffer {
  const content = message.subarray(2);
  const grown = bytesField(2, Buffer.concat([content, more]));
  return grown.subarray(1, grown.length - more.length);
}
