/**
 * NIXL push: the prefill engine writes into blocks that the decode engine registers with it, whichever comes first. The
 * decode leg names the prefill engine by coordinates that only that engine knows: its first answer tells them, so that
 * the first request to an engine runs one leg after the other, and all later ones both at once.
 *
 * Both engines find the transfer by the request id that both legs carry (`get_base_request_id` of vLLM's push connector).
 */
import { onlyPrefill, PARAMS, wholeBody } from "../bodies.ts";
import type { WireRules } from "../wires.ts";
import { KEEP_FOR_REMOTE } from "./pull.ts";

/** Coordinates of an engine, and not of one request, among the members of an answer. */
export const COORDINATES = ["remote_engine_id", "remote_host", "remote_port", "tp_size", "pp_size"] as const;

/** vLLM's ids of one request: `chatcmpl-ID`, `cmpl-ID-0`, and the id alone where the API has no prefix. */
const WITHIN: Readonly<Record<string, (id: string) => string>> = {
  chat: (id) => `chatcmpl-${id}`,
  completions: (id) => `cmpl-${id}-0`,
  "vLLM generate": (id) => `generate-tokens-${id}`,
};

export const push: WireRules = {
  takes: ({ single, cuttable }) => single && cuttable,
  pins: true,
  peer: "hears",
  prefill: ({ body, facts }) => ({
    body: onlyPrefill(body, facts, new Map([[PARAMS, KEEP_FOR_REMOTE]])),
    headers: [],
  }),
  decode: ({ body, facts, requestId }, _, { peer }, params) => {
    const known = JSON.stringify({
      do_remote_prefill: true,
      do_remote_decode: false,
      ...peer?.coordinates,
      remote_request_id: WITHIN[facts.api.name]?.(requestId) ?? requestId,
    });
    return { body: wholeBody(body, facts, new Map([[PARAMS, params ?? known]])), headers: [] };
  },
};
