/**
 * Errors in the shape that the clients of an API understand: OpenAI's `{"error":{"message","type","param","code"}}`, or
 * Anthropic's `{"type":"error","error":{"type","message"}}`.
 */
import type { Reason } from "../kinds/verdict.ts";
import { HEADER } from "../kinds/names.ts";
import type { Answer } from "./exchange.ts";
import type { HeaderList } from "./headers.ts";
import type { ErrorShape } from "./request/apis.ts";

export interface Problem {
  readonly status: 400 | 404 | 405 | 408 | 413 | 415 | 429 | 500 | 503;
  readonly reason: Reason;
  readonly message: string;
  /** The body's member at fault. */
  readonly param?: string;
  /** Of 429 and 503, where it is not worth while after the usual two. */
  readonly retryAfterSeconds?: number;
}

interface Kind {
  readonly type: string;
  readonly code: string;
  /** Anthropic's `type` for it. */
  readonly anthropic: string;
}

const TYPES: Readonly<Record<Problem["status"], Kind>> = {
  400: { type: "invalid_request_error", code: "invalid_request", anthropic: "invalid_request_error" },
  404: { type: "invalid_request_error", code: "not_found", anthropic: "not_found_error" },
  405: { type: "invalid_request_error", code: "method_not_allowed", anthropic: "invalid_request_error" },
  408: { type: "invalid_request_error", code: "request_timeout", anthropic: "invalid_request_error" },
  413: { type: "invalid_request_error", code: "request_too_large", anthropic: "request_too_large" },
  415: { type: "invalid_request_error", code: "unsupported_media_type", anthropic: "invalid_request_error" },
  429: { type: "rate_limit_error", code: "rate_limit_exceeded", anthropic: "rate_limit_error" },
  500: { type: "server_error", code: "internal_error", anthropic: "api_error" },
  503: { type: "server_error", code: "service_unavailable", anthropic: "overloaded_error" },
};

/** Seconds after which trying again is worth while; endpoints are scraped every second, so two see a change. */
const RETRY_AFTER_SECONDS = 2;

const JSON_TYPE: HeaderList = [["content-type", "application/json"]];

function errorBody({ status, message, param }: Problem, shape: ErrorShape): object {
  const { type, code, anthropic } = TYPES[status];
  if (shape === "anthropic") return { type: "error", error: { type: anthropic, message } };
  const known = status === 404 && param === "model" ? "model_not_found" : code;
  return { error: { message, type, param: param ?? null, code: known } };
}

export function problemAnswer(problem: Problem, shape: ErrorShape = "openai"): Answer {
  const retry: HeaderList =
    problem.status === 429 || problem.status === 503
      ? [["retry-after", String(problem.retryAfterSeconds ?? RETRY_AFTER_SECONDS)]]
      : [];
  return {
    kind: "answer",
    status: problem.status,
    headers: [...JSON_TYPE, ...retry, [HEADER.reason, problem.reason]],
    body: Buffer.from(JSON.stringify(errorBody(problem, shape))),
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
