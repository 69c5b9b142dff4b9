/**
 * The cost of a pick, taken apart: every term of J of every candidate, in milliseconds. For people who ask why; picks are
 * made from the sums, and this is computed from the same input afterwards, for those picks alone that somebody may ask for.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { decodeCost, ownPrefillMs, pinnedCost, prefillCost, requestsOn, transferCost } from "./cost.ts";
import { distanceOf } from "./distance.ts";
import { fetchMs, usableTokens } from "./tiers.ts";
import {
  batchOn,
  decodingMs,
  pairs,
  type Candidate,
  type Pick as Choice,
  type PickInput,
  type PricedPrefill,
} from "./pick.ts";

/** Prefill on one endpoint. The terms add up to `costMs`. */
export interface PrefillTerms {
  /** Prefill work already there. */
  readonly queueMs: number;
  /** This prompt's uncached part. */
  readonly ownMs: number;
  /** What that part costs others: prefill capacity and somebody's cache. */
  readonly capacityMs: number;
  /** What requests in flight there suffer from it. */
  readonly interferenceMs: number;
  /** What blocks that wait to be fetched add. */
  readonly pinnedMs: number;
  /** Cached blocks that are fetched from farther away. */
  readonly fetchMs: number;
  readonly costMs: number;
}

interface Row {
  readonly endpoint: Pick<Endpoint, "name" | "address" | "role">;
  /** Leading prompt tokens that it is thought to hold. */
  readonly cachedTokens: number;
  /** By what that is known. */
  readonly whence: NonNullable<Candidate["whence"]>;
  readonly requests: number;
  readonly chosen: boolean;
}

export interface PrefillRow extends Row {
  readonly prefill: PrefillTerms;
}

export interface DecodeRow extends Row {
  /** What each further request in the batch costs the others. */
  readonly decodeMs: number;
  /** Waiting until its KV cache has room. */
  readonly roomMs: number;
  /** Prefill on this very endpoint. */
  readonly local: PrefillTerms;
  /** Prefill on the cheapest partner; absent where there is none. */
  readonly remote?: { readonly by: string; readonly prefillMs: number; readonly transferMs: number };
  /** `decodeMs`, `roomMs` and the way to prefill that counts. */
  readonly costMs: number;
}

export interface PickTerms {
  /** Cheapest first, the chosen one always among them. */
  readonly decode: readonly DecodeRow[];
  readonly prefill: readonly PrefillRow[];
  /** Candidates, of which the rows are the cheapest. */
  readonly candidates: { readonly decode: number; readonly prefill: number };
}

/**
 * The cheapest candidates of each kind; what was computed for the pick says which those are, so that a thousand others cost
 * a comparison each.
 * @param most rows of each kind
 */
export function termsOf(input: PickInput, pick: Choice, most: number): PickTerms {
  const [partner] = pick.prefill;
  const prefill = including(pick.priced.slice(0, most), partner, most);
  const decode = including(
    lowest(pick.costs, most).map((at) => input.decode[at] as Candidate),
    pick.decode,
    most,
  );
  const rows = decode.map((candidate) => decodeRow(candidate, candidate === pick.decode, pick.priced, input));
  return {
    decode: rows.toSorted((a, b) => a.costMs - b.costMs),
    prefill: prefill.map(({ candidate }) => prefillRow(candidate, candidate === partner?.candidate, input)),
    candidates: { decode: input.decode.length, prefill: input.prefill.length },
  };
}

/** The terms of the chosen endpoints alone. */
export const chosenTerms = (input: PickInput, pick: Choice): PickTerms => termsOf(input, pick, 1);

/** The chosen one in the place of the last, where it is not among the cheapest. */
function including<T>(kept: readonly T[], chosen: T | undefined, most: number): readonly T[] {
  return chosen === undefined || kept.includes(chosen) ? kept : [...kept.slice(0, most - 1), chosen];
}

