/**
 * Runs the prefill leg: which endpoint is asked, and what follows from what becomes of it.
 *
 * Nothing sent (connection refused, or the engine says it is busy): the next endpoint, then prefill on the decode
 * endpoint. Lost after sending (reset, deadline, 500): one retry elsewhere, be it the decode endpoint, then failure,
 * because a prompt that kills engines must not visit them all. A refusal of the request itself (4xx) is the client's answer.
 *
 * Where the legs run at once, a leg counts as sent as soon as its request is on its way: what becomes of it behind that is
 * told and cannot be mended, as decode was told whom to wait for.
 */
import type { EngineClient, EngineReply, EngineRequest } from "../../ports.ts";
import { readPrefillResult, type PromptUsage } from "./bodies.ts";

/** What a reply means for the leg. */
export type Meaning = "done" | "untouched" | "lost" | "refusal" | "aborted";

const BUSY = new Set([429, 502, 503, 504]);

export function meaning(reply: EngineReply): Meaning {
  if (reply.kind !== "answer")
    return reply.kind === "refused" ? "untouched" : reply.kind === "aborted" ? "aborted" : "lost";
  if (reply.status < 300) return "done";
  if (BUSY.has(reply.status)) return "untouched";
  // An engine that redirects is no engine; only a 4xx speaks of the request.
  return reply.status >= 400 && reply.status < 500 ? "refusal" : "lost";
}

interface Limits {
  readonly endpoints: number;
  readonly attempts: number;
  /** Tries that may be lost and followed by another; default 1. */
  readonly losses?: number;
}

/** How the leg goes on after `history`, which ends with the newest meaning. */
export function next(history: readonly Meaning[], limits: Limits): "again" | "local" | "fail" | "stop" {
  const last = history.at(-1);
  if (last === undefined) return "again";
  if (last === "done" || last === "refusal" || last === "aborted") return "stop";
  if (history.filter((each) => each === "lost").length > (limits.losses ?? 1)) return "fail";
  return history.length < Math.min(limits.endpoints, limits.attempts) ? "again" : "local";
}

/** Of a leg behind its decode. */
export type LegEnd = LegFailure | { readonly kind: "done" } | { readonly kind: "aborted" };

/** What a client is told in the place of an answer. */
export type LegFailure =
  | { readonly kind: "refusal"; readonly status: number; readonly body: Uint8Array }
  | { readonly kind: "failed"; readonly detail: string };

export type LegOutcome<T> =
  | { readonly kind: "transferred"; readonly by: T; readonly params: Buffer; readonly usage: PromptUsage }
  /** `ended`: how a leg that still runs ends; decode was told whom it waits for, so no other try follows. */
  | { readonly kind: "sent"; readonly by: T; readonly ended?: Promise<LegEnd> }
  /** `kept`: an engine ended the leg well and kept nothing; absent where none took it. */
  | { readonly kind: "local"; readonly kept?: "nothing" }
  | LegFailure
  | { readonly kind: "aborted" };

export interface LegInput<T> {
  /** Endpoints in the order of their cost. */
  readonly endpoints: readonly T[];
  readonly attempts: number;
  readonly client: EngineClient;
  /** Ends it between two tries. */
  readonly signal?: AbortSignal;
  /** What must be known of an endpoint before it is asked; false where it cannot be known: it counts as refusing. */
  readonly ready?: (endpoint: T) => Promise<boolean>;
  /** The request for one of them. */
  readonly request: (endpoint: T) => EngineRequest;
  /** Called around each try, for accounting; `late` where decode was sent before the leg ended. */
  readonly onStart: (endpoint: T) => (meaning: Meaning, late: boolean, reply: EngineReply) => void;
  /** Whether decode need not wait for the answer of this endpoint. */
  readonly concurrent?: (endpoint: T) => boolean;
  /**
   * There where decode was sent before, and waits for whoever prefills; called when a try is on its way. Behind a try that
   * is lost none follows: what it still writes would go where decode keeps another request by then.
   */
  readonly asked?: () => void;
}

