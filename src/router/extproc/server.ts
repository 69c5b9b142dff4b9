/**
 * gRPC server of envoy.service.ext_proc.v3.ExternalProcessor/Process over node:http2 (h2c).
 *
 * Carries bytes between Envoy, the stream state machine and the request router; decides nothing. Bounded by streams a
 * connection, bytes a body and bytes in total; a peer that does not read is not read from, and cut off in the end. A
 * stream that ends early aborts what it started.
 */
import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { NAMESPACE_METADATA } from "../../kinds/names.ts";
import type { Log, Metrics, Timers } from "../../ports.ts";
import type { Answer, Begun, CompleteRequest, RequestRouter, Routed, Ticket } from "../exchange.ts";
import { decodeRequest, encodeReplies } from "./codec.ts";
import { Deframer, GRPC, MessageTooLarge } from "./grpc.ts";
import { Outbox } from "./outbox.ts";
import { ExchangeStream, type Action, type StreamEvent } from "./stream.ts";
import { WireError } from "./wire.ts";

const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/** Headers and framing beside the largest body in one BUFFERED message. */
const MESSAGE_SLACK = 1024 * 1024;
const MIB = 1024 * 1024;
/**
 * Envoy ends a stream by a reset where an answer has no trailers, so every request is one: Node's own limit of 33 a
 * second (after 1,000) would cut each connection. This is far above what one connection can carry (docs/adr/0001).
 */
const RESETS_PER_SECOND = 20_000;

export interface ExtProcOptions {
  readonly router: RequestRouter;
  readonly maxStreams: number;
  /** Bytes held at once over all streams: incomplete messages, request bodies, replies that the peer has not taken. */
  readonly maxBufferedBytes: number;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface ExtProcServer {
  /** `host:port` it really listens on. */
  readonly address: string;
  /** No new streams (GOAWAY); resolves when running ones are done, or after `graceMs` cuts them. */
  stop(graceMs: number): Promise<void>;
}

type Scope = Pick<CompleteRequest, "namespace">;

/** What all streams of a server share. */
interface Shared extends ExtProcOptions {
  streams: number;
  buffered: number;
}

export async function startExtProcServer(
  listen: { host: string; port: number },
  options: ExtProcOptions,
): Promise<ExtProcServer> {
  const shared: Shared = { ...options, streams: 0, buffered: 0 };
  const server = createServer({
    // Measured settings of the reference: windows of 1 MiB keep long prompts from stalling, push is never used.
    settings: { maxConcurrentStreams: options.maxStreams, initialWindowSize: MIB, enablePush: false },
    maxSessionMemory: 256,
    maxHeaderListPairs: 64,
    streamResetBurst: RESETS_PER_SECOND,
    streamResetRate: RESETS_PER_SECOND,
  });
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(16 * MIB);
    session.on("error", (error: Error) => options.log.debug("ext_proc connection", { error: error.message }));
    session.once("close", () => sessions.delete(session));
  });
  server.on("sessionError", (error: Error) => options.log.debug("ext_proc connection", { error: error.message }));
  server.on("stream", (stream, headers) => {
    if (headers[":path"] === METHOD) new Exchange(stream, shared, scopeOf(headers));
    else refuse(stream, GRPC.unimplemented, `method ${headers[":path"] ?? ""} is not served here`);
  });
  await listening(server, listen);
  const { address, port } = server.address() as AddressInfo;
  return {
    address: `${address.includes(":") ? `[${address}]` : address}:${port}`,
    stop: (graceMs) => stop(server, sessions, options.timers, graceMs),
  };
}

const listening = (server: Http2Server, listen: { host: string; port: number }): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, () => {
      server.off("error", reject);
      resolve();
    });
  });

function stop(
  server: Http2Server,
  sessions: ReadonlySet<ServerHttp2Session>,
  timers: Timers,
  graceMs: number,
): Promise<void> {
  return new Promise((resolve) => {
    const cancel = timers.after(graceMs, () => {
      for (const session of sessions) session.destroy();
    });
    server.close(() => {
      cancel();
      resolve();
    });
    for (const session of sessions) session.close();
  });
}

/** Several values are joined by commas, and are no namespace: nothing is served to such a stream. */
function scopeOf(headers: IncomingHttpHeaders): Scope {
  const namespace = headers[NAMESPACE_METADATA];
  return namespace === undefined ? {} : { namespace: String(namespace) };
}

function refuse(stream: ServerHttp2Stream, code: number, message: string): void {
  stream.on("error", () => undefined);
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc",
      "grpc-status": String(code),
      "grpc-message": encodeURIComponent(message),
    },
    { endStream: true },
  );
}

