/**
 * Chooses where a request is prefilled and decoded, from candidates with their load and cached prefix.
 *
 * Prefill and decode are chosen jointly: for each decode endpoint, prefill there against prefill on the best compatible
 * prefill endpoint plus the transfer. The lowest cost wins; within 1 % the least recently assigned, so that idle
 * endpoints take turns. Pure: it neither sends nor counts anything.
 */
import type { Endpoint, EngineStats } from "../../kinds/endpoint.ts";
import { allowed, type Verdict } from "../../kinds/verdict.ts";
import type { EndpointLoad } from "../load.ts";
import {
  contextOn,
  decodeCost,
  fitCost,
  ownPrefillMs,
  pinnedCost,
  prefillCost,
  requestsOn,
  transferCost,
  type CostConstants,
} from "./cost.ts";
import { distanceOf } from "./distance.ts";
import { fetchMs, usableTokens } from "./tiers.ts";

export interface Candidate {
  readonly endpoint: Endpoint;
  readonly load: EndpointLoad;
  readonly stats: EngineStats | undefined;
  /** Leading prompt tokens that it is thought to hold. */
  readonly cachedTokens: number;
  /** By what is known: the engine's own events, or what was sent there; default: the latter. */
  readonly whence?: "events" | "history";
  /** Leading tokens by what was sent there, whatever the engine tells. */
  readonly sentTokens?: number;
  /** Leading tokens that are no farther than the host's memory, and than a disk or a pool; 0 where nobody tells. */
  readonly hostTokens?: number;
  readonly sharedTokens?: number;
  /** Tokens that its KV cache holds; default: nothing is known, and pinned blocks have no price. */
  readonly capacityTokens?: number;
}

export interface PickInput {
  readonly prefill: readonly Candidate[];
  /** Roles decode and both. */
  readonly decode: readonly Candidate[];
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly constants: CostConstants;
  /** `always`: a remote prefill is taken wherever one is to be had. */
  readonly policy: "cost" | "always";
  /** Endpoints wanted behind the picked one. */
  readonly fallbacks?: number;
  /** Undefined where KV blocks can travel from the first to the second, else the reason why not. */
  readonly incompatible: (prefill: Endpoint, decode: Endpoint) => string | undefined;
  /** Whether it computes prompts by itself; default: every one does. */
  readonly alone?: (decode: Endpoint) => boolean;
}

/** A prefill endpoint with its price; the cheapest first. */
export interface PricedPrefill {
  readonly candidate: Candidate;
  readonly ownMs: number;
  readonly costMs: number;
}

export interface Pick {
  readonly decode: Candidate;
  /** Remote prefill endpoints to try, in order; empty: prefill runs on the decode endpoint. */
  readonly prefill: readonly PricedPrefill[];
  /** Prefill time if it runs on the decode endpoint. */
  readonly localOwnMs: number;
  readonly costMs: number;
  readonly verdict: Verdict;
  /** The next best decode endpoints that the same prefill can be handed to. */
  readonly fallbacks: readonly Endpoint[];
  /** Of each decode candidate, in the order of the input. */
  readonly costs: Float64Array;
  /** Every prefill endpoint, the cheapest first. */
  readonly priced: readonly PricedPrefill[];
}

/** Costs this close are a tie. */
const TIE = 0.01;

/** The pick, or undefined without a decode endpoint. */
export function pick(input: PickInput): Pick | undefined {
  const priced = input.prefill.map((candidate) => price(candidate, input)).sort(byCost);
  // One loop over numbers: a thousand endpoints are compared for each request, and one of them is chosen.
  const costs = costsOf(priced, input);
  const decode = leastRecent(input.decode, costs);
  // Nobody prefills for it, and it does not itself.
  if (decode === undefined || !Number.isFinite(costs[input.decode.indexOf(decode)] ?? Infinity)) return undefined;
  const chosen = settle(decode, priced, input);
  return { ...chosen, fallbacks: fallbacks(chosen, costs, input), costs, priced };
}

