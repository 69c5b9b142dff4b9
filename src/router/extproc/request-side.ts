/**
 * The request's way through one stream: what Envoy may send, state by state, and what is owed for it.
 *
 * Envoy's side of the contract is in processor_state.cc: a reply out of order is fatal (`spurious`, 500), so each reply
 * stands in the one state in which it is legal, and every message that waits for one gets exactly one.
 */
import { HEADER, UNTRUSTED_HEADERS } from "../../kinds/names.ts";
import type { Answer, CompleteRequest, Extent, Forward, Routed, Subset } from "../exchange.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { RequestScan } from "../request/scan.ts";
import { BodyBuffer } from "./body.ts";
import type { Modes, Reply } from "./codec.ts";
import { cell, type Action, type BodyEvent, type HeadersEvent, type StreamEvent } from "./events.ts";
import { howOf, isTimed, LATE_MS, modeRefused, type How, UNANNOUNCED, wantsTrailers } from "./modes.ts";
import { FIRST, FORWARD, TABLE } from "./request-table.ts";

/**
 * - `start`: nothing came yet   - `reading`: the body is waited for   - `routing`: the destination is sought
 * - `open`: on its way to an engine   - `dropped`: answered by Envoy itself before that
 * - `closed`: answered by us   - `observed`: Envoy does not listen
 */
export type RequestState = "start" | "reading" | "routing" | "open" | "dropped" | "closed" | "observed";

const EMPTY: Buffer = Buffer.alloc(0);
const NO_HEADERS: HeaderList = [];

export class RequestSide {
  state: RequestState = "start";
  modes: Modes = UNANNOUNCED;
  /** Set on the answer, once the request is forwarded. */
  responseHeaders: HeaderList = NO_HEADERS;
  how: How = "bodiless";
  readonly #maxBodyBytes: number;
  readonly #patienceMs: number;
  readonly #body = new BodyBuffer();
  /** Goes along with the body: what is to be known of it is known with its last byte. */
  #scan: RequestScan | undefined;
  #headers: HeaderList = NO_HEADERS;
  #headBytes = 0;
  #subset: Subset | undefined;
  #namespace: string | undefined;
  #received: Buffer = EMPTY;
  /** Chunks that wait for their replies: those that `#received` is made of, and those that came later. */
  #owed = 0;
  #later = 0;
  #ended = false;
  /** Trailers are here. */
  #trailers = false;
  #waited = false;
  /** What modes are in force was told: to an Envoy that does not tell, nothing is guessed back. */
  #announced = false;

  constructor(maxBodyBytes: number, patienceMs: number) {
    this.#maxBodyBytes = maxBodyBytes;
    this.#patienceMs = patienceMs;
  }

  /** Bytes of body, headers and subset held: until the request is forwarded or answered. */
  get held(): number {
    return this.#body.held + this.#headBytes;
  }