/** One stream: frames in, events to the state machine, actions out. */
class Exchange {
  readonly #stream: ServerHttp2Stream;
  readonly #shared: Shared;
  readonly #machine: ExchangeStream;
  readonly #frames: Deframer;
  readonly #out: Outbox;
  readonly #scope: Scope;
  #ticket: Ticket | undefined;
  #trailers: Record<string, string> = { "grpc-status": String(GRPC.ok) };
  #held = 0;
  #over = false;

  constructor(stream: ServerHttp2Stream, shared: Shared, scope: Scope) {
    this.#stream = stream;
    this.#scope = scope;
    this.#shared = shared;
    this.#machine = new ExchangeStream(shared.router.maxBodyBytes);
    this.#frames = new Deframer(shared.router.maxBodyBytes + MESSAGE_SLACK);
    this.#out = new Outbox(stream, shared.timers, () => this.#giveUp());
    shared.streams += 1;
    shared.metrics.gauge("tandem_router_streams", shared.streams);
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => {
      stream.sendTrailers(this.#trailers);
      // The peer has its answer: what it still sends is of no use.
      setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
    });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("drain", () => this.#account());
    stream.on("end", () => this.#finish());
    stream.on("error", (error) => shared.log.debug("ext_proc stream", { error: error.message }));
    stream.once("close", () => this.#release());
  }

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      for (const message of this.#frames.push(chunk)) this.#feed(decodeRequest(message));
      if (!this.#account()) this.#overflow(this.#shared.router.saturated());
    } catch (error) {
      if (error instanceof MessageTooLarge) this.#overflow(this.#shared.router.tooLarge());
      else if (error instanceof WireError) this.#fail(GRPC.invalidArgument, error.message);
      else throw error;
    }
  }

  #feed(event: StreamEvent): void {
    if (this.#over) return;
    const actions = this.#machine.advance(event);
    if (!this.#account()) {
      this.#overflow(this.#shared.router.saturated());
      return;
    }
    this.#out.send(encodeReplies(actions.flatMap((action) => (action.kind === "reply" ? [action.reply] : []))));
    for (const action of actions) if (action.kind !== "reply" && !this.#carryOut(action)) return;
  }

  /** Counts the bytes held; false where they grew beyond what all streams may hold. */
  #account(): boolean {
    if (this.#stream.destroyed) return true;
    const change = this.#machine.held + this.#frames.held + this.#out.unsent - this.#held;
    this.#held += change;
    this.#shared.buffered += change;
    return change <= 0 || this.#over || this.#shared.buffered <= this.#shared.maxBufferedBytes;
  }

  /** Too much: an answer where one is still possible, else the end. */
  #overflow(answer: Answer): void {
    if (this.#machine.answerable) this.#routed(answer);
    else this.#fail(GRPC.resourceExhausted, answer.reason);
  }

  /** False once nothing more may follow. */
  #carryOut(action: Exclude<Action, { kind: "reply" }>): boolean {
    switch (action.kind) {
      case "precheck": {
        const refusal = this.#shared.router.precheck({ ...action.head, ...this.#scope });
        if (refusal !== undefined) this.#routed(refusal);
        return refusal === undefined;
      }
      case "route":
        this.#route(this.#shared.router.begin({ ...action.request, ...this.#scope }));
        return true;
      case "tooLarge":
        this.#routed(this.#shared.router.tooLarge());
        return false;
      case "responseStarted":
      case "firstToken":
        this.#ticket?.[action.kind]();
        return true;
      case "close":
        this.#finish();
        return false;
      case "violation":
        this.#fail(GRPC.invalidArgument, action.detail);
        return false;
    }
  }

  #route({ ticket, routed }: Begun): void {
    this.#ticket = ticket;
    routed.then(
      (outcome) => this.#routed(outcome),
      (error: unknown) => {
        this.#shared.log.error("routing failed", { error: error instanceof Error ? error.stack : String(error) });
        this.#fail(GRPC.internal, "routing failed");
      },
    );
  }

  #routed(routed: Routed): void {
    this.#feed({ kind: "routed", routed });
  }

  #giveUp(): void {
    this.#shared.log.warn("ext_proc stream cut off: the peer does not read", { unsent: this.#out.unsent });
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  #finish(): void {
    this.#over = true;
    this.#ticket?.finish();
    this.#out.end();
  }

  #fail(code: number, message: string): void {
    if (this.#over) return;
    this.#shared.log.warn("ext_proc stream ended", { code, message });
    this.#trailers = { "grpc-status": String(code), "grpc-message": encodeURIComponent(message) };
    this.#finish();
  }

  #release(): void {
    this.#over = true;
    this.#ticket?.finish();
    this.#shared.buffered -= this.#held;
    this.#held = 0;
    this.#shared.streams -= 1;
    this.#shared.metrics.gauge("tandem_router_streams", this.#shared.streams);
  }
}
