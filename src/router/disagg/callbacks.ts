/**
 * Requests whose decode engine went first and will ask for its prefill: who may ask, and once.
 *
 * Each has an address of its own on this replica, of which one part cannot be guessed: whoever was not sent the request
 * cannot start its prefill. What comes in is bounded and read once; a repeated post gets the first one's answer.
 */
import { isObject } from "../../kinds/kube.ts";
import { editBytes } from "../request/edit.ts";

/** Starts the prefill leg with what decode posted; false where no prefill engine took it. */
export type Start = (posted: Buffer) => Promise<boolean>;

interface Waiting {
  readonly requestId: string;
  /** Let go with the first call: it holds a whole request, and answers take minutes. */
  start: Start | undefined;
  started: Promise<boolean> | undefined;
}

export interface Callback {
  /** What decode is told. */
  readonly url: string;
  /** Nobody may ask any more. */
  readonly close: () => void;
}

/** HTTP status of the answer to decode. */
export type CallbackStatus = 200 | 400 | 404 | 503;

const WITHOUT_ID = new Map([["request_id", undefined]]);

export class Callbacks {
  readonly #base: () => string;
  readonly #waiting = new Map<string, Waiting>();

  /** @param base address of the router as decode engines reach it, with the path: tokens follow it */
  constructor(base: () => string) {
    this.#base = base;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** @param token unguessable, and new for each request */
  open(token: string, requestId: string, start: Start): Callback {
    this.#waiting.set(token, { requestId, start, started: undefined });
    return { url: `${this.#base()}/${token}`, close: () => void this.#waiting.delete(token) };
  }

  /** What decode posted. vLLM-Ascend does not read the answer's body, and tries again only where none came. */
  async post(token: string, body: Buffer): Promise<CallbackStatus> {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return 404;
    const id = requestIdOf(body);
    if (id === undefined) return 400;
    // `chatcmpl-ID` and the like: the engine's own name for the request.
    if (!id.includes(waiting.requestId)) return 404;
    const posted = editBytes(body, WITHOUT_ID);
    const { start } = waiting;
    waiting.start = undefined;
    waiting.started ??= start?.(posted);
    return (await waiting.started) === true ? 200 : 503;
  }
}

function requestIdOf(body: Buffer): string | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    const id = isObject(value) ? value["request_id"] : undefined;
    return typeof id === "string" ? id : undefined;
  } catch {
    return undefined;
  }
}