/** Places of the lowest numbers, the lowest first. */
function lowest(costs: Float64Array, most: number): readonly number[] {
  const places: number[] = [];
  for (let at = 0; at < costs.length; at++) {
    const cost = costs[at] as number;
    if (places.length === most && cost >= (costs[places.at(-1) as number] as number)) continue;
    let place = places.length;
    while (place > 0 && (costs[places[place - 1] as number] as number) > cost) place -= 1;
    places.splice(place, 0, at);
    if (places.length > most) places.pop();
  }
  return places;
}

const endpointOf = ({ name, address, role }: Endpoint): Row["endpoint"] => ({ name, address, role });

function rowOf({ endpoint, load, stats, cachedTokens, whence = "history" }: Candidate, chosen: boolean): Row {
  return { endpoint: endpointOf(endpoint), cachedTokens, whence, requests: requestsOn(load, stats), chosen };
}

const prefillRow = (candidate: Candidate, chosen: boolean, input: PickInput): PrefillRow => ({
  ...rowOf(candidate, chosen),
  prefill: prefillTerms(candidate, input),
});

/** Each term by the same function as in the pick, with what is not asked for at zero. */
function prefillTerms(candidate: Candidate, input: PickInput): PrefillTerms {
  const { constants, promptTokens } = input;
  const { endpoint, load, stats, capacityTokens = 0 } = candidate;
  const usable = usableTokens(promptTokens, candidate, constants);
  const ownMs = load.slowness * ownPrefillMs(promptTokens, usable, constants);
  const at = (prefillMs: number, requests: number): number =>
    prefillCost(ownMs, endpoint.role, { prefillMs, requests }, constants);
  const pinnedMs = pinnedCost(ownMs, load.pinnedTokens, capacityTokens, constants);
  const fetching = fetchMs(usable, candidate, constants);
  const alone = at(0, 0);
  return {
    queueMs: load.prefillMs,
    ownMs,
    capacityMs: alone - ownMs,
    interferenceMs: at(0, requestsOn(load, stats)) - alone,
    pinnedMs,
    fetchMs: fetching,
    costMs: at(load.prefillMs, requestsOn(load, stats)) + pinnedMs + fetching,
  };
}

function decodeRow(
  candidate: Candidate,
  chosen: boolean,
  priced: readonly PricedPrefill[],
  input: PickInput,
): DecodeRow {
  const local = prefillTerms(candidate, input);
  const remote = cheapestRemote(candidate.endpoint, priced, input);
  const remoteMs = remote === undefined ? Infinity : remote.prefillMs + remote.transferMs;
  const localMs = input.alone?.(candidate.endpoint) === false ? Infinity : local.costMs;
  const decodeMs = decodeCost(batchOn(candidate), input.outputTokens, input.constants);
  const roomMs = decodingMs(candidate, input) - decodeMs;
  const isRemote = remoteMs < Infinity && (input.policy === "always" || remoteMs < localMs);
  return {
    ...rowOf(candidate, chosen),
    decodeMs,
    roomMs,
    local,
    ...(remote === undefined ? {} : { remote }),
    costMs: decodeMs + roomMs + (isRemote ? remoteMs : localMs),
  };
}

/** They come cheapest first: none behind can be cheaper by being near. */
function cheapestRemote(decode: Endpoint, priced: readonly PricedPrefill[], input: PickInput): DecodeRow["remote"] {
  const { promptTokens, constants } = input;
  const nearest = transferCost(promptTokens, constants);
  let [best, bestMs]: [DecodeRow["remote"], number] = [undefined, Infinity];
  for (const { candidate, costMs: prefillMs } of priced) {
    if (prefillMs + nearest >= bestMs) break;
    if (!pairs(candidate.endpoint, decode, input)) continue;
    const transferMs = transferCost(promptTokens, constants, distanceOf(candidate.endpoint, decode));
    if (prefillMs + transferMs >= bestMs) continue;
    best = { by: candidate.endpoint.name, prefillMs, transferMs };
    bestMs = prefillMs + transferMs;
  }
  return best;
}
