/**
 * The answer's way through one stream: each message is let pass as it came, and read in passing.
 *
 * Header modes are not announced, so an answer may begin with its body. One that begins before the request was
 * forwarded is Envoy's own, or an earlier filter's: it passes, and what was begun for the request is dropped.
 */
import type { Usage } from "../exchange.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import type { BodyMode, Reply } from "./codec.ts";
import {
  cell,
  ignored,
  violation,
  type Action,
  type BodyEvent,
  type DesertedEvent,
  type Handler,
  type HeadersEvent,
  type StreamEvent,
  type TrailersEvent,
} from "./events.ts";
import { cut } from "./body.ts";
import type { RequestSide } from "./request-side.ts";
import { UsageReader } from "./usage.ts";

/** `silent`: the request was answered by us, or Envoy does not listen. */
export type ResponseState = "before" | "answering" | "ended" | "silent";

export class ResponseSide {
  readonly #request: RequestSide;
  #state: Exclude<ResponseState, "silent"> = "before";
  #tokens = false;
  /** An engine's, and no error. */
  #tells = false;
  /** A stream of which no token can be there without its prefill: most engines send its head at once. */
  #streams = false;
  /** There once the body is seen. */
  #usage: UsageReader | undefined;

  constructor(request: RequestSide) {
    this.#request = request;
  }

  get state(): ResponseState {
    const { state } = this.#request;
    return state === "closed" || state === "observed" ? "silent" : this.#state;
  }

  /** What the answer has said of its tokens. */
  get usage(): Usage | undefined {
    return this.#usage?.read();
  }

  advance(event: StreamEvent): readonly Action[] {
    return cell(TABLE[this.state], this, event);
  }

  headers(event: HeadersEvent): readonly Action[] {
    const { responseHeaders } = this.#request;
    const started = this.#start(event);
    const reply: Reply = { kind: "headers", phase: "response", changes: { set: responseHeaders } };
    return [...started, { kind: "reply", reply }, ...(event.endOfStream ? this.#end() : [])];
  }

  body(event: BodyEvent): readonly Action[] {
    const started = this.#state === "before" ? this.#start(event) : [];
    const replies = REPLIES[this.#request.modes.response](event).map((reply): Action => ({ kind: "reply", reply }));
    return [...started, ...this.#read(event.chunk), ...replies, ...(event.endOfStream ? this.#end() : [])];
  }

  trailers(event: TrailersEvent): readonly Action[] {
    const started = this.#state === "before" ? this.#start(event) : [];
    return [...started, { kind: "reply", reply: { kind: "trailers", phase: "response" } }, ...this.#end()];
  }

  /**
   * The prefill failed. No answer yet: ours. A stream that is empty, as far as its body is seen: Envoy cuts it, as it does
   * whatever is answered behind the headers. What else began has its KV, or is an error that says more.
   */
  deserted({ answer }: DesertedEvent): readonly Action[] {
    const vain = this.#state === "before" || (this.#streams && !this.#tokens);
    return vain ? this.#request.desert(answer) : [];
  }

  #start(event: HeadersEvent | BodyEvent | TrailersEvent): readonly Action[] {
    this.#state = "answering";
    // A filter before ours answered: this is the stream's first message.
    this.#request.modes = event.modes ?? this.#request.modes;
    if (this.#request.state !== "open") {
      this.#request.drop();
      return [{ kind: "abandoned" }];
    }
    // An error's body holds no tokens.
    this.#tells = !("headers" in event) || headerOf(event.headers, ":status").startsWith("2");
    this.#streams = this.#tells && "headers" in event && isStream(event.headers);
    const { served } = event;
    return [
      ...(served === undefined ? [] : [{ kind: "served", address: served } as const]),
      { kind: "responseStarted", ...(this.#tells ? {} : { failed: true }) },
    ];
  }

  #read(chunk: Buffer): readonly Action[] {
    if (!this.#tells || chunk.length === 0) return [];
    this.#usage ??= new UsageReader();
    this.#usage.push(chunk);
    if (this.#tokens) return [];
    this.#tokens = true;
    return [{ kind: "firstToken" }];
  }

  #end(): readonly Action[] {
    this.#state = "ended";
    return this.#request.state === "open" ? [{ kind: "responseEnded" }] : [];
  }
}

const isStream = (headers: HeaderList): boolean => headerOf(headers, "content-type").startsWith("text/event-stream");

const LEFT_ALONE: readonly Reply[] = [{ kind: "body", phase: "response" }];
const leaveAlone = (): readonly Reply[] => LEFT_ALONE;

/** In duplex Envoy keeps no copy: what came goes back. */
function sendBack({ chunk, endOfStream }: BodyEvent): readonly Reply[] {
  return cut(chunk).map((piece, index, all) => ({
    ...{ kind: "chunk", phase: "response", chunk: piece },
    endOfStream: endOfStream && index === all.length - 1,
  }));
}

/** What a message of the answer's body is answered with. */
const REPLIES: Readonly<Record<BodyMode, (event: BodyEvent) => readonly Reply[]>> = {
  // An Envoy that announces nothing may send one all the same.
  NONE: leaveAlone,
  STREAMED: leaveAlone,
  BUFFERED: leaveAlone,
  BUFFERED_PARTIAL: leaveAlone,
  FULL_DUPLEX_STREAMED: sendBack,
  GRPC: leaveAlone,
};

interface Handlers {
  readonly responseHeaders: Handler<ResponseSide, HeadersEvent>;
  readonly responseBody: Handler<ResponseSide, BodyEvent>;
  readonly responseTrailers: Handler<ResponseSide, TrailersEvent>;
  readonly deserted: Handler<ResponseSide, DesertedEvent>;
}

const headers: Handlers["responseHeaders"] = (side, event) => side.headers(event);
const body: Handlers["responseBody"] = (side, event) => side.body(event);
const trailers: Handlers["responseTrailers"] = (side, event) => side.trailers(event);
const deserted: Handlers["deserted"] = (side, event) => side.deserted(event);
const twice = violation("response headers came twice");

/** What each state takes. */
const TABLE: Readonly<Record<ResponseState, Handlers>> = {
  before: { responseHeaders: headers, responseBody: body, responseTrailers: trailers, deserted },
  answering: { responseHeaders: twice, responseBody: body, responseTrailers: trailers, deserted },
  // A repeated final chunk wants no second reply.
  ended: {
    responseHeaders: twice,
    responseBody: ignored,
    responseTrailers: violation("trailers behind the end"),
    deserted: ignored,
  },
  silent: { responseHeaders: ignored, responseBody: ignored, responseTrailers: ignored, deserted: ignored },
};
