/**
 * One ext_proc stream: the states a request and its answer pass through, what Envoy may send in each, what we answer.
 *
 * Pure: `advance(event)` returns the actions to carry out. It never picks an endpoint and does no I/O. The two sides
 * are tables of their own, state by event, as Envoy has two processor states; what a mode can do is in modes.ts.
 */
import type { Usage } from "../exchange.ts";
import type { Action, StreamEvent } from "./events.ts";
import { RequestSide, type RequestState } from "./request-side.ts";
import { ResponseSide, type ResponseState } from "./response-side.ts";

export type { Action, StreamEvent } from "./events.ts";
export { CHUNK_BYTES } from "./body.ts";

/** `deserted` is of the answer: how far that has come says what can still be done. */
const OF_RESPONSE: ReadonlySet<StreamEvent["kind"]> = new Set([
  "responseHeaders",
  "responseBody",
  "responseTrailers",
  "deserted",
]);

export class ExchangeStream {
  readonly #request: RequestSide;
  readonly #response: ResponseSide;

  /** `patienceMs`: what Envoy is asked to wait where a pick takes longer than its timer. */
  constructor(maxBodyBytes: number, patienceMs: number) {
    this.#request = new RequestSide(maxBodyBytes, patienceMs);
    this.#response = new ResponseSide(this.#request);
  }

  /** Bytes of request body held: until the request is forwarded or answered. */
  get held(): number {
    return this.#request.held;
  }

  /** Of the request, while it can be answered by us; else empty. */
  get path(): string {
    return this.#request.path;
  }

  /** True while the request can still be answered by us. */
  get answerable(): boolean {
    const { state } = this.#request;
    return state === "start" || state === "reading" || state === "routing";
  }

  get states(): { readonly request: RequestState; readonly response: ResponseState } {
    return { request: this.#request.state, response: this.#response.state };
  }

  /** What the answer has said of its tokens; undefined in profile `light`. */
  get usage(): Usage | undefined {
    return this.#response.usage;
  }

  advance(event: StreamEvent): readonly Action[] {
    if ("observed" in event && event.observed) return this.#observe();
    return OF_RESPONSE.has(event.kind) ? this.#response.advance(event) : this.#request.advance(event);
  }

  /** Envoy reports a request that goes its way without us: nothing is picked and nothing said. */
  #observe(): readonly Action[] {
    this.#request.observe();
    return [];
  }
}
