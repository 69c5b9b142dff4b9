/** Peers that send what costs us and not them, that do not read, or that never end. */
import t from "tap";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  CODE,
  FLAG,
  FRAME,
  MAX_WINDOW,
  SETTING,
  frameOf,
  settingsFrame,
  words,
} from "../../../../src/router/http2/frames.ts";
import { CALM_MS, GOAWAY_LAG_MS } from "../../../../src/router/http2/connection.ts";
import { blockOf } from "../../../../src/router/http2/hpack.ts";
import { LIMITS, Peer, REQUEST, dataFrame, headersFrame } from "../../../support/http2-peer.ts";

const rst = (stream: number): Buffer => frameOf(FRAME.reset, 0, stream, words(CODE.cancel));
const grant = (stream: number, bytes: number): Buffer => frameOf(FRAME.windowUpdate, 0, stream, words(bytes));
const ping = frameOf(FRAME.ping, 0, 0, Buffer.alloc(8));
const trailers = blockOf([["grpc-status", "0"]]);

/** What is sent the nth time, how many of it are allowed at once, and what had to be there before. */
const FLOODS: Readonly<
  Record<string, readonly [most: number, nth: (n: number) => Buffer, before?: readonly Buffer[]]>
> = {
  PING: [LIMITS.idleFramesPerSecond, () => ping],
  "PING ack": [LIMITS.idleFramesPerSecond, () => frameOf(FRAME.ping, FLAG.ack, 0, Buffer.alloc(8))],
  SETTINGS: [LIMITS.settingsPerSecond - 1, (n) => settingsFrame([[SETTING.initialWindowSize, n]])],
  "SETTINGS ack": [LIMITS.settingsPerSecond - 1, () => frameOf(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0))],
  PRIORITY: [LIMITS.idleFramesPerSecond, () => frameOf(FRAME.priority, 0, 3, Buffer.alloc(5))],
  "unknown frames": [LIMITS.idleFramesPerSecond, () => frameOf(200, 0, 0, Buffer.alloc(3))],
  "empty DATA": [LIMITS.idleFramesPerSecond, () => dataFrame(1, 0), [headersFrame(1)]],
  "HEADERS of closed streams": [LIMITS.idleFramesPerSecond, () => headersFrame(1), [headersFrame(1), rst(1)]],
  WINDOW_UPDATE: [LIMITS.grantsPerSecond, () => grant(0, 1)],
  "WINDOW_UPDATE of closed streams": [LIMITS.grantsPerSecond, () => grant(1, 1), [headersFrame(1), rst(1)]],
  "rapid reset": [LIMITS.maxStreams, (n) => Buffer.concat([headersFrame(2 * n + 1), rst(2 * n + 1)])],
  "resets of closed streams": [LIMITS.resetsPerSecond - 1, () => rst(1), [headersFrame(1), rst(1)]],
  "made to reset by windows": [
    LIMITS.faultsPerSecond,
    (n) => Buffer.concat([headersFrame(2 * n + 1), grant(2 * n + 1, 0)]),
  ],
  "made to reset by DATA": [
    LIMITS.faultsPerSecond,
    (n) => Buffer.concat([headersFrame(2 * n + 1, { end: true }), dataFrame(2 * n + 1, 1)]),
  ],
  "made to reset by headers": [LIMITS.faultsPerSecond, (n) => headersFrame(2 * n + 1, { headers: [] })],
  "streams over the cap": [
    LIMITS.resetsPerSecond,
    (n) => headersFrame(2 * n + 21),
    Array.from({ length: 10 }, (_, n) => headersFrame(2 * n + 1)),
  ],
};

t.test("every flood has its end", (t) => {
  for (const [name, [most, nth, before = []]] of Object.entries(FLOODS)) {
    const peer = new Peer().greet().send(...before);
    for (let n = 0; n < most; n++) peer.send(nth(n));
    t.same(peer.errors, [], `${name}: ${most} at once are taken`);
    peer.send(nth(most));
    t.equal(peer.errors[0]?.code, CODE.calm, name);
    peer.take();
    t.ok(peer.paused, `${name}: it is not read from`);
    t.equal(peer.due.at(-1)?.ms, CALM_MS);
    peer.due.at(-1)?.task();
    t.match(peer.lines().at(-1), /^goaway \d+ code 11$/, `${name}: it is told`);
    t.ok(peer.ended, `${name}: it is over`);
  }
  t.end();
});

