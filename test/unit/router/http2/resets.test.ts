/**
 * Behind a reset of the peer's nothing goes out on its stream, whatever the handler still does. What had been said
 * before crosses it: nghttp2 takes 10,000 such frames at once and 330 a second, then leaves with ENHANCE_YOUR_CALM.
 */
import t from "tap";
import { FRAME, frameOf, words } from "../../../../src/router/http2/frames.ts";
import { blockOf } from "../../../../src/router/http2/hpack.ts";
import type { OpenStream } from "../../../../src/router/http2/stream.ts";
import { Peer, dataFrame, headersFrame } from "../../../support/http2-peer.ts";

const HEAD = blockOf([[":status", "200"]]);
const TRAILERS = blockOf([["grpc-status", "0"]]);
const reset = (stream: number): Buffer => frameOf(FRAME.reset, 0, stream, words(8));

const DEEDS: Readonly<Record<string, (stream: OpenStream) => void>> = {
  respond: (stream) => stream.respond(HEAD),
  write: (stream) => stream.write(Buffer.alloc(100)),
  end: (stream) => stream.end(TRAILERS),
  reset: (stream) => stream.reset(),
  "take what came": (stream) => {
    stream.pause();
    stream.received(30_000);
    stream.resume();
  },
};

t.test("a handler that does not know of the reset yet says nothing more", (t) => {
  for (const [deed, act] of Object.entries(DEEDS)) {
    const peer = new Peer().greet();
    peer.send(headersFrame(1), dataFrame(1, 20_000), reset(1));
    peer.take();
    const stream = peer.streams.get(1);
    t.ok(stream?.closed);
    if (stream !== undefined) act(stream);
    t.same(peer.lines(), [], deed);
  }
  t.end();
});

t.test("what waits for a window, or for the socket, is dropped", (t) => {
  for (const room of [true, false]) {
    const peer = new Peer({}, (stream) => {
      stream.respond(HEAD);
      stream.write(Buffer.alloc(300_000));
      stream.end(TRAILERS);
    }).greet();
    peer.room = room;
    peer.send(headersFrame(1));
    t.ok(peer.lines().includes("headers 1"));
    peer.send(reset(1));
    peer.room = true;
    peer.connection.writable();
    peer.send(frameOf(FRAME.windowUpdate, 0, 0, words(1_000_000)), frameOf(FRAME.windowUpdate, 0, 1, words(1_000_000)));
    t.same(peer.lines(), []);
    t.equal(peer.connection.streams, 0);
  }
  t.end();
});
