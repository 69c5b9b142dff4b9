/** The words between the ext_proc stream and the routing behind it: a whole request in, where it goes or the answer out. */
import type { HeaderList } from "./headers.ts";
import type { RequestScan } from "./request/scan.ts";

export interface CompleteRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** The namespace that Envoy's route is for; absent where it names none. Never a word of the client's. */
  readonly namespace?: string;
  /** The endpoints that the proxy allows; absent where it names none. */
  readonly subset?: Subset;
  /** The scan of the body, where it was made while the body arrived. */
  readonly scan?: RequestScan;
  /** How much of the body is here; default `whole`. */
  readonly extent?: Extent;
}

/** `cut`: more may follow that the router never sees. `none`: the body passes the router by. */
export type Extent = "whole" | "cut" | "none";

/** A proxy's word on which endpoints it allows: `ip:port`, or an address alone for all of its ports. */
export type Subset = { readonly addresses: ReadonlySet<string> } | { readonly malformed: string };

/** What an engine said of the tokens of one answer. */
export interface Usage {
  readonly promptTokens?: number;
  /** Prompt tokens that were in its KV cache. */
  readonly cachedTokens?: number;
  readonly completionTokens?: number;
}

/** Sent on to an engine. */
export interface Forward {
  readonly kind: "forward";
  /** `ip:port`, with fallbacks after commas where the proxy can use them. */
  readonly destination: string;
  /** Set on the request to the engine. */
  readonly requestHeaders: HeaderList;
  /** Set on the answer to the client. */
  readonly responseHeaders: HeaderList;
  /** The body to send; the received one where nothing had to change. */
  readonly body: Buffer;
  /**
   * Comes only where the prefill that the engine waits for has failed: nothing will come of the request, and this is to
   * be said instead, as long as no token is on its way to the client. Absent where the prefill is over.
   */
  readonly deserted?: Promise<Answer>;
}

/** Answered by the router itself. */
export interface Answer {
  readonly kind: "answer";
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** Stable reason code. */
  readonly reason: string;
}

export type Routed = Forward | Answer;

/** One request from its last body byte to the end of its answer. Every ticket is finished; twice is harmless. */
export interface Ticket {
  /**
   * Where the proxy really sent the request, `ip:port`: a retry, or a fallback, may have gone elsewhere. To be told before
   * `responseStarted`.
   */
  served(address: string): void;
  /**
   * Response headers are here. Engines send them before the first token of a stream, after the last of a whole answer.
   * @param failed they say that there is none
   */
  responseStarted(failed?: boolean): void;
  /** The first body bytes of the answer: the first token. Seen in the `exact` profile only. */
  firstToken(): void;
  /** What the answer says of its tokens, at its end. Seen in the `exact` profile only. */
  usage(usage: Usage): void;
  /**
   * The request is over; releases everything that it holds. `complete`: its answer was seen to its end; otherwise the
   * client went away, or nobody can tell.
   */
  finish(complete?: boolean): void;
}

/** A request under way. The outcome carries the body, so it is apart from the ticket, which lives as long as the answer. */
export interface Begun {
  readonly ticket: Ticket;
  readonly routed: Promise<Routed>;
}

export interface RequestRouter {
  begin(request: CompleteRequest): Begun;
  /** Refuses by headers alone, before any body byte: wrong path, method, media type or announced length. */
  precheck(head: Omit<CompleteRequest, "body">): Answer | undefined;
  /** The answer for a body that grew beyond the limit. */
  tooLarge(path?: string): Answer;
  /** The answer where a request is not here whole in time. */
  tooSlow(path?: string): Answer;
  /** The answer while the router is at its own limit of memory. */
  saturated(path?: string): Answer;
  readonly maxBodyBytes: number;
  /** Milliseconds from the start of a stream in which the request must be here whole. */
  readonly bodyTimeoutMs: number;
  /** Milliseconds that a pick may take at most, prefill legs and all: what Envoy is asked to wait. */
  readonly patienceMs: number;
}