/** Cheapest first. The first prefill endpoint stands for all: those behind it are compatible with the same decoders. */
function fallbacks(chosen: Settled, costs: Float64Array, input: PickInput): readonly Endpoint[] {
  const { fallbacks: count = 0 } = input;
  if (count === 0) return [];
  const prefill = chosen.prefill[0]?.candidate.endpoint;
  return input.decode
    .map((candidate, index) => ({ candidate, costMs: costs[index] ?? Infinity }))
    .filter(({ candidate, costMs }) => candidate !== chosen.decode && costMs < Infinity)
    .filter(({ candidate }) => prefill === undefined || pairs(prefill, candidate.endpoint, input))
    .sort((a, b) => a.costMs - b.costMs)
    .slice(0, count)
    .map(({ candidate }) => candidate.endpoint);
}

function price(candidate: Candidate, input: PickInput): PricedPrefill {
  const usable = usableTokens(input.promptTokens, candidate, input.constants);
  const ownMs = candidate.load.slowness * ownPrefillMs(input.promptTokens, usable, input.constants);
  return { candidate, ownMs, costMs: prefillMs(candidate, usable, ownMs, input) };
}

/** J, with the ways of blocks that are fetched, and what pinned ones displace. */
function prefillMs(candidate: Candidate, usable: number, ownMs: number, { constants }: PickInput): number {
  const { load, stats, endpoint, capacityTokens = 0 } = candidate;
  const there = { prefillMs: load.prefillMs, requests: requestsOn(load, stats) };
  return (
    prefillCost(ownMs, endpoint.role, there, constants) +
    fetchMs(usable, candidate, constants) +
    pinnedCost(ownMs, load.pinnedTokens, capacityTokens, constants)
  );
}

const byCost = (a: PricedPrefill, b: PricedPrefill): number => a.costMs - b.costMs;

/**
 * Cheapest first, and of those that tie with the cheapest the least recently assigned. Near is measured from the cheapest
 * alone: of a thousand endpoints each may be within 1 % of the next, and the last ten times as dear as the first.
 */
function inTurn(all: readonly PricedPrefill[], costOf: (each: PricedPrefill) => number): readonly PricedPrefill[] {
  const sorted = all.map((priced) => ({ priced, ms: costOf(priced) })).sort((a, b) => a.ms - b.ms);
  const most = (sorted[0]?.ms ?? 0) * (1 + TIE);
  const beyond = sorted.findIndex(({ ms }) => ms > most);
  const ties = (beyond < 0 ? sorted : sorted.slice(0, beyond)).map(({ priced }) => priced);
  ties.sort((a, b) => a.candidate.load.assigned - b.candidate.load.assigned);
  return beyond < 0 ? ties : [...ties, ...sorted.slice(beyond).map(({ priced }) => priced)];
}

/** What a decode endpoint would cost, with the cheaper way to prefill for it. */
interface Terms {
  readonly localOwnMs: number;
  readonly localMs: number;
  readonly remoteMs: number;
  readonly decodeMs: number;
  readonly remote: boolean;
  readonly costMs: number;
}

function termsOf(decode: Candidate, priced: readonly PricedPrefill[], input: PickInput): Terms {
  const { ownMs: localOwnMs, costMs } = price(decode, input);
  const localMs = input.alone?.(decode.endpoint) === false ? Infinity : costMs;
  const remoteMs = cheapestPartner(decode.endpoint, priced, input);
  const remote = remoteMs < Infinity && (input.policy === "always" || remoteMs < localMs);
  const decodeMs = decodingMs(decode, input);
  return { localOwnMs, localMs, remoteMs, decodeMs, remote, costMs: decodeMs + (remote ? remoteMs : localMs) };
}

/** What each decode step there has to do. */
export const batchOn = ({ load, stats, capacityTokens = 0 }: Candidate): { requests: number; kvTokens: number } => ({
  requests: requestsOn(load, stats),
  kvTokens: contextOn(load, stats, capacityTokens),
});

/** The answer's steps, and the wait for room for its KV. */
export function decodingMs(decode: Candidate, { promptTokens, outputTokens, constants }: PickInput): number {
  const { requests, kvTokens } = batchOn(decode);
  const { cachedTokens, capacityTokens = 0 } = decode;
  const ms = decodeCost({ requests, kvTokens }, outputTokens, constants);
  return ms + fitCost(promptTokens - cachedTokens + outputTokens, { kvTokens, capacityTokens }, ms);
}

