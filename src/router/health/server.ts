/**
 * gRPC health service (grpc.health.v1.Health/Check) for Envoy and the kubelet, on its own port.
 *
 * `liveness` always serves; `readiness`, the ext_proc service and the empty name serve once the router knows its
 * endpoints and until it drains. `Watch` is not served: probes poll.
 */
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { Deframer, frame, GRPC } from "../extproc/grpc.ts";
import { eachField, Reader, varintField, WireError } from "../extproc/wire.ts";

const CHECK = "/grpc.health.v1.Health/Check";
const SERVING = 1;
const NOT_SERVING = 2;
const NOT_FOUND = 5;
const MAX_REQUEST_BYTES = 1024;

const LIVENESS = "liveness";
const READINESS = new Set(["readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension", ""]);

export interface HealthServer {
  readonly address: string;
  /** Whether anybody ever asked; else nobody learns here that the router goes. */
  readonly asked: () => boolean;
  readonly stop: () => Promise<void>;
}

export async function startHealthServer(
  listen: { host: string; port: number },
  ready: () => boolean,
): Promise<HealthServer> {
  const server = createServer({ settings: { maxConcurrentStreams: 100 } });
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => undefined);
    session.once("close", () => sessions.delete(session));
  });
  let asked = false;
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    asked = true;
    if (headers[":path"] === CHECK) answer(stream, ready);
    else end(stream, GRPC.unimplemented);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  const at = `${address.includes(":") ? `[${address}]` : address}:${port}`;
  return { address: at, asked: () => asked, stop: () => stop(server, sessions) };
}

/** Probers keep their connections open: waiting for them to leave would never end. */
const stop = (server: Http2Server, sessions: ReadonlySet<ServerHttp2Session>): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    for (const session of sessions) session.destroy();
  });

/** Check is unary: the first message is the request, what follows is not read. */
function answer(stream: ServerHttp2Stream, ready: () => boolean): void {
  const frames = new Deframer(MAX_REQUEST_BYTES);
  stream.on("data", (chunk: Buffer) => {
    if (stream.headersSent) return;
    try {
      const [message] = frames.push(chunk);
      if (message !== undefined) reply(stream, serviceOf(message), ready);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      end(stream, GRPC.invalidArgument);
    }
  });
  stream.on("end", () => end(stream, GRPC.invalidArgument));
}

function serviceOf(message: Buffer): string {
  let service = "";
  eachField(new Reader(message), (field, reader) => {
    if (field === 1) service = reader.text();
    return field === 1;
  });
  return service;
}

function reply(stream: ServerHttp2Stream, service: string, ready: () => boolean): void {
  if (service !== LIVENESS && !READINESS.has(service)) {
    end(stream, NOT_FOUND);
    return;
  }
  const status = service === LIVENESS || ready() ? SERVING : NOT_SERVING;
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(Buffer.concat(frame([varintField(1, status)])));
}

function end(stream: ServerHttp2Stream, code: number): void {
  if (stream.headersSent || stream.destroyed || stream.closed) return;
  stream.respond(
    { ":status": 200, "content-type": "application/grpc", "grpc-status": String(code) },
    { endStream: true },
  );
}
