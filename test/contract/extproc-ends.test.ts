/**
 * How a stream ends, whatever came before: an end that is OK tells Envoy to go on without us, so it never comes before
 * the request has its destination or its answer.
 */
import t from "tap";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientHttp2Stream } from "node:http2";
import type { Timers } from "../../src/ports.ts";
import type { Answer, Routed } from "../../src/router/exchange.ts";
import { BODY_MODES } from "../../src/router/extproc/codec.ts";
import { Deframer } from "../../src/router/extproc/grpc.ts";
import { LATE_MS } from "../../src/router/extproc/modes.ts";
import { boolField } from "../../src/router/extproc/wire.ts";
import { decodeReply, encodeHeaders, encodeTrailers } from "../../src/simulator/gateway/codec.ts";
import { systemTimers } from "../../src/telemetry/process.ts";
import {
  MIB,
  METHOD,
  answer,
  body,
  echo,
  framed,
  head,
  openStream,
  responseHead,
  rig,
} from "../support/extproc-rig.ts";
import { until, type Rig, type RigOptions } from "../support/extproc-rig.ts";

/** Replies in order, then how it ended: `status 0`, or `reset` without one. */
async function lived(stream: ClientHttp2Stream, lines: string[] = []): Promise<readonly string[]> {
  const frames = new Deframer(64 * MIB);
  let status: unknown;
  stream.on("data", (chunk: Buffer) => {
    for (const message of frames.push(chunk)) {
      const { phase, kind } = decodeReply(message);
      lines.push(kind === "immediate" ? "answer" : `${phase} ${kind}`);
    }
  });
  for (const event of ["response", "trailers"])
    stream.on(event, (headers: Record<string, unknown>) => (status = headers["grpc-status"] ?? status));
  await once(stream, "close");
  return [...lines, status === undefined ? "reset" : `status ${status as string}`];
}

const END = "end";
/** The prefill is lost. */
const LOSE = "lose";
const BOTH = ["request headers", "request body"] as const;
const never = (): Promise<Routed> => new Promise(() => undefined);
const refused = (): Promise<Routed> => Promise.resolve(answer(503));
/** Forwarded to an engine that waits in vain, which `lose` tells. */
const deserted = async (bytes: Buffer): Promise<Routed> => {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  lose = () => resolve(answer(503));
  const to = await echo(bytes);
  return to.kind === "forward" ? { ...to, deserted: promise } : to;
};
let lose = (): void => undefined;
const broken = (): Promise<Routed> => Promise.reject(new Error("a bug"));
/** Nobody is late. */
const PATIENT: Timers = {
  ...systemTimers,
  after: (ms, task) => (ms === LATE_MS ? () => undefined : systemTimers.after(ms, task)),
};
const PART = body(Buffer.from("{"), false);
const WHOLE = body(Buffer.from("{}"));
const MESSAGE = encodeHeaders("requestHeaders", [[":method", "POST"]], true, { request: "NONE", response: "NONE" });
const observed = framed(Buffer.concat([MESSAGE, boolField(10, true)]));
const trailers = framed(encodeTrailers("requestTrailers"));

type Row = readonly [
  what: string,
  /** A number: so many replies are waited for. */
  sent: readonly (Buffer | typeof END | typeof LOSE | number)[],
  lines: readonly string[],
  options?: RigOptions,
];

