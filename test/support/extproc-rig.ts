/** The ext_proc server before a scripted router, and a peer of it that node:http2 speaks for. */
import { once } from "node:events";
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import type { Metrics, Timers } from "../../src/ports.ts";
import type { Answer, RequestRouter, Routed } from "../../src/router/exchange.ts";
import type { Modes } from "../../src/router/extproc/codec.ts";
import { Deframer, frame } from "../../src/router/extproc/grpc.ts";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import type { Http2Server } from "../../src/router/http2/server.ts";
import { decodeReply, encodeBody, encodeHeaders } from "../../src/simulator/gateway/codec.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";

export const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
export const MIB = 1024 * 1024;
export const answer = (status: number): Answer => ({
  kind: "answer",
  status,
  headers: [],
  body: Buffer.from("{}"),
  reason: "Saturated",
});

export interface Rig {
  readonly server: Http2Server;
  readonly session: ClientHttp2Session;
  /** Tickets begun and not finished; streams open. */
  readonly open: { tickets: number; streams: number; begun: number };
  readonly stop: () => Promise<void>;
}

export interface RigOptions {
  readonly route?: (body: Buffer) => Promise<Routed>;
  readonly maxBodyBytes?: number;
  readonly maxBufferedBytes?: number;
  readonly bodyTimeoutMs?: number;
  readonly timers?: Timers;
}

export const echo = (body: Buffer): Promise<Routed> =>
  Promise.resolve({ kind: "forward", destination: "10.0.0.1:80", requestHeaders: [], responseHeaders: [], body });

export async function rig(options: RigOptions = {}): Promise<Rig> {
  const open = { tickets: 0, streams: 0, begun: 0 };
  const router: RequestRouter = {
    maxBodyBytes: options.maxBodyBytes ?? MIB,
    bodyTimeoutMs: options.bodyTimeoutMs ?? 60_000,
    patienceMs: 1000,
    begin: ({ body }) => {
      open.tickets += 1;
      open.begun += 1;
      let finished = false;
      const finish = (): void => {
        if (!finished) open.tickets -= 1;
        finished = true;
      };
      const nothing = (): void => undefined;
      return {
        ticket: { served: nothing, responseStarted: nothing, firstToken: nothing, usage: nothing, finish },
        routed: (options.route ?? echo)(body),
      };
    },
    precheck: () => undefined,
    tooLarge: () => answer(413),
    tooSlow: () => answer(408),
    saturated: () => answer(429),
  };
  const metrics: Metrics = {
    count: () => undefined,
    observe: () => undefined,
    gauge: (_, value) => (open.streams = value),
  };
  const server = await startExtProcServer(
    { host: "127.0.0.1", port: 0 },
    {
      router,
      maxStreams: 2000,
      maxBufferedBytes: options.maxBufferedBytes ?? 256 * MIB,
      clock: systemClock,
      timers: options.timers ?? systemTimers,
      log: SILENT_LOG,
      metrics,
    },
  );
  const session = connect(`http://${server.address}`, { settings: { initialWindowSize: 65_535 } });
  session.on("error", () => undefined);
  const stop = async (): Promise<void> => {
    session.destroy();
    await server.stop(1000);
  };
  return { server, session, open, stop };
}

export const openStream = (session: ClientHttp2Session): ClientHttp2Stream => {
  const stream = session.request({ ":method": "POST", ":path": METHOD, "content-type": "application/grpc" });
  stream.on("error", () => undefined);
  return stream;
};
export const framed = (message: Buffer): Buffer => Buffer.concat(frame([message]));
export const head = (request: Modes["request"], response: Modes["response"] = "NONE", endOfStream = false): Buffer =>
  framed(encodeHeaders("requestHeaders", [[":method", "POST"]], endOfStream, { request, response }));
export const body = (bytes: Buffer, endOfStream = true): Buffer =>
  framed(encodeBody("requestBody", bytes, endOfStream));
export const responseHead = framed(encodeHeaders("responseHeaders", [[":status", "200"]], false));

/** Throws where it does not come within 4 s of waiting. */
export const until = async (condition: () => boolean): Promise<void> => {
  for (let tries = 0; !condition(); tries++) {
    if (tries >= 3000) throw new Error(`never came: ${condition.toString()}`);
    await sleep(10);
  }
};

/** Status of the immediate answer that ends the stream. */
export async function immediateStatus(stream: ClientHttp2Stream): Promise<number | undefined> {
  const frames = new Deframer(64 * MIB);
  let status: number | undefined;
  stream.on("data", (chunk: Buffer) => {
    for (const message of frames.push(chunk)) status = decodeReply(message).status ?? status;
  });
  await once(stream, "close");
  return status;
}
