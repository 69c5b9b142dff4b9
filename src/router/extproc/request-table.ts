/**
 * The request's table: what each state takes, event by event, and where modes differ, mode by mode. Every cell is here;
 * test/unit/router/stream-table.test.ts says what each of them does.
 */
import { UNTRUSTED_HEADERS } from "../../kinds/names.ts";
import { problemAnswer, type Problem } from "../answers.ts";
import type { Extent, Forward, Routed } from "../exchange.ts";
import { errorsOf } from "../request/head.ts";
import { cut } from "./body.ts";
import type { HeaderChanges, Reply } from "./codec.ts";
import { ignored, violation, type Action, type BodyEvent, type Handler, type HeadersEvent } from "./events.ts";
import { HOLD_MS, type How } from "./modes.ts";
import type { RequestSide, RequestState } from "./request-side.ts";

type ByHow<T> = Readonly<Record<Exclude<How, "refused">, T>>;
type ForHow<E> = Readonly<Record<How, Handler<RequestSide, E>>>;

const goOn = (side: RequestSide): readonly Action[] => [
  { kind: "reply", reply: { kind: "headers", phase: "request", changes: GO_ON, ...side.trailersAsked() } },
];
const GO_ON: HeaderChanges = { remove: UNTRUSTED_HEADERS };

/** What follows the headers at once. */
export const FIRST: ByHow<(side: RequestSide) => readonly Action[]> = {
  bodiless: (side) => side.complete("whole"),
  none: (side) => side.complete("none"),
  streamed: (side) => side.complete("none"),
  early: () => [{ kind: "timer", ms: HOLD_MS, event: "hold" }],
  buffered: goOn,
  partial: goOn,
  duplex: () => [],
};

const streamedReplies = (side: RequestSide, forward: Forward): readonly Reply[] => [
  side.headersReply(forward),
  ...side.chunkReplies(forward),
  ...side.trailersReply(),
];
const bufferedReplies = (side: RequestSide, forward: Forward): readonly Reply[] => [
  side.bodyReply(forward),
  ...side.trailersReply(),
];

/** What Envoy gets once the destination is known. */
export const FORWARD: Readonly<Record<How, (side: RequestSide, forward: Forward) => readonly Reply[]>> = {
  bodiless: (side, forward) => [side.headersReply(forward)],
  none: (side, forward) => [side.headersReply(forward), ...side.trailersReply()],
  streamed: streamedReplies,
  early: streamedReplies,
  buffered: bufferedReplies,
  partial: bufferedReplies,
  duplex: (side, forward) => {
    const trailers = side.trailersReply();
    // With trailers no chunk carries the end of the stream: the trailers end it.
    const ends = (index: number, count: number): boolean => trailers.length === 0 && index === count - 1;
    const chunks = cut(forward.body).map((chunk, index, all): Reply => ({
      ...{ kind: "chunk", phase: "request", chunk },
      endOfStream: ends(index, all.length),
    }));
    return [side.headersReply(forward), ...chunks, ...trailers];
  },
  refused: () => [],
};

const byHow =
  <E>(table: ForHow<E>): Handler<RequestSide, E> =>
  (side, event) =>
    table[side.how](side, event);

const TOO_LARGE: readonly Action[] = [{ kind: "tooLarge" }];
const NO_BODY: Problem = { status: 400, reason: "BodyInvalid", message: "the request has no body" };
const noBody: Handler<RequestSide, unknown> = (side) => side.refuse(problemAnswer(NO_BODY, errorsOf(side.path)));

const unreachable = violation("a body that was not asked for");

/** A chunk, or the body, while it is waited for. */
const readingBody = byHow<BodyEvent>({
  bodiless: unreachable,
  none: unreachable,
  streamed: unreachable,
  early: (side, event) => gathered(side, event, event.endOfStream ? "whole" : undefined),
  // One message, whole even where it does not end the stream: then trailers follow.
  buffered: (side, event) => gathered(side, event, "whole"),
  // One message too. Whether it is whole where it does not end the stream Envoy does not tell.
  partial: (side, event) => gathered(side, event, event.endOfStream ? "whole" : "cut"),
  duplex: (side, event) => gathered(side, event, event.endOfStream ? "whole" : undefined),
  refused: ignored,
});

function gathered(side: RequestSide, event: BodyEvent, extent: Extent | undefined): readonly Action[] {
  if (!side.gather(event)) return TOO_LARGE;
  return extent === undefined ? [] : side.complete(extent);
}

/** Trailers while the body is waited for. */
const readingTrailers = byHow<unknown>({
  bodiless: unreachable,
  none: unreachable,
  streamed: unreachable,
  early: (side) => side.endByTrailers(),
  // No body message came, so there is none: and to trailers alone no destination can be given.
  buffered: noBody,
  partial: noBody,
  duplex: (side) => side.endByTrailers(),
  refused: ignored,
});

/** Chunks after the body was taken for complete: in STREAMED each wants its reply, elsewhere they are repeats. */
const laterBody = byHow<BodyEvent>({
  bodiless: ignored,
  none: ignored,
  streamed: (side, event) => side.laterChunk(event),
  early: (side, event) => side.laterChunk(event),
  buffered: ignored,
  partial: ignored,
  duplex: ignored,
  refused: ignored,
});

const late: Handler<RequestSide, unknown> = (side) => side.lateTrailers();
const laterTrailers = byHow<unknown>({
  bodiless: ignored,
  none: late,
  streamed: late,
  early: late,
  buffered: late,
  partial: late,
  // They ended the body, or an end of stream did, behind which none can come.
  duplex: ignored,
  refused: ignored,
});

interface Handlers {
  readonly requestHeaders: Handler<RequestSide, HeadersEvent>;
  readonly requestBody: Handler<RequestSide, BodyEvent>;
  readonly requestTrailers: Handler<RequestSide, unknown>;
  readonly routed: Handler<RequestSide, { routed: Routed }>;
  readonly hold: Handler<RequestSide, unknown>;
  readonly late: Handler<RequestSide, unknown>;
}

const twice = violation("request headers came twice");
const settle: Handlers["routed"] = (side, { routed }) => side.settle(routed);
const refuse: Handlers["routed"] = (side, { routed }) => side.refuse(routed);
const silent: Handlers = {
  requestHeaders: ignored,
  requestBody: ignored,
  requestTrailers: ignored,
  routed: ignored,
  hold: ignored,
  late: ignored,
};

export const TABLE: Readonly<Record<RequestState, Handlers>> = {
  start: {
    requestHeaders: (side, event) => side.begin(event),
    requestBody: violation("a request body came before its headers"),
    requestTrailers: violation("request trailers came before the headers"),
    routed: refuse,
    hold: ignored,
    late: ignored,
  },
  reading: {
    requestHeaders: twice,
    requestBody: readingBody,
    requestTrailers: readingTrailers,
    routed: refuse,
    hold: (side) => (side.how === "early" ? side.complete("cut") : []),
    late: ignored,
  },
  routing: {
    requestHeaders: twice,
    requestBody: laterBody,
    requestTrailers: laterTrailers,
    routed: settle,
    hold: ignored,
    late: (side) => side.wait(),
  },
  open: {
    requestHeaders: twice,
    requestBody: laterBody,
    requestTrailers: laterTrailers,
    routed: ignored,
    hold: ignored,
    late: ignored,
  },
  dropped: silent,
  closed: silent,
  observed: silent,
};
