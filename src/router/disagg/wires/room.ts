/**
 * SGLang: both legs carry the whole request and a room on the prefill engine's bootstrap server in which they meet.
 *
 * Source: SGLang's `GenerateReqInput`: of a batch each request gets room + its place in it, host and port are the same
 * for all, so that scalars serve single requests and batches. Several answers of one prompt would share a room, and
 * probabilities of a prompt stay with who prefilled it: such requests cannot be split. Rooms stay below 2^53, the largest integer that every JSON reader keeps.
 */
import { connectorPort, hostOf } from "../addresses.ts";
import { wholeBody } from "../bodies.ts";
import type { Meeting, Pair, WireRules } from "../wires.ts";

/** Rooms of a batch follow one another: as many prompts as a body of the largest size can hold have room. */
const ROOMS = 2 ** 53 - 2 ** 28;

/**
 * Engines with several data-parallel ranks take the one that the room gives by division; it is named to both all the
 * same, as their balancing may be set otherwise.
 */
function members({ prefill }: Pair, { chance }: Meeting): Map<string, string> {
  const room = Math.floor(chance * ROOMS);
  return new Map([
    ["bootstrap_host", JSON.stringify(hostOf(prefill.address))],
    ["bootstrap_port", String(connectorPort(prefill))],
    ["bootstrap_room", String(room)],
  ]);
}

const rankOf = ({ prefill: { ranks = 1 } }: Pair, { chance }: Meeting, key: string): readonly [string, string][] =>
  ranks > 1 ? [[key, String(Math.floor(chance * ROOMS) % ranks)]] : [];

export const room: WireRules = {
  takes: ({ api, oneAnswer, unscored }) => api.rooms === true && oneAnswer && unscored,
  prefill: ({ body, facts }, pair, meeting) => ({
    body: wholeBody(
      body,
      facts,
      new Map([...members(pair, meeting), ...rankOf(pair, meeting, "routed_dp_rank"), ...UNSTREAMED]),
    ),
    headers: [],
  }),
  decode: ({ body, facts }, pair, meeting) => ({
    body: wholeBody(
      body,
      facts,
      new Map([...members(pair, meeting), ...rankOf(pair, meeting, "disagg_prefill_dp_rank")]),
    ),
    headers: [],
  }),
};

/** Its one token is nobody's to read: whole, so that the answer's status tells how the leg ended. */
const UNSTREAMED: readonly (readonly [string, string | undefined])[] = [
  ["stream", "false"],
  ["stream_options", undefined],
];
