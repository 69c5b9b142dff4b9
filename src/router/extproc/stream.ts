/**
 * One ext_proc stream: the states a request passes through, what Envoy may send in each, and what we answer.
 *
 * Pure: `advance(state, event)` returns the actions to carry out. It never picks an endpoint and does no I/O. Envoy's
 * side of the contract is in processor_state.cc: an answer out of order is fatal (`spurious`, 500), so each reply below
 * stands in the one state in which it is legal.
 *
 * FULL_DUPLEX_STREAMED: the headers reply is held until the destination is known, then the whole body goes back in
 * chunks. BUFFERED: headers are answered at once, the destination follows with the body reply (Envoy holds the headers).
 */
import { HEADER, UNTRUSTED_HEADERS } from "../../kinds/names.ts";
import type { Answer, CompleteRequest, Forward, Routed } from "../exchange.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { BodyBuffer } from "./body.ts";
import type { BodyMode, Modes, ProcessingRequest, Reply } from "./codec.ts";

export type StreamEvent =
  | ProcessingRequest
  /** The router refuses by the headers alone, or finds that it may go on. */
  | { readonly kind: "routed"; readonly routed: Routed };

export type Action =
  | { readonly kind: "reply"; readonly reply: Reply }
  /** Headers are here: the router may refuse now. Answered by a `routed` event or not at all. */
  | { readonly kind: "precheck"; readonly head: Omit<CompleteRequest, "body"> }
  | { readonly kind: "route"; readonly request: CompleteRequest }
  | { readonly kind: "tooLarge" }
  | { readonly kind: "responseStarted" }
  | { readonly kind: "firstToken" }
  /** Nothing more will be said. */
  | { readonly kind: "close" }
  /** The peer broke the protocol. */
  | { readonly kind: "violation"; readonly detail: string };

type State = "headers" | "body" | "routing" | "forwarded" | "response" | "closed";

/** Envoy advises at most 64 KiB a chunk; the rest is room for framing. */
export const CHUNK_BYTES = 62_000;

const SUPPORTED: ReadonlySet<BodyMode> = new Set(["FULL_DUPLEX_STREAMED", "BUFFERED"]);

export class ExchangeStream {
  state: State = "headers";
  #modes: Modes = { request: "BUFFERED", response: "NONE" };
  #headers: HeaderList = [];
  readonly #body = new BodyBuffer();
  #received: Buffer | undefined;
  #bodiless = false;
  #trailers = false;
  #responseHeaders: HeaderList = [];
  #answering = false;
  readonly #maxBodyBytes: number;

  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Bytes of request body held: until the request is forwarded or answered. */
  get held(): number {
    return this.#body.held;
  }

  /** True while the request can still be answered by us. */
  get answerable(): boolean {
    return this.state === "headers" || this.state === "body" || this.state === "routing";
  }

  advance(event: StreamEvent): readonly Action[] {
    const handler = TABLE[this.state][event.kind];
    if (handler !== undefined) return handler(this, event as never);
    return [{ kind: "violation", detail: `${event.kind} in state ${this.state}` }];
  }

