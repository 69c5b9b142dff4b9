/**
 * gRPC server of envoy.service.ext_proc.v3.ExternalProcessor/Process.
 *
 * Carries bytes between Envoy, the stream state machine and the request router; decides nothing. Bounded by streams a
 * connection, bytes a body and bytes in total; a peer that does not read is not read from, and cut off in the end. A
 * stream that ends early aborts what it started.
 */
import { NAMESPACE_METADATA } from "../../kinds/names.ts";
import type { Cancel, Clock, Log, Metrics, Timers } from "../../ports.ts";
import type { Answer, Begun, CompleteRequest, RequestRouter, Routed, Ticket } from "../exchange.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { CODE } from "../http2/frames.ts";
import { blockOf } from "../http2/hpack.ts";
import { startHttp2Server, type Http2Server, type Tls } from "../http2/server.ts";
import type { OpenStream, StreamListener } from "../http2/stream.ts";
import { decodeRequest, encodeReplies } from "./codec.ts";
import { Deframer, GRPC, MessageTooLarge } from "./grpc.ts";
import { Outbox, type Owner } from "./outbox.ts";
import { ExchangeStream, type Action, type StreamEvent } from "./stream.ts";
import { Waiting } from "./waiting.ts";
import { WireError } from "./wire.ts";

const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/** Headers and framing beside the largest body in one BUFFERED message. */
const MESSAGE_SLACK = 1024 * 1024;
const MIB = 1024 * 1024;
/** Proxies hold one connection for each of their threads. */
const MAX_CONNECTIONS = 1024;
/** Measured settings of the reference: windows of 1 MiB keep long prompts from stalling. */
const LIMITS = {
  streamWindow: MIB,
  connectionWindow: 16 * MIB,
  maxHeaderBytes: 65_536,
  /** Envoy ends a stream by a reset where an answer has no trailers, so every request is one (docs/adr/0001). */
  resetsPerSecond: 50_000,
  /** A proxy grants a window once for every half of it that it took; small answers need none. */
  grantsPerSecond: 10_000,
  /** grpc-go asks with a PING after each of its reads, on loopback some thousand times a second. */
  idleFramesPerSecond: 10_000,
  settingsPerSecond: 100,
  faultsPerSecond: 100,
} as const;

export interface ExtProcOptions {
  readonly router: RequestRouter;
  /** Of one connection. */
  readonly maxStreams: number;
  readonly maxConnections?: number;
  /** Bytes held at once over all streams: incomplete messages, request bodies, replies that the peer has not taken. */
  readonly maxBufferedBytes: number;
  readonly tls?: Tls;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: Metrics;
}

type Scope = Pick<CompleteRequest, "namespace">;
const NO_SCOPE: Scope = {};

/** What all streams of a server share. */
interface Shared extends ExtProcOptions {
  readonly waiting: Waiting<Exchange>;
  streams: number;
  buffered: number;
}

/** So often in the time that a request may take to be here, late ones are looked for. */
const LOOKS = 10;

export async function startExtProcServer(
  listen: { host: string; port: number },
  options: ExtProcOptions,
): Promise<Http2Server> {
  const { router, timers } = options;
  const shared: Shared = { ...options, waiting: new Waiting(LOOKS), streams: 0, buffered: 0 };
  const { maxStreams, maxConnections = MAX_CONNECTIONS } = options;
  const server = await startHttp2Server(listen, {
    ...options,
    limits: { ...LIMITS, maxStreams },
    maxConnections,
    opened: (stream, headers) => {
      const path = headerOf(headers, ":path");
      if (path === METHOD) new Exchange(stream, scopeOf(headers), shared);
      else stream.respond(refusal(GRPC.unimplemented, `method ${path} is not served here`), true);
    },
  });
  const unwatch = timers.every(router.bodyTimeoutMs / LOOKS, () => {
    for (const exchange of shared.waiting.tick()) exchange.late();
  });
  return { ...server, stop: (graceMs) => server.stop(graceMs).finally(unwatch) };
}

/** Two of a name are two words about one thing, and no namespace: nothing is served to such a stream. */
function scopeOf(headers: HeaderList): Scope {
  const given = headers.filter(([name]) => name === NAMESPACE_METADATA).map(([, value]) => value);
  return given.length === 0 ? NO_SCOPE : { namespace: given.join() };
}

/** Characters of a status message: it may hold a path of the peer, and goes into one frame. */
const MAX_MESSAGE = 1000;

const HEAD: HeaderList = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
const ANSWER_HEAD = blockOf(HEAD);

const statusOf = (code: number, message = ""): HeaderList => [
  ["grpc-status", String(code)],
  ...(message === ""
    ? []
    : [["grpc-message", encodeURIComponent(message.slice(0, MAX_MESSAGE).toWellFormed())] as const]),
];
const DONE = blockOf(statusOf(GRPC.ok));
const UNANSWERED = blockOf(statusOf(GRPC.cancelled, "ended before the request was answered"));

const refusal = (code: number, message: string): Buffer => blockOf([...HEAD, ...statusOf(code, message)]);

/** One stream: frames in, events to the state machine, actions out. */
class Exchange implements StreamListener, Owner {
  readonly #stream: OpenStream;
  readonly #shared: Shared;
  readonly #machine: ExchangeStream;
  readonly #frames: Deframer;
  readonly #out: Outbox;
  readonly #scope: Scope;
  #ticket: Ticket | undefined;
  /** Why it failed. */
  #failure: Buffer | undefined;
  #held = 0;
  #over = false;
  #cancelTimer: Cancel | undefined;

