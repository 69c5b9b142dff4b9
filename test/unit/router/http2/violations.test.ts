/** What a peer does wrong, and what it is told: frames in, frames out (RFC 9113). */
import t from "tap";
import {
  CODE,
  FLAG,
  FRAME,
  PREFACE,
  SETTING,
  frameOf,
  settingsFrame,
  words,
} from "../../../../src/router/http2/frames.ts";
import { blockOf } from "../../../../src/router/http2/hpack.ts";
import type { HeaderList } from "../../../../src/router/headers.ts";
import { Peer, REQUEST, dataFrame, headersFrame } from "../../../support/http2-peer.ts";

const NOTHING = Buffer.alloc(0);
const headers = (...more: HeaderList): Buffer => headersFrame(1, { headers: [...REQUEST, ...more] });
const only = (list: HeaderList): Buffer => headersFrame(1, { headers: list });
const goaway = (code: number, last = 0): string[] => [`goaway ${last} code ${code}`];
const reset = (code: number, stream = 1): string[] => [`reset ${stream} code ${code}`];
const setting = (id: number, value: number): Buffer => settingsFrame([[id, value]]);
const rst = (stream: number): Buffer => frameOf(FRAME.reset, 0, stream, words(CODE.cancel));
const grant = (stream: number, bytes: number): Buffer => frameOf(FRAME.windowUpdate, 0, stream, words(bytes));
const padded = (type: number, stream: number, bytes: Uint8Array, flags = 0): Buffer =>
  frameOf(type, FLAG.padded | flags, stream, bytes);
const block = blockOf(REQUEST);

type Case = readonly [name: string, frames: readonly Buffer[], expected: readonly string[]];