t.test("the same in peace is served for ever", (t) => {
  for (const [name, [most, nth, before = []]] of Object.entries(FLOODS)) {
    const peer = new Peer().greet().send(...before);
    for (let n = 0; n < 3 * most; n++) {
      peer.now += 1100 / most;
      peer.send(nth(n));
    }
    t.same(peer.errors, [], name);
  }
  t.end();
});

t.test("streams that were answered may be reset as often as there are streams: a proxy does", (t) => {
  const peer = new Peer({ resetsPerSecond: 100_000 }).greet();
  for (let id = 1; id < 2000; id += 2) {
    peer.send(headersFrame(id), dataFrame(id, 1));
    peer.streams.get(id)?.write(Buffer.from("x"));
    peer.send(rst(id));
  }
  t.same(peer.errors, []);
  t.equal(peer.connection.streams, 0);
  t.end();
});

t.test("who does not read is not read from, and is sent no more than it had asked for", (t) => {
  const peer = new Peer({ idleFramesPerSecond: 1e9 }).greet().send(headersFrame(1));
  peer.room = false;
  peer.send(ping);
  t.ok(peer.paused);
  const stream = peer.streams.get(1);
  peer.take();
  for (let n = 0; n < 1000; n++) stream?.write(Buffer.alloc(1000));
  t.same(peer.lines(), [], "bodies wait");
  t.equal(stream?.unsent, 1_000_000);
  peer.room = true;
  peer.connection.writable();
  t.notOk(peer.paused);
  t.equal(
    peer.take().reduce((sum, { payload }) => sum + payload.length, 0),
    65_535,
  );
  t.end();
});

t.test("many windows at once are looked at as one", (t) => {
  const peer = new Peer({ maxStreams: 1000, grantsPerSecond: 1e6 }).greet([[SETTING.initialWindowSize, 10]]);
  for (let id = 1; id < 2000; id += 2) {
    peer.send(headersFrame(id));
    peer.streams.get(id)?.write(Buffer.alloc(20));
  }
  peer.take();
  peer.writes = 0;
  peer.send(Buffer.concat(Array<Buffer>(5000).fill(grant(0, 1))));
  t.same(peer.lines(), [], "their own windows are closed");
  peer.send(settingsFrame([[SETTING.initialWindowSize, 11]]));
  t.equal(peer.take().filter(({ type }) => type === FRAME.data).length, 1000);
  t.equal(peer.writes, 1);
  t.end();
});

t.test("bytes for the connection, one by one, touch no stream that waits for a window of its own", (t) => {
  const peer = new Peer({ maxStreams: 100, grantsPerSecond: 1e6 }).greet([[SETTING.initialWindowSize, 0]]);
  let looked = 0;
  for (let id = 1; id < 200; id += 2) {
    peer.send(headersFrame(id));
    const stream = peer.streams.get(id);
    stream?.write(Buffer.alloc(100));
    const unsent = stream?.unsent ?? 0;
    Object.defineProperty(stream, "unsent", { get: () => ((looked += 1), unsent) });
  }
  for (let n = 0; n < 1000; n++) peer.send(grant(0, 1));
  t.same([looked, peer.errors], [0, []], "an open window");
  t.end();
});

t.test("bytes for a connection that is closed go round, one by one", (t) => {
  const peer = new Peer().greet([[SETTING.initialWindowSize, 70_000]]).send(headersFrame(1), headersFrame(3));
  for (const [id, bytes] of [
    [1, 65_537],
    [3, 2],
  ] as const)
    peer.streams.get(id)?.write(Buffer.alloc(bytes));
  peer.take();
  const sent = Array.from({ length: 4 }, () => peer.send(grant(0, 1)).lines()).flat();
  t.same(sent.sort(), ["data 1 of 1", "data 1 of 1", "data 3 of 1", "data 3 of 1"]);
  const ends = [1, 3].map((id) => [peer.streams.get(id)?.unsent, peer.heard.get(id)?.drained]);
  t.same(ends, [
    [0, 1],
    [0, 1],
  ]);
  t.end();
});

