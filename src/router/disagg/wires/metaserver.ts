/**
 * vLLM-Ascend's MooncakeLayerwiseConnector: decode goes first, and when it has blocks it posts to the address that its
 * body names; what it posts goes into the prefill leg as it is. Reference kv-cache-and-pd.md, 5.3.
 */
import { onlyPrefill, PARAMS, wholeBody } from "../bodies.ts";
import type { WireRules } from "../wires.ts";

export const metaserver: WireRules = {
  takes: ({ single, cuttable }) => single && cuttable,
  prefill: ({ body, facts }, _, { posted }) => ({
    body: onlyPrefill(body, facts, new Map([[PARAMS, posted ?? "{}"]])),
    headers: [],
  }),
  decode: ({ body, facts }, _, { callback = "" }) => ({
    body: wholeBody(
      body,
      facts,
      new Map([[PARAMS, JSON.stringify({ do_remote_decode: false, do_remote_prefill: true, metaserver: callback })]]),
    ),
    headers: [],
  }),
};