const CONNECTION: readonly Case[] = [
  ["DATA on stream 0", [frameOf(FRAME.data, 0, 0, Buffer.from("x"))], goaway(CODE.protocol)],
  ["DATA on an idle stream", [dataFrame(1, 5)], goaway(CODE.protocol)],
  ["empty DATA on an idle stream", [dataFrame(1, 0, true)], goaway(CODE.protocol)],
  ["DATA on a stream of ours", [headersFrame(3), dataFrame(2, 1)], goaway(CODE.protocol, 3)],
  ["DATA longer than its padding", [headersFrame(1), padded(0, 1, Buffer.of(5, 1, 2))], goaway(CODE.protocol, 1)],
  ["DATA without the byte of its padding", [headersFrame(1), padded(0, 1, NOTHING)], goaway(CODE.frameSize, 1)],
  ["HEADERS on stream 0", [frameOf(FRAME.headers, FLAG.endHeaders, 0, block)], goaway(CODE.protocol)],
  ["HEADERS on an even stream", [headersFrame(2)], goaway(CODE.protocol)],
  [
    "HEADERS shorter than priority",
    [frameOf(1, FLAG.endHeaders | FLAG.priority, 1, Buffer.alloc(4))],
    goaway(CODE.frameSize),
  ],
  ["HEADERS longer than its padding", [padded(1, 1, Buffer.of(9, 1, 2), FLAG.endHeaders)], goaway(CODE.protocol)],
  ["a frame over 16 KB", [frameOf(FRAME.data, 0, 1, Buffer.alloc(16_385))], goaway(CODE.frameSize)],
  ["a broken block", [frameOf(FRAME.headers, FLAG.endHeaders, 1, Buffer.of(0xff, 0xff))], goaway(CODE.compression)],
  ["PRIORITY of 4 bytes", [frameOf(FRAME.priority, 0, 1, Buffer.alloc(4))], goaway(CODE.frameSize)],
  ["PRIORITY on stream 0", [frameOf(FRAME.priority, 0, 0, Buffer.alloc(5))], goaway(CODE.protocol)],
  ["RST_STREAM of an idle stream", [rst(1)], goaway(CODE.protocol)],
  ["RST_STREAM on stream 0", [rst(0)], goaway(CODE.protocol)],
  ["RST_STREAM of 3 bytes", [headersFrame(1), frameOf(FRAME.reset, 0, 1, Buffer.alloc(3))], goaway(CODE.frameSize, 1)],
  ["SETTINGS on a stream", [frameOf(FRAME.settings, 0, 1, NOTHING)], goaway(CODE.protocol)],
  ["SETTINGS of 5 bytes", [frameOf(FRAME.settings, 0, 0, Buffer.alloc(5))], goaway(CODE.frameSize)],
  ["SETTINGS that are acknowledged and full", [frameOf(FRAME.settings, 1, 0, Buffer.alloc(6))], goaway(CODE.frameSize)],
  ["ENABLE_PUSH 2", [setting(SETTING.enablePush, 2)], goaway(CODE.protocol)],
  ["a window of 2^31", [setting(SETTING.initialWindowSize, 2 ** 31)], goaway(CODE.flowControl)],
  ["frames of 16383 bytes", [setting(SETTING.maxFrameSize, 16_383)], goaway(CODE.protocol)],
  ["frames of 2^24 bytes", [setting(SETTING.maxFrameSize, 2 ** 24)], goaway(CODE.protocol)],
  ["PUSH_PROMISE", [frameOf(FRAME.push, FLAG.endHeaders, 1, Buffer.alloc(8))], goaway(CODE.protocol)],
  ["PING on a stream", [frameOf(FRAME.ping, 0, 1, Buffer.alloc(8))], goaway(CODE.protocol)],
  ["PING of 7 bytes", [frameOf(FRAME.ping, 0, 0, Buffer.alloc(7))], goaway(CODE.frameSize)],
  ["GOAWAY on a stream", [frameOf(FRAME.goaway, 0, 1, Buffer.alloc(8))], goaway(CODE.protocol)],
  ["GOAWAY of 7 bytes", [frameOf(FRAME.goaway, 0, 0, Buffer.alloc(7))], goaway(CODE.frameSize)],
  ["WINDOW_UPDATE of an idle stream", [grant(1, 1)], goaway(CODE.protocol)],
  ["WINDOW_UPDATE of 3 bytes", [frameOf(FRAME.windowUpdate, 0, 0, Buffer.alloc(3))], goaway(CODE.frameSize)],
  ["WINDOW_UPDATE of nothing", [grant(0, 0)], goaway(CODE.protocol)],
  ["WINDOW_UPDATE over 2^31", [grant(0, 2 ** 31 - 1)], goaway(CODE.flowControl)],
  ["CONTINUATION of nothing", [frameOf(FRAME.continuation, 4, 1, block)], goaway(CODE.protocol)],
  ["CONTINUATION behind the end", [headersFrame(1), frameOf(9, 4, 1, NOTHING)], goaway(CODE.protocol, 1)],
  ["CONTINUATION of another", [headersFrame(1, { more: true }), frameOf(9, 4, 3, NOTHING)], goaway(CODE.protocol)],
  ["DATA in a header block", [headersFrame(1, { more: true }), dataFrame(1, 0)], goaway(CODE.protocol)],
  [
    "PING in a header block",
    [headersFrame(1, { more: true }), frameOf(6, 0, 0, Buffer.alloc(8))],
    goaway(CODE.protocol),
  ],
  [
    "an unknown frame in a header block",
    [headersFrame(1, { more: true }), frameOf(99, 0, 0, NOTHING)],
    goaway(CODE.protocol),
  ],
  [
    "17 CONTINUATIONs",
    [headersFrame(1, { more: true }), ...Array<Buffer>(17).fill(frameOf(9, 0, 1, NOTHING))],
    goaway(CODE.calm),
  ],
  [
    "CONTINUATIONs over the limit",
    [headersFrame(1, { more: true }), frameOf(9, 0, 1, Buffer.alloc(9000)), frameOf(9, 0, 1, Buffer.alloc(9000))],
    goaway(CODE.calm),
  ],
];