/** Prefill on a partner and the way from there. They come cheapest first: none behind can be cheaper by being near. */
function cheapestPartner(decode: Endpoint, priced: readonly PricedPrefill[], input: PickInput): number {
  const nearest = transferCost(input.promptTokens, input.constants);
  let lowest = Infinity;
  for (const { candidate, costMs } of priced) {
    if (costMs + nearest >= lowest) break;
    if (pairs(candidate.endpoint, decode, input))
      lowest = Math.min(lowest, costMs + transferTo(decode, candidate, input));
  }
  return lowest;
}

const transferTo = (decode: Endpoint, { endpoint }: Candidate, { promptTokens, constants }: PickInput): number =>
  transferCost(promptTokens, constants, distanceOf(endpoint, decode));

/** The cost alone, of an endpoint for which there is no remote prefill: as most are compared. */
function costOf(decode: Candidate, priced: readonly PricedPrefill[], input: PickInput): number {
  if (priced.length > 0) return termsOf(decode, priced, input).costMs;
  if (input.alone?.(decode.endpoint) === false) return Infinity;
  const usable = usableTokens(input.promptTokens, decode, input.constants);
  const ownMs = decode.load.slowness * ownPrefillMs(input.promptTokens, usable, input.constants);
  return decodingMs(decode, input) + prefillMs(decode, usable, ownMs, input);
}

type Settled = Omit<Pick, "fallbacks" | "costs" | "priced">;

/** The chosen endpoint, with all prefill endpoints that pair with it. */
function settle(decode: Candidate, priced: readonly PricedPrefill[], input: PickInput): Settled {
  const { remote, localOwnMs, costMs, ...terms } = termsOf(decode, priced, input);
  const prefill = remote ? partnersOf(decode.endpoint, priced, input) : [];
  return { decode, prefill, localOwnMs, costMs, verdict: explain(decode, prefill[0], terms) };
}

/** All that pair with it, cheapest first with the way to it. */
const partnersOf = (decode: Endpoint, priced: readonly PricedPrefill[], input: PickInput): readonly PricedPrefill[] =>
  inTurn(
    priced.filter(({ candidate }) => pairs(candidate.endpoint, decode, input)),
    ({ candidate, costMs }) => costMs + transferTo(decode, candidate, input),
  );

/** Whether the second can go on with what the first computed. */
export const pairs = (prefill: Endpoint, decode: Endpoint, input: PickInput): boolean =>
  prefill.namespace === decode.namespace &&
  prefill.service === decode.service &&
  prefill.group === decode.group &&
  input.incompatible(prefill, decode) === undefined;

function explain(
  decode: Candidate,
  prefill: PricedPrefill | undefined,
  terms: { decodeMs: number; remoteMs: number; localMs: number },
): Verdict {
  const { decodeMs, remoteMs, localMs } = terms;
  const numbers = { decodeMs, localMs, ...(Number.isFinite(remoteMs) ? { remoteMs } : {}) };
  const rest = { subject: decode.endpoint.name, numbers };
  return prefill === undefined
    ? allowed("LocalPrefill", `prefill and decode on ${decode.endpoint.name}`, rest)
    : allowed("Picked", `prefill on ${prefill.candidate.endpoint.name}, decode on ${decode.endpoint.name}`, rest);
}

/** By index, without iterators: those cost as much as the prices (3 us of a pick among 100). */
function costsOf(priced: readonly PricedPrefill[], input: PickInput): Float64Array {
  const costs = new Float64Array(input.decode.length);
  for (let index = 0; index < costs.length; index++)
    costs[index] = costOf(input.decode[index] as Candidate, priced, input);
  return costs;
}

/** Of those whose cost is as good as the lowest, the one that waited longest for a request. */
function leastRecent(candidates: readonly Candidate[], costs: Float64Array): Candidate | undefined {
  let lowest = Infinity;
  for (let index = 0; index < costs.length; index++) lowest = Math.min(lowest, costs[index] ?? Infinity);
  let best: Candidate | undefined;
  for (let index = 0; index < costs.length; index++) {
    if ((costs[index] ?? Infinity) > lowest * (1 + TIE)) continue;
    const candidate = candidates[index] as Candidate;
    if (best === undefined || candidate.load.assigned < best.load.assigned) best = candidate;
  }
  return best;
}