const ROWS: readonly Row[] = [
  ["half-closed at once", [END], ["status 1"]],
  ["half-closed in a message", [head("NONE").subarray(0, 9), END], ["status 1"]],
  ...BODY_MODES.filter((mode) => mode !== "GRPC").map((mode): Row => {
    const first = mode.startsWith("BUFFERED") ? ["request headers"] : [];
    return [`half-closed after headers, ${mode}`, [head(mode), END], [...first, "status 1"], { route: never }];
  }),
  ["half-closed in the body", [head("FULL_DUPLEX_STREAMED"), PART, END], ["status 1"]],
  ["half-closed while routed", [head("FULL_DUPLEX_STREAMED"), WHOLE, END], ["status 1"], { route: never }],
  ["half-closed while routed", [head("BUFFERED"), WHOLE, END], ["request headers", "status 1"], { route: never }],
  ["half-closed while routed", [head("NONE", "NONE", true), END], ["status 1"], { route: never }],
  ["forwarded", [head("NONE", "NONE", true), 1, END], ["request headers", "status 0"]],
  ["forwarded", [head("FULL_DUPLEX_STREAMED"), WHOLE, 2, END], ["request headers", "request body", "status 0"]],
  ["forwarded", [head("BUFFERED"), WHOLE, 2, END], ["request headers", "request body", "status 0"]],
  [
    "forwarded, and answered",
    [head("NONE", "NONE", true), 1, responseHead, END],
    ["request headers", "response headers", "status 0"],
  ],
  ["answered", [head("FULL_DUPLEX_STREAMED"), WHOLE], ["answer", "status 0"], { route: refused }],
  ["answered", [head("BUFFERED"), WHOLE], ["request headers", "answer", "status 0"], { route: refused }],
  ["body too large", [head("FULL_DUPLEX_STREAMED"), WHOLE], ["answer", "status 0"], { maxBodyBytes: 1 }],
  ["too much held", [head("FULL_DUPLEX_STREAMED"), WHOLE], ["answer", "status 0"], { maxBufferedBytes: 1 }],
  ["a mode that is not served", [head("GRPC")], ["answer", "status 0"]],
  ["trailers without a body", [head("BUFFERED"), trailers], ["request headers", "answer", "status 0"]],
  ["deserted", [head("FULL_DUPLEX_STREAMED"), WHOLE, 2, LOSE], [...BOTH, "answer", "status 0"], { route: deserted }],
  ["deserted", [head("BUFFERED"), WHOLE, 2, LOSE], [...BOTH, "answer", "status 0"], { route: deserted }],
  ["deserted", [head("NONE", "NONE", true), 1, LOSE], ["request headers", "answer", "status 0"], { route: deserted }],
  [
    "deserted behind a whole answer",
    [head("BUFFERED"), WHOLE, 2, framed(encodeHeaders("responseHeaders", [[":status", "200"]], true)), 3, LOSE, END],
    [...BOTH, "response headers", "status 0"],
    { route: deserted },
  ],
  ["a bug", [head("FULL_DUPLEX_STREAMED"), WHOLE], ["status 13"], { route: broken }],
  ["a compressed message", [Buffer.of(1, 0, 0, 0, 0)], ["status 3"]],
  ["a message that is none", [framed(Buffer.of(0xff, 0xff))], ["status 3"]],
  ["an empty message", [framed(Buffer.alloc(0))], ["status 3"]],
  ["body before headers", [WHOLE], ["status 3"]],
  ["headers twice", [head("FULL_DUPLEX_STREAMED"), head("FULL_DUPLEX_STREAMED")], ["status 3"]],
  ["headers twice", [head("BUFFERED"), head("BUFFERED")], ["request headers", "status 3"]],
  ["Envoy does not listen", [observed, END], ["status 0"]],
  ["an earlier filter's answer", [responseHead, END], ["response headers", "status 0"]],
  ["an earlier filter's answer", [head("NONE"), responseHead, END], ["response headers", "status 0"], { route: never }],
];

/** `apart`: each part by itself, as often as its turn comes. */
async function exchange({ session }: Rig, sent: Row[1], apart: boolean): Promise<readonly string[]> {
  const stream = openStream(session);
  const lines: string[] = [];
  const told = lived(stream, lines);
  if (!apart) stream.cork();
  for (const part of sent) {
    if (part === END) stream.end();
    else if (part === LOSE) lose();
    else if (typeof part !== "number") stream.write(part);
    else await answered(stream, () => lines.length >= part);
    if (apart) await sleep(1);
  }
  stream.uncork();
  return told;
}

async function answered(stream: ClientHttp2Stream, condition: () => boolean): Promise<void> {
  stream.uncork();
  await until(condition);
}

t.test("a stream ends well only behind a destination or an answer", async (t) => {
  for (const [what, sent, lines, options] of ROWS) {
    const world = await rig(options);
    t.same(await exchange(world, sent, false), lines, what);
    t.same(await exchange(world, sent, true), lines, `${what}, in pieces`);
    await until(() => world.open.streams === 0);
    t.same([world.open.streams, world.open.tickets], [0, 0], `${what}: nothing stays`);
    await world.stop();
  }
});

t.test("a drain that lasts too long resets; a method that is not ours is an error", async (t) => {
  const { server, session, open } = await rig({ route: never, timers: PATIENT });
  const streams = [[], [head("NONE")], [head("BUFFERED"), PART], [head("FULL_DUPLEX_STREAMED"), WHOLE]].map((parts) => {
    const stream = openStream(session);
    stream.write(Buffer.concat(parts));
    return stream;
  });
  const ends = Promise.all(streams.map((stream) => lived(stream)));
  await until(() => open.streams === 4 && open.begun === 3);
  await server.stop(50);
  t.same(await ends, [["reset"], ["reset"], ["request headers", "reset"], ["reset"]]);
  session.destroy();
  const other = await rig();
  const stream = other.session.request({ ":method": "POST", ":path": `${METHOD}es` });
  t.same(await lived(stream), ["status 12"]);
  await other.stop();
});