const STREAM: readonly Case[] = [
  ["no method", [only(REQUEST.slice(1))], reset(CODE.protocol)],
  ["no scheme", [only([...REQUEST.slice(0, 1), ...REQUEST.slice(2)])], reset(CODE.protocol)],
  ["no path", [only(REQUEST.slice(0, 2))], reset(CODE.protocol)],
  ["empty path", [only([...REQUEST.slice(0, 2), [":path", ""]])], reset(CODE.protocol)],
  ["a path given twice", [headers([":path", "/y"])], reset(CODE.protocol)],
  ["a pseudo-header of answers", [headers([":status", "200"])], reset(CODE.protocol)],
  ["extended CONNECT", [headers([":protocol", "websocket"])], reset(CODE.protocol)],
  ["a pseudo-header behind a header", [only([["a", "b"], ...REQUEST])], reset(CODE.protocol)],
  ["CONNECT with a path", [only([[":method", "CONNECT"], ...REQUEST.slice(1)])], reset(CODE.protocol)],
  ["upper case", [headers(["Accept", "x"])], reset(CODE.protocol)],
  ["a space in a name", [headers(["a b", "x"])], reset(CODE.protocol)],
  ["an empty name", [headers(["", "x"])], reset(CODE.protocol)],
  ["a colon in a name", [headers(["a:b", "x"])], reset(CODE.protocol)],
  ["a byte beyond ASCII in a name", [headers(["é", "x"])], reset(CODE.protocol)],
  ["CR LF in a value", [headers(["a", "x\r\nb: c"])], reset(CODE.protocol)],
  ["NUL in a value", [headers(["a", "x\0"])], reset(CODE.protocol)],
  ["a space before a value", [headers(["a", " x"])], reset(CODE.protocol)],
  ["a tab behind a value", [headers(["a", "x\t"])], reset(CODE.protocol)],
  ["LF in a path", [only([...REQUEST.slice(0, 2), [":path", "/\n"]])], reset(CODE.protocol)],
  ...["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"].map((name): Case => [
    name,
    [headers([name, "x"])],
    reset(CODE.protocol),
  ]),
  ["te: gzip", [headers(["te", "gzip"])], reset(CODE.protocol)],
  ["content-length: x", [headers(["content-length", "x"])], reset(CODE.protocol)],
  ["two content-lengths", [headers(["content-length", "1"], ["content-length", "2"])], reset(CODE.protocol)],
  ["less than content-length", [headers(["content-length", "3"]), dataFrame(1, 2, true)], reset(CODE.protocol)],
  ["more than content-length", [headers(["content-length", "3"]), dataFrame(1, 4)], reset(CODE.protocol)],
  ["a header list too large", [headers(["a", "x".repeat(9000)], ["b", "x".repeat(7300)])], reset(CODE.calm)],
  ["a window update of nothing", [headersFrame(1), grant(1, 0)], reset(CODE.protocol)],
  ["a window over 2^31", [headersFrame(1), grant(1, 2 ** 31 - 1)], reset(CODE.flowControl)],
  ["DATA behind its end", [headersFrame(1, { end: true }), dataFrame(1, 1)], reset(CODE.streamClosed)],
  ["empty DATA behind its end", [headersFrame(1, { end: true }), dataFrame(1, 0, true)], reset(CODE.streamClosed)],
  [
    "HEADERS behind its end",
    [headersFrame(1, { end: true }), headersFrame(1, { end: true })],
    reset(CODE.streamClosed),
  ],
  ["trailers without an end", [headersFrame(1), only([["a", "b"]])], reset(CODE.protocol)],
  ["a pseudo-header in trailers", [headersFrame(1), headersFrame(1, { end: true })], reset(CODE.protocol)],
];

t.test("what ends the connection", (t) => {
  for (const [name, frames, expected] of CONNECTION) {
    const peer = new Peer().greet().send(...frames);
    for (const { task } of peer.due) task();
    const lines = peer.lines().filter((line) => line.startsWith("goaway"));
    t.same(lines, expected, name);
    t.ok(peer.ended, `${name}: it is over`);
    t.ok(
      [...peer.heard.values()].every(({ closed }) => closed),
      `${name}: its streams are told`,
    );
    peer.send(headersFrame(99));
    t.same(peer.lines(), [], `${name}: nothing is heard any more`);
  }
  t.end();
});

t.test("what ends its stream only", (t) => {
  for (const [name, frames, expected] of STREAM) {
    const peer = new Peer().greet().send(...frames);
    t.same(peer.lines(), expected, name);
    t.not(peer.heard.get(1)?.closed, false, `${name}: it was never opened, or is closed`);
    t.equal(peer.connection.streams, 0);
    peer.send(headersFrame(3), dataFrame(3, 2, true));
    t.match(peer.heard.get(3), { ended: true, closed: false }, `${name}: the next is served`);
  }
  t.end();
});

