/** The ext_proc server against peers that stall, vanish, lie and flood. The router behind it is scripted. */
import t from "tap";
import fc from "fast-check";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type ClientHttp2Stream } from "node:http2";
import { encodeBody, encodeTrailers, decodeReply } from "../../src/simulator/gateway/codec.ts";
import { Deframer } from "../../src/router/extproc/grpc.ts";
import { STALLED_MS } from "../../src/router/extproc/outbox.ts";
import type { Routed } from "../../src/router/exchange.ts";
import type { Timers } from "../../src/ports.ts";
import {
  MIB,
  body,
  echo,
  framed,
  head,
  immediateStatus,
  openStream,
  responseHead,
  rig,
  until,
} from "../support/extproc-rig.ts";

t.test("a peer that does not read is not read from, and gets everything once it does", async (t) => {
  const { session, open, stop } = await rig();
  const stream = openStream(session);
  stream.pause();
  stream.write(Buffer.concat([head("BUFFERED", "FULL_DUPLEX_STREAMED", true), responseHead]));
  const chunk = framed(encodeBody("responseBody", Buffer.alloc(60_000, "x"), false));
  const count = 600;
  let sent = 0;
  const sending = (async () => {
    for (; sent < count; sent++) if (!stream.write(chunk)) await once(stream, "drain");
  })();
  await sleep(700);
  t.ok(sent * chunk.length < 4 * MIB, `${sent} of ${count} chunks left the client`);
  let received = 0;
  const frames = new Deframer(MIB);
  stream.on("data", (bytes: Buffer) => {
    for (const message of frames.push(bytes)) received += decodeReply(message).streamed?.chunk.length ?? 0;
  });
  stream.resume();
  await sending;
  await until(() => received === count * 60_000);
  t.equal(received, count * 60_000);
  stream.close();
  await until(() => open.streams === 0);
  t.same(open, { tickets: 0, streams: 0, begun: 1 });
  await stop();
});

t.test("a peer that takes nothing at all is cut off, one that takes a little is not", async (t) => {
  const due: { ms: number; task: () => void }[] = [];
  const timers: Timers = {
    after: (ms, task) => {
      const entry = { ms, task };
      due.push(entry);
      return () => void due.splice(due.indexOf(entry), due.includes(entry) ? 1 : 0);
    },
    every: () => () => undefined,
  };
  const { session, open, stop } = await rig({ timers });
  const stream = openStream(session);
  stream.pause();
  stream.write(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(900_000))]));
  await until(() => due.length > 0);
  t.equal(due[0]?.ms, STALLED_MS);
  let taken = 0;
  stream.on("data", (chunk: Buffer) => {
    taken += chunk.length;
    if (taken > 200_000) stream.pause();
  });
  stream.resume();
  await sleep(100);
  due.shift()?.task();
  t.equal(due.length, 1, "it took some: looked at again");
  t.equal(open.streams, 1);
  due.shift()?.task();
  await until(() => open.streams === 0);
  t.same(open, { tickets: 0, streams: 0, begun: 1 });
  await stop();
});

t.test("what streams hold is counted as it comes and given back as it goes", async (t) => {
  const { session, open, stop } = await rig({ maxBodyBytes: 4 * MIB, maxBufferedBytes: 3 * MIB });
  const send = (...parts: Buffer[]): ClientHttp2Stream => {
    const stream = openStream(session);
    stream.write(Buffer.concat(parts));
    return stream;
  };
  const partial = body(Buffer.alloc(2 * MIB)).subarray(0, 2 * MIB);
  const first = send(head("BUFFERED"), partial);
  await sleep(200);
  t.equal(await immediateStatus(send(head("BUFFERED"), partial)), 429, "incomplete messages count");
  first.close(8);
  await until(() => open.streams === 0);
  // Forwarded requests hold their streams, not their bodies.
  const running: ClientHttp2Stream[] = [];
  while (running.length < 10) {
    const stream = send(head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(MIB)));
    let taken = 0;
    stream.on("data", (chunk: Buffer) => (taken += chunk.length));
    running.push(stream);
    // Its reply counts until it is taken: on a busy machine the next body would be one too many.
    await until(() => open.begun === running.length && taken > MIB);
    await sleep(20);
  }
  t.same(open, { tickets: 10, streams: 10, begun: 10 });
  for (const stream of running) stream.close(8);
  await until(() => open.streams === 0);
  t.equal(open.tickets, 0);
  await stop();
});

