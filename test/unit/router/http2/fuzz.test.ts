/** Whatever a peer sends, the connection goes on or ends: nothing else is thrown, and what was open is told. */
import t from "tap";
import fc from "fast-check";
import { FLAG, FRAME, PREFACE, SETTING, frameOf, settingsFrame, words } from "../../../../src/router/http2/frames.ts";
import { blockOf } from "../../../../src/router/http2/hpack.ts";
import type { OpenStream } from "../../../../src/router/http2/stream.ts";
import { Peer, REQUEST, dataFrame, headersFrame, lineOf } from "../../../support/http2-peer.ts";

/** Answers as a handler might: at once, later, with an end or without one. */
function answer(stream: OpenStream): void {
  stream.respond(blockOf([[":status", "200"]]));
  if (stream.id % 4 === 1) stream.write(Buffer.alloc((stream.id % 16) * 5000));
  if (stream.id % 3 === 0) stream.end(blockOf([["grpc-status", "0"]]));
  if (stream.id % 7 === 0) stream.reset();
  if (stream.id % 5 === 0) stream.pause();
}

/** What a well-behaved peer says, frame by frame. */
const RECORDED: readonly Buffer[] = [
  settingsFrame([
    [SETTING.initialWindowSize, 1000],
    [SETTING.maxFrameSize, 16_384],
  ]),
  frameOf(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)),
  ...[1, 3, 5, 7].map((id) => headersFrame(id, { end: id === 5 })),
  headersFrame(9, { more: true, headers: REQUEST.slice(0, 2) }),
  frameOf(FRAME.continuation, FLAG.endHeaders, 9, blockOf(REQUEST.slice(2))),
  frameOf(FRAME.headers, FLAG.endHeaders, 11, Buffer.from("40016101628384cfbe3fe11f", "hex")),
  dataFrame(1, 300),
  dataFrame(3, 10, true),
  frameOf(FRAME.data, FLAG.padded, 1, Buffer.of(3, 1, 2, 0, 0, 0)),
  headersFrame(1, { end: true, headers: [["a", "b"]] }),
  frameOf(FRAME.windowUpdate, 0, 0, words(70_000)),
  frameOf(FRAME.windowUpdate, 0, 1, words(70_000)),
  frameOf(FRAME.reset, 0, 7, words(8)),
  frameOf(FRAME.ping, 0, 0, Buffer.alloc(8)),
  frameOf(FRAME.priority, 0, 3, Buffer.alloc(5)),
  frameOf(FRAME.goaway, 0, 0, words(0, 0)),
];

/** Runs one script; true where all that must hold holds. */
function survives(bytes: Buffer, cut: number): boolean {
  const peer = new Peer({}, answer);
  for (let at = 0; at < bytes.length; at += cut) peer.send(bytes.subarray(at, at + cut));
  peer.connection.writable();
  for (const { task } of peer.due) task();
  const sent = peer.lines();
  const isOver = peer.errors.length > 0;
  if (isOver !== peer.ended || peer.errors.length > 1) return false;
  if (isOver && !sent.some((line) => line.startsWith("goaway"))) return false;
  peer.connection.gone();
  return peer.connection.streams === 0 && [...peer.heard.values()].every(({ closed }) => closed);
}

/** Bytes that are set anew, each within what is there. */
const flips = fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 4 });
const cuts = fc.constantFrom(1, 7, 100_000, 100_000);

t.test("frames of a good peer in any order, some bytes of them changed", (t) => {
  const parts = fc.array(fc.constantFrom(...RECORDED), { maxLength: 14 });
  fc.assert(
    fc.property(parts, flips, cuts, (frames, changes, cut) => {
      const bytes = Buffer.concat([PREFACE, RECORDED[0] ?? PREFACE, ...frames]);
      const from = PREFACE.length + 12;
      for (const [at, value] of changes) if (from + at < bytes.length) bytes[from + at] = value;
      return survives(bytes, cut);
    }),
    { numRuns: 50_000 },
  );
  t.end();
});

t.test("frames of any kind with any payload", (t) => {
  const frame = fc
    .tuple(fc.nat(11), fc.nat(255), fc.oneof(fc.nat(12), fc.nat()), fc.uint8Array({ maxLength: 24 }))
    .map(([type, flags, stream, payload]) => frameOf(type, flags, stream, payload));
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 10 }), cuts, (frames, cut) =>
      survives(Buffer.concat([PREFACE, RECORDED[0] ?? PREFACE, ...frames]), cut),
    ),
    { numRuns: 40_000 },
  );
  t.end();
});

t.test("any bytes, with a preface and without", (t) => {
  fc.assert(
    fc.property(fc.boolean(), fc.uint8Array({ maxLength: 200 }), cuts, (isGreeted, bytes, cut) =>
      survives(
        Buffer.concat([isGreeted ? Buffer.concat([PREFACE, settingsFrame([])]) : PREFACE.subarray(0, 0), bytes]),
        cut,
      ),
    ),
    { numRuns: 10_000 },
  );
  t.equal(lineOf({ type: 0, flags: 1, stream: 1, payload: Buffer.alloc(2) }), "data 1 of 2 end");
  t.end();
});