  constructor(stream: OpenStream, scope: Scope, shared: Shared) {
    this.#stream = stream;
    this.#scope = scope;
    this.#shared = shared;
    this.#machine = new ExchangeStream(shared.router.maxBodyBytes, shared.router.patienceMs);
    this.#frames = new Deframer(shared.router.maxBodyBytes + MESSAGE_SLACK);
    this.#out = new Outbox(stream, shared.timers, this);
    shared.streams += 1;
    shared.waiting.add(this);
    shared.metrics.gauge("tandem_router_streams", shared.streams);
    stream.listener = this;
    stream.respond(ANSWER_HEAD);
  }

  data(chunk: Buffer): void {
    this.#receive(chunk);
  }

  /** The request is still not here whole. */
  late(): void {
    if (this.#machine.answerable) this.#overflow(this.#shared.router.tooSlow(this.#machine.path));
  }

  ended(): void {
    this.#finish();
  }

  drained(): void {
    this.#out.drained();
    this.#account();
  }

  closed(): void {
    this.#out.closed();
    this.#release();
  }

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      for (const message of this.#frames.push(chunk)) this.#feed(decodeRequest(message));
      if (!this.#account()) this.#overflow(this.#shared.router.saturated(this.#machine.path));
    } catch (error) {
      if (error instanceof MessageTooLarge) this.#overflow(this.#shared.router.tooLarge(this.#machine.path));
      else if (error instanceof WireError) this.#fail(GRPC.invalidArgument, error.message);
      else throw error;
    }
  }

  #feed(event: StreamEvent): void {
    if (this.#over) return;
    const actions = this.#machine.advance(event);
    if (!this.#account()) {
      this.#overflow(this.#shared.router.saturated(this.#machine.path));
      return;
    }
    const replies = actions.flatMap((action) => (action.kind === "reply" ? [action.reply] : []));
    if (replies.length > 0) this.#out.send(encodeReplies(replies));
    for (const action of actions) if (action.kind !== "reply" && !this.#carryOut(action)) return;
  }

  /** Counts the bytes held; false where they grew beyond what all streams may hold. */
  #account(): boolean {
    if (this.#stream.closed) return true;
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
        this.#routed(this.#shared.router.tooLarge(this.#machine.path));
        return false;
      case "timer":
        this.#untimed();
        this.#cancelTimer = this.#shared.timers.after(action.ms, () => this.#feed({ kind: action.event }));
        return true;
      default:
        this.#tell(action);
        return true;
      case "close":
        this.#finish();
        return false;
      case "violation":
        this.#fail(GRPC.invalidArgument, action.detail);
        return false;
    }
  }

  /** What the ticket of the request must know. */
  #tell(
    action: Extract<Action, { kind: "served" | "responseStarted" | "firstToken" | "responseEnded" | "abandoned" }>,
  ): void {
    const ticket = this.#ticket;
    if (ticket === undefined) return;
    if (action.kind === "served") ticket.served(action.address);
    else if (action.kind === "abandoned") ticket.finish();
    else if (action.kind === "responseEnded") this.#settle(ticket, true);
    else if (action.kind === "responseStarted") ticket.responseStarted(action.failed);
    else ticket.firstToken();
  }

  /** The request is over; what its answer said of its tokens is told once, however it ended. */
  #settle(ticket: Ticket, complete = false): void {
    this.#ticket = undefined;
    const { usage } = this.#machine;
    if (usage !== undefined) ticket.usage(usage);
    ticket.finish(complete);
  }

  #untimed(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #route({ ticket, routed }: Begun): void {
    this.#shared.waiting.delete(this);
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
    this.#untimed();
    this.#feed({ kind: "routed", routed });
    if (routed.kind === "forward") void routed.deserted?.then((answer) => this.#feed({ kind: "deserted", answer }));
    // Owed, whatever they weigh: they count against what comes next.
    this.#account();
  }

  giveUp(): void {
    this.#shared.log.warn("ext_proc stream cut off: the peer does not read", { unsent: this.#out.unsent });
    this.#stream.reset(CODE.cancel);
  }

  /** The one place in which a stream ends of itself. */
  #finish(): void {
    this.#over = true;
    this.#shared.waiting.delete(this);
    this.#untimed();
    if (this.#ticket !== undefined) this.#settle(this.#ticket);
    this.#out.end(this.#failure ?? this.#ending());
  }

  /** An end that is OK tells Envoy to go on without us: never while the request has no destination and no answer. */
  #ending(): Buffer {
    return this.#machine.answerable ? UNANSWERED : DONE;
  }

  #fail(code: number, message: string): void {
    if (this.#over) return;
    this.#shared.log.warn("ext_proc stream ended", { code, message });
    this.#failure = blockOf(statusOf(code, message));
    this.#finish();
  }

  #release(): void {
    this.#over = true;
    this.#shared.waiting.delete(this);
    this.#untimed();
    if (this.#ticket !== undefined) this.#settle(this.#ticket);
    this.#shared.buffered -= this.#held;
    this.#held = 0;
    this.#shared.streams -= 1;
    this.#shared.metrics.gauge("tandem_router_streams", this.#shared.streams);
  }
}