t.test("replies that the peer does not take are counted, and given back once it does or goes", async (t) => {
  const { server, session, open, stop } = await rig({ maxBufferedBytes: 3.5 * MIB });
  const mute = connect(`http://${server.address}`, { settings: { initialWindowSize: 0 } });
  mute.on("error", () => undefined);
  for (let stream = 1; stream <= 4; stream++) {
    openStream(mute)
      .resume()
      .write(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(MIB))]));
    await sleep(100);
  }
  t.equal(open.begun, 3, "the fourth is refused");
  const next = (): Promise<number | undefined> => {
    const stream = openStream(session);
    stream.write(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(600_000), false)]));
    stream.end();
    return immediateStatus(stream);
  };
  t.equal(await next(), 429);
  mute.destroy();
  await until(() => open.streams === 0);
  t.equal(await next(), undefined);
  await stop();
});

t.test("too large is 413 in every shape, and the answer comes while the body still streams", async (t) => {
  const { session, open, stop } = await rig({ maxBodyBytes: 100_000 });
  const shapes: [string, Buffer[]][] = [
    ["one message over the limit", [head("BUFFERED"), body(Buffer.alloc(200_000))]],
    ["one message far over the limit", [head("BUFFERED"), body(Buffer.alloc(3 * MIB))]],
    [
      "chunks that never end",
      [head("FULL_DUPLEX_STREAMED"), ...Array<Buffer>(40).fill(body(Buffer.alloc(60_000), false))],
    ],
  ];
  for (const [name, parts] of shapes) {
    const stream = openStream(session);
    const status = immediateStatus(stream);
    for (const part of parts) stream.write(part);
    t.equal(await status, 413, name);
  }
  t.same(open, { tickets: 0, streams: 0, begun: 0 });
  await stop();
});

t.test("a body in many small pieces arrives whole", async (t) => {
  const bodies: Buffer[] = [];
  const { session, open, stop } = await rig({ route: (whole) => (bodies.push(Buffer.from(whole)), echo(whole)) });
  const text = Buffer.from("0123456789abcdef".repeat(600));
  const stream = openStream(session);
  stream.write(head("FULL_DUPLEX_STREAMED"));
  for (let i = 0; i < text.length; i++) stream.write(body(text.subarray(i, i + 1), i === text.length - 1));
  await until(() => open.begun === 1);
  t.ok(bodies[0]?.equals(text));
  await stop();
});

t.test("a reset at any point releases what the request holds, once", async (t) => {
  let settle: (routed: Routed) => void = () => undefined;
  const late = (): Promise<Routed> => new Promise((resolve) => (settle = resolve));
  for (const route of [echo, late, () => Promise.reject(new Error("a bug"))]) {
    const { session, open, stop } = await rig({ route });
    const steps = [
      head("FULL_DUPLEX_STREAMED"),
      body(Buffer.alloc(10), false),
      body(Buffer.alloc(10)),
      responseHead,
      framed(encodeTrailers("responseTrailers")),
    ];
    for (let cut = 0; cut <= steps.length; cut++)
      for (const inside of [0, 3]) {
        const stream = openStream(session);
        stream.resume();
        stream.write(
          Buffer.concat([Buffer.alloc(0), ...steps.slice(0, cut), (steps[cut] ?? Buffer.alloc(0)).subarray(0, inside)]),
        );
        await sleep(5);
        stream.close(8);
      }
    await until(() => open.streams === 0);
    const whole = await echo(Buffer.alloc(1));
    settle(whole);
    await sleep(20);
    t.match(open, { tickets: 0, streams: 0 });
    t.ok(open.begun > 0, "some had begun");
    await stop();
  }
});

t.test("a pick that waits asks Envoy once for more time, only where Envoy has a timer", async (t) => {
  const { session, open, stop } = await rig({ route: () => new Promise(() => undefined) });
  for (const [mode, wanted] of [
    ["BUFFERED", [1000]],
    ["STREAMED", [1000]],
    ["FULL_DUPLEX_STREAMED", []],
  ] as const) {
    const stream = openStream(session);
    const frames = new Deframer(MIB);
    const waits: number[] = [];
    stream.on("data", (chunk: Buffer) => {
      for (const { waitMs } of frames.push(chunk).map(decodeReply)) if (waitMs !== undefined) waits.push(waitMs);
    });
    stream.write(Buffer.concat([head(mode), ...(mode === "STREAMED" ? [] : [body(Buffer.from("{}"))])]));
    await sleep(400);
    t.same(waits, wanted, mode);
    stream.close(8);
  }
  await until(() => open.streams === 0);
  t.match(open, { tickets: 0, streams: 0 });
  await stop();
});