  requestHeaders(event: HeadersEvent): readonly Action[] {
    this.#modes = event.modes ?? this.#modes;
    this.#headers = event.headers;
    this.#bodiless = event.endOfStream;
    if (!event.endOfStream && !SUPPORTED.has(this.#modes.request))
      return this.#answer(modeUnsupported(this.#modes.request));
    this.state = "body";
    const actions: Action[] = [{ kind: "precheck", head: this.#head() }];
    if (event.endOfStream) return [...actions, ...this.#complete()];
    if (this.#modes.request === "BUFFERED")
      actions.push({
        kind: "reply",
        reply: { kind: "headers", phase: "request", changes: { remove: UNTRUSTED_HEADERS } },
      });
    return actions;
  }

  requestBody(event: BodyEvent): readonly Action[] {
    if (this.#body.size + event.chunk.length > this.#maxBodyBytes) return [{ kind: "tooLarge" }];
    this.#body.append(event.chunk);
    return event.endOfStream || this.#modes.request === "BUFFERED" ? this.#complete() : [];
  }

  /** With trailers no chunk carries the end of the stream: the trailers end it. */
  requestTrailers(): readonly Action[] {
    this.#trailers = true;
    return this.#complete();
  }

  /** Trailers after a BUFFERED body: it was complete already. */
  lateTrailers(): readonly Action[] {
    this.#trailers = true;
    return this.state === "forwarded" ? [{ kind: "reply", reply: { kind: "trailers", phase: "request" } }] : [];
  }

  routed(event: { routed: Routed }): readonly Action[] {
    if (event.routed.kind === "answer") return this.#answer(event.routed);
    this.state = "forwarded";
    this.#responseHeaders = event.routed.responseHeaders;
    const replies =
      this.#modes.request === "BUFFERED" && !this.#bodiless ? this.#buffered(event.routed) : this.#duplex(event.routed);
    this.#drop();
    return replies.map((reply) => ({ kind: "reply", reply }));
  }

  responseHeaders(): readonly Action[] {
    this.state = "response";
    this.#drop();
    return [
      { kind: "responseStarted" },
      { kind: "reply", reply: { kind: "headers", phase: "response", changes: { set: this.#responseHeaders } } },
    ];
  }

  responseBody(event: BodyEvent): readonly Action[] {
    const first: Action[] = this.#answering ? [] : [{ kind: "firstToken" }];
    this.#answering = true;
    if (this.#modes.response !== "FULL_DUPLEX_STREAMED")
      return [...first, { kind: "reply", reply: { kind: "body", phase: "response" } }];
    const reply: Reply = { kind: "chunk", phase: "response", chunk: event.chunk, endOfStream: event.endOfStream };
    return [...first, { kind: "reply", reply }];
  }

  responseTrailers(): readonly Action[] {
    return [{ kind: "reply", reply: { kind: "trailers", phase: "response" } }];
  }

  #head(): Omit<CompleteRequest, "body"> {
    return {
      method: headerOf(this.#headers, ":method"),
      path: headerOf(this.#headers, ":path"),
      headers: this.#headers,
    };
  }

  #complete(): readonly Action[] {
    this.state = "routing";
    this.#received = this.#body.whole();
    return [{ kind: "route", request: { ...this.#head(), body: this.#received } }];
  }

  /** The stream lives as long as the answer, which may be minutes; the body does not. */
  #drop(): void {
    this.#body.clear();
    this.#received = undefined;
    this.#headers = [];
  }

  #buffered(forward: Forward): readonly Reply[] {
    const changed = forward.body !== this.#received;
    // Envoy refuses a body whose length differs from content-length, and leaves setting it to us.
    const length: HeaderList = changed ? [["content-length", String(forward.body.length)]] : [];
    return [
      {
        kind: "body",
        phase: "request",
        destination: forward.destination,
        changes: { set: [...forward.requestHeaders, ...length] },
        ...(changed ? { body: forward.body } : {}),
      },
      // The trailers came while the destination was sought.
      ...(this.#trailers ? [{ kind: "trailers", phase: "request" } as const] : []),
    ];
  }

  #duplex(forward: Forward): readonly Reply[] {
    const headers: Reply = {
      kind: "headers",
      phase: "request",
      destination: forward.destination,
      changes: { set: forward.requestHeaders, remove: REMOVED },
    };
    if (this.#bodiless) return [headers];
    const chunks = cut(forward.body).map((chunk, index, all): Reply => ({
      kind: "chunk",
      phase: "request",
      chunk,
      endOfStream: index === all.length - 1 && !this.#trailers,
    }));
    return [headers, ...chunks, ...(this.#trailers ? [{ kind: "trailers", phase: "request" } as const] : [])];
  }

  #answer(answer: Answer): readonly Action[] {
    this.state = "closed";
    this.#drop();
    const { status, headers, body, reason } = answer;
    return [{ kind: "reply", reply: { kind: "immediate", status, headers, body, details: reason } }, { kind: "close" }];
  }
}

type HeadersEvent = Extract<ProcessingRequest, { headers: HeaderList }>;
type BodyEvent = Extract<ProcessingRequest, { chunk: Buffer }>;
type Handler<E> = (stream: ExchangeStream, event: E) => readonly Action[];

interface Handlers {
  readonly requestHeaders?: Handler<HeadersEvent>;
  readonly requestBody?: Handler<BodyEvent>;
  readonly requestTrailers?: Handler<unknown>;
  readonly responseHeaders?: Handler<HeadersEvent>;
  readonly responseBody?: Handler<BodyEvent>;
  readonly responseTrailers?: Handler<unknown>;
  readonly routed?: Handler<{ routed: Routed }>;
}

const ignored = (): readonly Action[] => [];
const routed: Handler<{ routed: Routed }> = (stream, event) => stream.routed(event);
const responseHeaders: Handler<HeadersEvent> = (stream) => stream.responseHeaders();
const lateTrailers: Handler<unknown> = (stream) => stream.lateTrailers();

/**
 * What each state takes; anything else is a violation. Response headers may come early, from a local reply of Envoy.
 * Body chunks after the end are ignored: Envoy 1.35 to 1.37 repeats the final one (envoyproxy/envoy#46237).
 */
const TABLE: Readonly<Record<State, Handlers>> = {
  headers: { requestHeaders: (stream, event) => stream.requestHeaders(event), routed },
  body: {
    requestBody: (stream, event) => stream.requestBody(event),
    requestTrailers: (stream) => stream.requestTrailers(),
    routed,
    responseHeaders,
  },
  routing: { routed, requestBody: ignored, requestTrailers: lateTrailers, responseHeaders },
  forwarded: { responseHeaders, requestBody: ignored, requestTrailers: lateTrailers },
  response: {
    responseBody: (stream, event) => stream.responseBody(event),
    responseTrailers: (stream) => stream.responseTrailers(),
    requestBody: ignored,
    requestTrailers: ignored,
    routed: ignored,
  },
  closed: {
    requestBody: ignored,
    requestTrailers: ignored,
    responseHeaders: ignored,
    responseBody: ignored,
    responseTrailers: ignored,
    routed: ignored,
  },
};

/** Envoy removes before it sets, but other proxies may not: what every forward sets is not removed in the same breath. */
const REMOVED: readonly string[] = UNTRUSTED_HEADERS.filter((name) => name !== HEADER.destination);

function cut(body: Buffer): Buffer[] {
  if (body.length <= CHUNK_BYTES) return [body];
  const count = Math.ceil(body.length / CHUNK_BYTES);
  return Array.from({ length: count }, (_, index) => body.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES));
}

function modeUnsupported(mode: BodyMode): Answer {
  const message = `ext_proc request_body_mode ${mode} is not served; accepted: ${[...SUPPORTED].join(", ")}`;
  return {
    kind: "answer",
    status: 500,
    headers: [["content-type", "application/json"]],
    body: Buffer.from(JSON.stringify({ error: { message, type: "server_error", param: null, code: "ext_proc_mode" } })),
    reason: "RequestMalformed",
  };
}