t.test("what is no HTTP/2 client, or does not begin as one", (t) => {
  const start = (...bytes: Buffer[]): string[] =>
    new Peer()
      .send(...bytes)
      .lines()
      .slice(1);
  t.same(start(Buffer.from("GET / HTTP/1.1\r\n\r\n")), goaway(CODE.protocol));
  t.same(start(PREFACE, headersFrame(1)), goaway(CODE.protocol), "no SETTINGS");
  t.same(start(PREFACE, frameOf(FRAME.settings, FLAG.ack, 0, NOTHING)), goaway(CODE.protocol), "SETTINGS ack");
  t.same(start(PREFACE, frameOf(FRAME.ping, 0, 0, Buffer.alloc(8))), goaway(CODE.protocol), "PING");
  t.equal(new Peer().send(PREFACE).connection.greeted, false);
  t.equal(new Peer().greet().connection.greeted, true);
  t.end();
});

t.test("what is odd and allowed", (t) => {
  const served = (...frames: Buffer[]): unknown => {
    const peer = new Peer().greet().send(...frames);
    t.same(peer.errors, []);
    t.same(
      peer.lines().filter((line) => !line.startsWith("settings") && !line.startsWith("ping")),
      [],
    );
    return peer.heard.get(1);
  };
  const whole = { ended: true, body: [Buffer.from("xx")] };
  const pad = padded(FRAME.headers, 1, Buffer.concat([Buffer.of(3), block, Buffer.alloc(3)]), FLAG.endHeaders);
  t.match(served(pad, padded(0, 1, Buffer.from("\x02xxzz"), FLAG.endStream)), whole, "padding");
  t.match(served(headersFrame(1), padded(0, 1, Buffer.of(2, 0, 0)), dataFrame(1, 2, true)), whole, "padding alone");
  const priority = frameOf(1, FLAG.endHeaders | FLAG.priority, 1, Buffer.concat([Buffer.alloc(5), block]));
  t.match(served(priority, dataFrame(1, 2, true)), whole, "priority");
  const split = [
    frameOf(1, 0, 1, block.subarray(0, 3)),
    frameOf(9, 0, 1, NOTHING),
    frameOf(9, 4, 1, block.subarray(3)),
  ];
  t.match(served(...split, dataFrame(1, 2, true)), whole, "a block in three frames");
  t.match(
    served(headersFrame(1), dataFrame(1, 2), headersFrame(1, { end: true, headers: [["a", "b"]] })),
    whole,
    "trailers",
  );
  t.match(served(headers(["content-length", "2"]), dataFrame(1, 2, true)), whole, "content-length");
  t.match(served(headers(["te", "trailers"]), dataFrame(1, 2, true)), whole, "te: trailers");
  t.match(served(frameOf(99, 255, 7, Buffer.alloc(9)), headersFrame(1), dataFrame(1, 2, true)), whole, "unknown frame");
  t.match(served(setting(77, 5), headersFrame(1), dataFrame(1, 2, true)), whole, "unknown setting");
  t.end();
});

t.test("every byte alone says the same", (t) => {
  const peer = new Peer();
  const bytes = Buffer.concat([PREFACE, settingsFrame([]), headersFrame(1), dataFrame(1, 3, true), rst(1)]);
  for (const byte of bytes) peer.send(Buffer.of(byte));
  t.match(peer.heard.get(1), { ended: true, closed: true });
  t.equal(Buffer.concat(peer.heard.get(1)?.body ?? []).toString(), "xxx");
  t.end();
});

t.test("windows of a peer that sends more than it may", (t) => {
  const wide = new Peer({ connectionWindow: 200_000 }).greet();
  wide.streams.get(1)?.pause();
  wide.send(headersFrame(1));
  wide.streams.get(1)?.pause();
  for (let sent = 0; sent < 5; sent++) wide.send(dataFrame(1, 16_000));
  t.same(wide.lines(), reset(CODE.flowControl), "of a stream");
  const narrow = new Peer({ connectionWindow: 65_535, streamWindow: 200_000 }).greet().send(headersFrame(1));
  for (let sent = 0; sent < 40; sent++) narrow.send(dataFrame(1, 16_000));
  t.same(narrow.errors, [], "what is taken is granted again");
  t.end();
});