export async function runPrefillLeg<T>(input: LegInput<T>): Promise<LegOutcome<T>> {
  const limits = limitsOf(input);
  const history: Meaning[] = [];
  let reply: EngineReply = { kind: "refused", detail: "no prefill endpoint" };
  let endpoint: T | undefined;
  while (next(history, limits) === "again") {
    endpoint = input.endpoints[history.length];
    if (endpoint === undefined) break;
    // Awaited only where something is asked: a turn of the microtask queue is a turn of every stream.
    const unready = input.ready === undefined || (await input.ready(endpoint)) ? undefined : UNREADY;
    if (input.signal?.aborted === true) return { kind: "aborted" };
    const ended = unready ?? (await attempt(input, endpoint));
    if ("ended" in ended) return { kind: "sent", by: endpoint, ended: ended.ended };
    reply = ended;
    history.push(meaning(reply));
  }
  return endpoint === undefined ? { kind: "local" } : conclude(input, { step: next(history, limits), reply, endpoint });
}

const limitsOf = <T>({ endpoints, attempts, asked }: LegInput<T>): Limits => ({
  ...{ endpoints: endpoints.length, attempts },
  losses: asked === undefined ? 1 : 0,
});

const UNREADY: EngineReply = { kind: "refused", detail: "what decode must know of it is not to be had" };

/** On its way, and decode may be sent. */
interface Sent {
  readonly ended: Promise<LegEnd>;
}

async function attempt<T>(input: LegInput<T>, endpoint: T): Promise<EngineReply | Sent> {
  // Made before anything is counted: a throw must not leave work on the endpoint.
  const request = input.request(endpoint);
  const finished = input.onStart(endpoint);
  if (input.concurrent?.(endpoint) !== true) {
    const { asked } = input;
    const reply = await input.client.send(asked === undefined ? request : { ...request, onSent: asked });
    finished(meaning(reply), asked !== undefined, reply);
    return reply;
  }
  let late = false;
  const sent = Promise.withResolvers<undefined>();
  const ended = input.client.send({ ...request, onSent: () => sent.resolve(undefined) }).then((reply) => {
    finished(meaning(reply), late, reply);
    return reply;
  });
  const first = await Promise.race([ended, sent.promise]);
  late = first === undefined;
  return first ?? { ended: ended.then(endOf, faultOf) };
}

function endOf(reply: EngineReply): LegEnd {
  const meant = meaning(reply);
  if (meant === "done") return { kind: "done" };
  if (meant === "aborted") return { kind: "aborted" };
  return meant === "refusal" && reply.kind === "answer" ? refusalOf(reply) : failureOf(reply);
}

const refusalOf = ({ status, body }: EngineAnswer): LegFailure => ({ kind: "refusal", status, body });

const failureOf = (reply: EngineReply): LegFailure => ({
  kind: "failed",
  detail: reply.kind === "answer" ? `status ${reply.status}` : reply.detail,
});

/** An error of our own behind decode: whoever waits is told as of any other failure. */
export const faultOf = (error: unknown): LegFailure => ({ kind: "failed", detail: String(error) });

type EngineAnswer = Extract<EngineReply, { kind: "answer" }>;

interface Ended<T> {
  readonly step: ReturnType<typeof next>;
  readonly reply: EngineReply;
  readonly endpoint: T;
}

function conclude<T>(input: LegInput<T>, { step, reply, endpoint: by }: Ended<T>): LegOutcome<T> {
  if (step === "fail") return failureOf(reply);
  if (step === "local") return { kind: "local" };
  if (reply.kind !== "answer") return { kind: "aborted" };
  if (meaning(reply) === "refusal") return refusalOf(reply);
  if (input.concurrent?.(by) === true) return { kind: "sent", by };
  const result = readPrefillResult(Buffer.from(reply.body));
  // An engine that finished the answer, or was started without a connector, keeps nothing: decode computes it all.
  if (result?.params === undefined) return { kind: "local", kept: "nothing" };
  return { kind: "transferred", by, params: result.params, usage: result.usage };
}
