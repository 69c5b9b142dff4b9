/**
 * Upstream vLLM's MooncakeConnector: both legs name one transfer; the decode engine finds the prefill engine's rank by
 * its bootstrap server and the rank's engine id, which that server tells (`GET /query`). Reference kv-cache-and-pd.md, 5.2.
 */
import type { Endpoint } from "../../../kinds/endpoint.ts";
import { HEADER } from "../../../kinds/names.ts";
import { connectorPort, hostOf } from "../addresses.ts";
import { onlyPrefill, PARAMS, wholeBody } from "../bodies.ts";
import type { Meeting, WireRules } from "../wires.ts";

const transferId = (requestId: string): string => `xfer-${requestId}`;

/**
 * The rank that prefills. An endpoint of one rank among several has an API server of its own, and needs no telling; behind
 * one server with several ranks any may be had, so each try takes one by chance.
 */
function rankOf(prefill: Endpoint, { chance, peer }: Meeting): number {
  const count = peer?.engineIds.length ?? 1;
  if ((prefill.ranks ?? 1) === 1) return prefill.dataParallelRank < count ? prefill.dataParallelRank : 0;
  return Math.floor(chance * count);
}

export const bootstrap: WireRules = {
  takes: ({ single, cuttable }) => single && cuttable,
  pins: true,
  peer: "asks",
  prefill: ({ body, facts, requestId }, { prefill }, meeting) => ({
    body: onlyPrefill(
      body,
      facts,
      new Map([
        [
          PARAMS,
          JSON.stringify({ do_remote_decode: true, do_remote_prefill: false, transfer_id: transferId(requestId) }),
        ],
      ]),
    ),
    headers: (prefill.ranks ?? 1) > 1 ? [[HEADER.dataParallelRank, String(rankOf(prefill, meeting))]] : [],
  }),
  decode: ({ body, facts, requestId }, { prefill }, meeting) => ({
    body: wholeBody(
      body,
      facts,
      new Map([
        [
          PARAMS,
          JSON.stringify({
            do_remote_decode: false,
            do_remote_prefill: true,
            remote_bootstrap_addr: `http://${hostOf(prefill.address)}:${connectorPort(prefill)}`,
            remote_engine_id: meeting.peer?.engineIds[rankOf(prefill, meeting)] ?? "",
            transfer_id: transferId(requestId),
          }),
        ],
      ]),
    ),
    headers: [],
  }),
};