  get path(): string {
    return headerOf(this.#headers, ":path");
  }

  advance(event: StreamEvent): readonly Action[] {
    return cell(TABLE[this.state], this, event);
  }

  begin(event: HeadersEvent): readonly Action[] {
    this.#announced = event.modes !== undefined;
    this.modes = event.modes ?? this.modes;
    this.how = howOf(this.modes, event.endOfStream);
    this.#headers = event.headers;
    this.#subset = event.subset;
    this.#namespace = event.namespace;
    this.#headBytes = bytesOf(event);
    if (this.how === "refused") return this.#answer(modeRefused(this.modes, this.path));
    this.state = "reading";
    return [{ kind: "precheck", head: this.#head() }, ...FIRST[this.how](this)];
  }

  /** The body as far as it came; `whole` where Envoy says that this was its end. */
  gather(event: BodyEvent): boolean {
    if (this.#body.size + event.chunk.length > this.#maxBodyBytes) return false;
    this.#body.append(event.chunk);
    this.#scan ??= new RequestScan();
    this.#scan.push(this.#body.whole());
    this.#owed += 1;
    this.#ended = event.endOfStream;
    return true;
  }

  complete(extent: Extent): readonly Action[] {
    this.state = "routing";
    this.#received = this.#body.whole();
    const scanned = this.#scan === undefined ? {} : { scan: this.#scan };
    const request: CompleteRequest = { ...this.#head(), body: this.#received, extent, ...scanned };
    const timer: readonly Action[] = isTimed(this.modes) ? [{ kind: "timer", ms: LATE_MS, event: "late" }] : [];
    return [...timer, { kind: "route", request }];
  }

  /** Trailers end the body, of which no chunk carried the end. */
  endByTrailers(): readonly Action[] {
    this.#trailers = true;
    return this.complete("whole");
  }

  /** Trailers come behind a body that is here already, or that is never seen. */
  lateTrailers(): readonly Action[] {
    if (this.#trailers) return [];
    this.#trailers = true;
    return this.state === "open" ? [{ kind: "reply", reply: { kind: "trailers", phase: "request" } }] : [];
  }

  /** A chunk after the body was taken for complete; after its end Envoy 1.35 to 1.37 may repeat it, unanswered. */
  laterChunk(event: BodyEvent): readonly Action[] {
    if (this.#ended) return [];
    this.#ended = event.endOfStream;
    if (this.state === "open") return [{ kind: "reply", reply: { kind: "body", phase: "request" } }];
    this.#later += 1;
    return [];
  }

  settle(routed: Routed): readonly Action[] {
    if (routed.kind === "answer") return this.#answer(routed);
    this.state = "open";
    this.responseHeaders = routed.responseHeaders;
    const replies = FORWARD[this.how](this, routed);
    this.#drop();
    return replies.map((reply) => ({ kind: "reply", reply }));
  }

  /** Before a destination is known only an answer of ours can end the request. */
  refuse(routed: Routed): readonly Action[] {
    if (routed.kind === "answer") return this.#answer(routed);
    return [{ kind: "violation", detail: "forwarded before the request was here" }];
  }

  /** Behind a forward: an answer of ours takes the place of the engine's, which Envoy then stops. */
  desert(answer: Answer): readonly Action[] {
    return this.state === "open" ? this.#answer(answer) : [];
  }

  wait(): readonly Action[] {
    if (this.#waited || !isTimed(this.modes)) return [];
    this.#waited = true;
    return [{ kind: "reply", reply: { kind: "wait", ms: this.#patienceMs } }];
  }

  /** The answer began without us. */
  drop(): void {
    this.state = "dropped";
    this.#drop();
  }

  /** Envoy does not listen. */
  observe(): void {
    this.state = "observed";
    this.#drop();
  }

  /** The destination with the headers; what the client said of it goes. */
  headersReply(forward: Forward): Reply {
    return {
      kind: "headers",
      phase: "request",
      destination: forward.destination,
      changes: { set: forward.requestHeaders, remove: REMOVED },
      ...this.trailersAsked(),
    };
  }

  /** Goes with the first reply to the request, which alone may change modes. */
  trailersAsked(): { readonly trailers?: Modes } {
    return this.#announced && wantsTrailers(this.modes) ? { trailers: this.modes } : {};
  }

  /** The destination with the body, the headers having been answered; Envoy holds them. */
  bodyReply(forward: Forward): Reply {
    const changed = forward.body !== this.#received;
    // Envoy refuses a body whose length differs from content-length, and only of BUFFERED leaves setting it to us.
    const sized = changed && this.how === "buffered";
    const length: HeaderList = sized ? [["content-length", String(forward.body.length)]] : [];
    return {
      kind: "body",
      phase: "request",
      destination: forward.destination,
      changes: { set: [...forward.requestHeaders, ...length] },
      ...(changed ? { body: forward.body } : {}),
    };
  }

  /** One reply for each chunk that waits: a changed body takes the place of the last, since an empty one has no end. */
  chunkReplies(forward: Forward): readonly Reply[] {
    const changed = forward.body !== this.#received && this.#owed > 0;
    const replies = Array.from({ length: this.#owed + this.#later }, (_, index): Reply => {
      if (!changed || index >= this.#owed) return { kind: "body", phase: "request" };
      return { kind: "body", phase: "request", body: index < this.#owed - 1 ? "clear" : forward.body };
    });
    return replies;
  }

  trailersReply(): readonly Reply[] {
    return this.#trailers ? [{ kind: "trailers", phase: "request" }] : [];
  }

  #head(): Omit<CompleteRequest, "body"> {
    return {
      method: headerOf(this.#headers, ":method"),
      path: this.path,
      headers: this.#headers,
      ...(this.#subset === undefined ? {} : { subset: this.#subset }),
      ...(this.#namespace === undefined ? {} : { namespace: this.#namespace }),
    };
  }

  #answer(answer: Answer): readonly Action[] {
    this.state = "closed";
    this.#drop();
    const { status, headers, body, reason } = answer;
    return [{ kind: "reply", reply: { kind: "immediate", status, headers, body, details: reason } }, { kind: "close" }];
  }

  /** The stream lives as long as the answer, which may be minutes; the body does not. */
  #drop(): void {
    this.#body.clear();
    this.#scan = undefined;
    this.#received = EMPTY;
    this.#headers = NO_HEADERS;
    this.#headBytes = 0;
    this.#subset = undefined;
  }
}

/** Of two strings and their pair, or of an address in a set, beside their characters. */
const ENTRY_BYTES = 100;

/** Memory of what is kept of the first message. */
function bytesOf({ headers, subset }: HeadersEvent): number {
  let bytes = headers.length * ENTRY_BYTES;
  for (const [name, value] of headers) bytes += name.length + value.length;
  if (subset === undefined || "malformed" in subset) return bytes;
  for (const address of subset.addresses) bytes += address.length + ENTRY_BYTES;
  return bytes;
}

/** Envoy removes before it sets, but other proxies may not: what every forward sets is not removed in the same breath. */
const REMOVED: readonly string[] = UNTRUSTED_HEADERS.filter((name) => name !== HEADER.destination);
