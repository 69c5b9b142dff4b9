/**
 * NIXL (pull) and vLLM-Ascend's MooncakeConnectorV1: the prefill leg answers with parameters that the decode leg
 * carries, byte for byte. Formats: reference kv-cache-and-pd.md, 5.1 and 5.3.
 */
import { onlyPrefill, PARAMS, wholeBody } from "../bodies.ts";
import type { WireRules } from "../wires.ts";

/** Asks the engine to keep the blocks of the prompt for a remote decode. */
export const KEEP_FOR_REMOTE = JSON.stringify({
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
});

export const pull: WireRules = {
  takes: ({ single, cuttable }) => single && cuttable,
  pins: true,
  prefill: ({ body, facts }) => ({
    body: onlyPrefill(body, facts, new Map([[PARAMS, KEEP_FOR_REMOTE]])),
    headers: [],
  }),
  decode: ({ body, facts }, _, __, params) => ({
    body: params === undefined ? wholeBody(body, facts) : wholeBody(body, facts, new Map([[PARAMS, params]])),
    headers: [],
  }),
};
