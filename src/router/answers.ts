/** Errors in the shape that OpenAI's clients understand: `{"error":{"message","type","param","code"}}`. */
import type { Reason } from "../kinds/verdict.ts";
import { HEADER } from "../kinds/names.ts";
import type { Answer } from "./exchange.ts";
import type { HeaderList } from "./headers.ts";

export interface Problem {
  readonly status: 400 | 404 | 405 | 413 | 415 | 429 | 503;
  readonly reason: Reason;
  readonly message: string;
  /** The body's member at fault. */
  readonly param?: string;
}

const TYPES: Readonly<Record<Problem["status"], { type: string; code: string }>> = {
  400: { type: "invalid_request_error", code: "invalid_request" },
  404: { type: "invalid_request_error", code: "not_found" },
  405: { type: "invalid_request_error", code: "method_not_allowed" },
  413: { type: "invalid_request_error", code: "request_too_large" },
  415: { type: "invalid_request_error", code: "unsupported_media_type" },
  429: { type: "rate_limit_error", code: "rate_limit_exceeded" },
  503: { type: "server_error", code: "service_unavailable" },
};

/** Seconds after which trying again is worth while; endpoints are scraped every second, so two see a change. */
const RETRY_AFTER_SECONDS = "2";

const JSON_TYPE: HeaderList = [["content-type", "application/json"]];

export function problemAnswer(problem: Problem): Answer {
  const { type, code } = TYPES[problem.status];
  const error = {
    message: problem.message,
    type,
    param: problem.param ?? null,
    code: problem.status === 404 && problem.param === "model" ? "model_not_found" : code,
  };
  const retry: HeaderList =
    problem.status === 429 || problem.status === 503 ? [["retry-after", RETRY_AFTER_SECONDS]] : [];
  return {
    kind: "answer",
    status: problem.status,
    headers: [...JSON_TYPE, ...retry, [HEADER.reason, problem.reason]],
    body: Buffer.from(JSON.stringify({ error })),
    reason: problem.reason,
  };
}

export const jsonAnswer = (status: number, value: unknown): Answer => ({
  kind: "answer",
  status,
  headers: JSON_TYPE,
  body: Buffer.from(JSON.stringify(value)),
  reason: "Picked",
});

/** An engine's own refusal, passed on as it is. */
export const engineAnswer = (status: number, body: Uint8Array): Answer => ({
  kind: "answer",
  status,
  headers: JSON_TYPE,
  body: Buffer.from(body),
  reason: "PrefillFailed",
});
