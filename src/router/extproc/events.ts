/** The words between the server and the state machine of one stream: events in, actions out. */
import type { Answer, CompleteRequest, Routed } from "../exchange.ts";
import type { ProcessingRequest, Reply } from "./codec.ts";

export type HeadersEvent = Extract<ProcessingRequest, { headers: unknown }>;
export type BodyEvent = Extract<ProcessingRequest, { chunk: Buffer }>;
export type TrailersEvent = Exclude<ProcessingRequest, HeadersEvent | BodyEvent>;

export interface DesertedEvent {
  readonly kind: "deserted";
  readonly answer: Answer;
}

export type StreamEvent =
  | ProcessingRequest
  /** The router refuses by the headers alone, or knows where the request goes. */
  | { readonly kind: "routed"; readonly routed: Routed }
  /** The engine that the request was forwarded to waits in vain. */
  | DesertedEvent
  /** The timer that the last `timer` action asked for. */
  | { readonly kind: TimerEvent };

/** `hold`: no more of the body is waited for. `late`: the pick takes longer than Envoy's own timer may allow. */
export type TimerEvent = "hold" | "late";

export type Action =
  | { readonly kind: "reply"; readonly reply: Reply }
  /** Headers are here: the router may refuse now. Answered by a `routed` event or not at all. */
  | { readonly kind: "precheck"; readonly head: Omit<CompleteRequest, "body"> }
  | { readonly kind: "route"; readonly request: CompleteRequest }
  | { readonly kind: "tooLarge" }
  /** To be told after so long, unless the request is routed before; there is one timer, and the last word counts. */
  | { readonly kind: "timer"; readonly ms: number; readonly event: TimerEvent }
  /** The answer is not the engine's: what was begun for the request is of no use. */
  | { readonly kind: "abandoned" }
  /** Where Envoy sent the request, in its own words. */
  | { readonly kind: "served"; readonly address: string }
  | { readonly kind: "responseStarted"; readonly failed?: true }
  | { readonly kind: "firstToken" }
  | { readonly kind: "responseEnded" }
  /** Nothing more will be said. */
  | { readonly kind: "close" }
  /** The peer broke the protocol. */
  | { readonly kind: "violation"; readonly detail: string };

export type Handler<Side, Event> = (side: Side, event: Event) => readonly Action[];

/** The cell of a row, for an event of its kind; the other side's events have none here. */
export function cell(row: object, side: object, event: StreamEvent): readonly Action[] {
  const handler = (row as Readonly<Partial<Record<string, Handler<object, StreamEvent>>>>)[event.kind];
  return handler?.(side, event) ?? [];
}

/** A cell in which nothing is to be said. */
export const ignored = (): readonly Action[] => [];

/** A cell that no Envoy can reach. */
export const violation =
  (detail: string): (() => readonly Action[]) =>
  () => [{ kind: "violation", detail }];
