/**
 * What a stream can do with the request body, by the mode that Envoy announces in `protocol_config`.
 *
 * | how | ext_proc mode | the destination goes with | body |
 * |---|---|---|---|
 * | bodiless | any, and the headers end the request | the headers reply | none |
 * | none | NONE | the headers reply | never seen |
 * | streamed | STREAMED | the headers reply, before the body comes | passes unread |
 * | early | STREAMED, sent without waiting | the headers reply, held until the body is here or a moment has passed | read, changed |
 * | buffered | BUFFERED | the body reply | read, changed |
 * | partial | BUFFERED_PARTIAL | the body reply | read as far as it came |
 * | duplex | FULL_DUPLEX_STREAMED | the headers reply, held until the body is here | read, changed |
 * | refused | GRPC, or one that is not known | | |
 */
import { problemAnswer } from "../answers.ts";
import type { Answer } from "../exchange.ts";
import { errorsOf } from "../request/head.ts";
import { BODY_MODES, type BodyMode, type Modes } from "./codec.ts";

export type How = "bodiless" | "none" | "streamed" | "early" | "buffered" | "partial" | "duplex" | "refused";

const HOW: Readonly<Record<BodyMode, How>> = {
  NONE: "none",
  STREAMED: "streamed",
  BUFFERED: "buffered",
  BUFFERED_PARTIAL: "partial",
  FULL_DUPLEX_STREAMED: "duplex",
  GRPC: "refused",
};

export function howOf({ request, response, early }: Modes, endOfStream: boolean): How {
  if (HOW[response] === "refused" || HOW[request] === "refused") return "refused";
  if (endOfStream) return "bodiless";
  return request === "STREAMED" && early === true ? "early" : HOW[request];
}

/** In duplex no message of Envoy's has a timer (onStartProcessorCall in processor_state.cc). */
export const isTimed = ({ request }: Modes): boolean => request !== "FULL_DUPLEX_STREAMED";

/**
 * Whether trailers are asked for: of an answer whose body is not seen they alone tell the end, and Envoy does not announce
 * whether it sends them. Where it may not be told (`allow_mode_override`), it goes on as it is set up; in duplex it is never.
 */
export const wantsTrailers = ({ request, response }: Modes): boolean =>
  response === "NONE" && request !== "FULL_DUPLEX_STREAMED";

/** Announced by an Envoy that is older than `protocol_config`: what such a one is likely to be set up with. */
export const UNANNOUNCED: Modes = { request: "BUFFERED", response: "NONE" };

/** Of Envoy's default `message_timeout` of 200 ms. */
export const LATE_MS = 100;
/** How long the headers are held while chunks come: the rest of the 200 ms is for the pick. */
export const HOLD_MS = 100;

/** In the shape that the clients of the path understand. */
export function modeRefused({ request, response }: Modes, path: string): Answer {
  const accepted = BODY_MODES.filter((mode) => HOW[mode] !== "refused").join(", ");
  const message = `ext_proc body modes ${request} (request) and ${response} (response); accepted: ${accepted}`;
  return problemAnswer({ status: 500, reason: "ModeRefused", message }, errorsOf(path));
}