t.test("requests without a body are answered, and too many of them are a flood", (t) => {
  const answered = blockOf([[":status", "200"]]);
  const peer = new Peer({}, (stream) => stream.respond(answered, true)).greet();
  const request = (n: number): Buffer => headersFrame(2 * n + 1, { end: true });
  for (let n = 0; n < LIMITS.idleFramesPerSecond; n++) peer.send(request(n));
  t.same(peer.errors, []);
  peer.send(request(LIMITS.idleFramesPerSecond));
  t.equal(peer.errors[0]?.code, CODE.calm);
  t.end();
});

t.test("a SETTINGS frame with thousands of windows touches each stream once, and the last of them holds", (t) => {
  const peer = new Peer().greet().send(headersFrame(1));
  const stream = peer.streams.get(1);
  let [touched, window] = [0, stream?.sendWindow ?? 0];
  Object.defineProperty(stream, "sendWindow", {
    get: () => window,
    set: (next: number) => {
      touched += 1;
      window = next;
    },
  });
  peer.send(settingsFrame(Array.from({ length: 2700 }, (_, n) => [SETTING.initialWindowSize, 70_000 + n] as const)));
  t.same([touched, window, peer.errors], [1, 72_699, []]);
  const many = Array.from({ length: 10 }, () => [SETTING.initialWindowSize, 100] as const);
  peer.send(settingsFrame([...many, [SETTING.initialWindowSize, MAX_WINDOW + 1], ...many]));
  t.equal(peer.errors[0]?.code, CODE.flowControl, "none of them is skipped");
  t.end();
});

t.test("a connection window that is too small goes round", (t) => {
  const peer = new Peer().greet([[SETTING.initialWindowSize, 1_000_000]]).send(headersFrame(1), headersFrame(3));
  for (const id of [1, 3]) peer.streams.get(id)?.write(Buffer.alloc(500_000));
  peer.take();
  const served = new Set<number>();
  for (let n = 0; n < 4; n++) for (const { stream } of peer.send(grant(0, 20_000)).take()) served.add(stream);
  t.same([...served].sort(), [1, 3]);
  t.end();
});

t.test("a drain: GOAWAY twice, the streams between are served, later ones refused, the last one ends it", (t) => {
  const peer = new Peer().greet().send(headersFrame(1));
  peer.connection.drain();
  peer.connection.drain();
  t.same(peer.lines(), [`goaway ${MAX_WINDOW} code 0`]);
  peer.send(headersFrame(3));
  t.same(peer.lines(), []);
  t.equal(peer.due.length, 1);
  t.equal(peer.due[0]?.ms, GOAWAY_LAG_MS);
  peer.due[0]?.task();
  t.same(peer.lines(), ["goaway 3 code 0"]);
  peer.send(headersFrame(5));
  t.same(peer.lines(), [`reset 5 code ${CODE.refused}`]);
  for (const id of [1, 3]) {
    t.notOk(peer.ended);
    peer.send(dataFrame(id, 1, true));
    peer.streams.get(id)?.respond(blockOf([[":status", "200"]]));
    peer.streams.get(id)?.end(trailers);
    t.same(peer.lines(), [`headers ${id}`, `headers ${id} end`]);
  }
  t.ok(peer.ended);
  t.end();
});

t.test("a drain with no stream, and one whose peer goes first", (t) => {
  const idle = new Peer().greet();
  idle.connection.drain();
  t.notOk(idle.ended, "a request may be on its way");
  idle.due[0]?.task();
  t.ok(idle.ended);
  const gone = new Peer().greet().send(headersFrame(1));
  gone.connection.drain();
  gone.connection.gone();
  gone.due[0]?.task();
  t.match(gone.heard.get(1), { closed: true });
  t.notOk(gone.ended);
  t.end();
});

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

t.test("what a connection at rest holds: little, whatever it said before", async (t) => {
  const said = [...REQUEST, ["a", "x".repeat(4000)]] as const;
  const speak = (): Peer => {
    const peer = new Peer().greet().send(headersFrame(1, { headers: said }));
    peer.streams.get(1)?.write(Buffer.alloc(10_000));
    peer.send(rst(1)).take();
    peer.connection.rest();
    peer.heard.clear();
    peer.streams.clear();
    return peer;
  };
  const held = (): number => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const peers = [speak()];
  await setImmediate();
  const before = held();
  while (peers.length < 1000) peers.push(speak());
  await setImmediate();
  const bytes = (held() - before) / peers.length;
  t.ok(bytes < 16_000, `${Math.round(bytes)} bytes`);
});
