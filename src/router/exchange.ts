/** The words between the ext_proc stream and the routing behind it: a whole request in, where it goes or the answer out. */
import type { HeaderList } from "./headers.ts";

export interface CompleteRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** The namespace that Envoy's route is for; absent where it names none. Never a word of the client's. */
  readonly namespace?: string;
}

/** Sent on to an engine. */
export interface Forward {
  readonly kind: "forward";
  /** `ip:port` */
  readonly destination: string;
  /** Set on the request to the engine. */
  readonly requestHeaders: HeaderList;
  /** Set on the answer to the client. */
  readonly responseHeaders: HeaderList;
  /** The body to send; the received one where nothing had to change. */
  readonly body: Buffer;
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
  /** Response headers are here. Engines send them before the first token of a stream, after the last of a whole answer. */
  responseStarted(): void;
  /** The first body bytes of the answer: the first token. Seen in the `exact` profile only. */
  firstToken(): void;
  /** The answer is complete, or the client went away; releases everything that the request holds. */
  finish(): void;
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
  tooLarge(): Answer;
  /** The answer while the router is at its own limit of memory. */
  saturated(): Answer;
  readonly maxBodyBytes: number;
}