t.test("an answer that is not the engine's passes, and ends what was begun for the request", async (t) => {
  const { session, open, stop } = await rig({ route: () => new Promise(() => undefined) });
  const told = async (first: Buffer): Promise<string[]> => {
    const stream = openStream(session);
    const frames = new Deframer(MIB);
    const kinds: string[] = [];
    stream.on("data", (chunk: Buffer) => kinds.push(...frames.push(chunk).map((_, index) => String(index))));
    stream.write(first);
    await sleep(50);
    stream.write(responseHead);
    await until(() => kinds.length > 0);
    return kinds;
  };
  t.same(await told(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.from("{}"))])), ["0"], "while we look");
  t.same(open, { tickets: 0, streams: 1, begun: 1 }, "the ticket is finished although the stream goes on");
  t.same(await told(Buffer.alloc(0)), ["0"], "of a filter before ours, with nothing before it");
  await stop();
});

t.test("2000 streams on one connection, each answered and released", async (t) => {
  const { session, open, stop } = await rig();
  await once(session, "remoteSettings");
  let most = 0;
  const one = async (): Promise<boolean> => {
    const stream = openStream(session);
    const frames = new Deframer(MIB);
    let done = false;
    stream.on("data", (chunk: Buffer) => {
      for (const message of frames.push(chunk)) if (decodeReply(message).streamed?.endOfStream === true) done = true;
      most = Math.max(most, open.streams);
      if (done && open.begun === 2000) stream.end();
    });
    stream.write(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(2000))]));
    await until(() => open.begun === 2000);
    stream.end();
    await once(stream, "close");
    return done;
  };
  const done = await Promise.all(Array.from({ length: 2000 }, one));
  t.equal(done.filter(Boolean).length, 2000);
  t.equal(most, 2000);
  await until(() => open.streams === 0);
  t.same(open, { tickets: 0, streams: 0, begun: 2000 });
  await stop();
});

t.test("mutated messages in any order end their own stream only", { timeout: 60_000 }, async (t) => {
  const { session, open, stop } = await rig();
  const pieces = [
    head("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED"),
    head("BUFFERED"),
    head("BUFFERED", "NONE", true),
    body(Buffer.from("{}")),
    body(Buffer.from("{"), false),
    framed(encodeTrailers("requestTrailers")),
    responseHead,
    framed(encodeBody("responseBody", Buffer.from("x"), true)),
    framed(encodeTrailers("responseTrailers")),
  ];
  const flips = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 7 }),
      flips,
      async (parts, changes) => {
        const bytes = Buffer.concat(parts);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const stream = openStream(session);
        stream.resume();
        stream.end(bytes);
        await once(stream, "close");
        return !session.destroyed;
      },
    ),
    { numRuns: 1500 },
  );
  await until(() => open.streams === 0);
  t.match(open, { tickets: 0, streams: 0 });
  await stop();
});

t.test("a graceful stop lets running streams finish and cuts them after the grace", async (t) => {
  const { server, session, open } = await rig();
  const start = (): ClientHttp2Stream => {
    const stream = openStream(session);
    stream.resume();
    stream.write(Buffer.concat([head("FULL_DUPLEX_STREAMED"), body(Buffer.alloc(10))]));
    return stream;
  };
  const [short, long] = [start(), start()];
  await until(() => open.begun === 2);
  const started = performance.now();
  const stopped = server.stop(500);
  await sleep(50);
  short.end(Buffer.concat([responseHead, framed(encodeTrailers("responseTrailers"))]));
  await once(short, "close");
  t.equal(short.rstCode, 0, "a running stream ends well");
  t.equal(open.streams, 1);
  await stopped;
  const took = performance.now() - started;
  t.ok(took > 400 && took < 3000, `${Math.round(took)} ms`);
  t.same(open, { tickets: 0, streams: 0, begun: 2 });
  await until(() => long.destroyed || long.closed);
  t.ok(long.destroyed || long.closed);
  session.destroy();
});
