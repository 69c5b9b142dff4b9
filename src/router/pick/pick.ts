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
import { decodeCost, ownPrefillMs, prefillCost, requestsOn, transferCost, type CostConstants } from "./cost.ts";

export interface Candidate {
  readonly endpoint: Endpoint;
  readonly load: EndpointLoad;
  readonly stats: EngineStats | undefined;
  /** Leading prompt tokens that it is thought to hold. */
  readonly cachedTokens: number;
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
}

/** Before it is known which option is taken. */
type Option = Omit<Pick, "fallbacks">;

/** Costs this close are a tie. */
const TIE = 0.01;

/** The pick, or undefined without a decode endpoint. */
export function pick(input: PickInput): Pick | undefined {
  const priced = input.prefill.map((candidate) => price(candidate, input)).sort(byCost);
  const options = input.decode.map((candidate) => option(candidate, priced, input));
  const chosen = cheapest(options);
  return chosen === undefined ? undefined : { ...chosen, fallbacks: fallbacks(options, chosen, input) };
}

/** Cheapest first. The first prefill endpoint stands for all: those behind it are compatible with the same decoders. */
function fallbacks(options: readonly Option[], chosen: Option, input: PickInput): readonly Endpoint[] {
  const { fallbacks: count = 0 } = input;
  if (count === 0) return [];
  const prefill = chosen.prefill[0]?.candidate.endpoint;
  return options
    .filter((each) => each !== chosen)
    .filter(({ decode }) => prefill === undefined || pairs(prefill, decode.endpoint, input))
    .sort((a, b) => a.costMs - b.costMs)
    .slice(0, count)
    .map(({ decode }) => decode.endpoint);
}

function price(candidate: Candidate, input: PickInput): PricedPrefill {
  const ownMs = ownPrefillMs(input.promptTokens, candidate.cachedTokens, input.constants);
  return { candidate, ownMs, costMs: prefillCost(ownMs, candidate.endpoint.role, loadOf(candidate), input.constants) };
}

const loadOf = ({ load, stats }: Candidate): EndpointLoad & { requests: number } => ({
  ...load,
  requests: requestsOn(load, stats),
});

function byCost(a: PricedPrefill, b: PricedPrefill): number {
  const near = Math.abs(a.costMs - b.costMs) <= TIE * Math.min(a.costMs, b.costMs);
  return near ? a.candidate.load.assigned - b.candidate.load.assigned : a.costMs - b.costMs;
}

/** One decode endpoint with the cheaper way to prefill for it. */
function option(decode: Candidate, priced: readonly PricedPrefill[], input: PickInput): Option {
  const local = price(decode, input);
  const partners = priced.filter(({ candidate }) => pairs(candidate.endpoint, decode.endpoint, input));
  const remoteMs = (partners[0]?.costMs ?? Infinity) + transferCost(input.promptTokens, input.constants);
  const remote = partners.length > 0 && (input.policy === "always" || remoteMs < local.costMs);
  const decodeMs = decodeCost(requestsOn(decode.load, decode.stats), input.outputTokens, input.constants);
  const costMs = decodeMs + (remote ? remoteMs : local.costMs);
  return {
    decode,
    prefill: remote ? partners : [],
    localOwnMs: local.ownMs,
    costMs,
    verdict: explain(decode, remote ? partners[0] : undefined, { decodeMs, remoteMs, localMs: local.costMs }),
  };
}

const pairs = (prefill: Endpoint, decode: Endpoint, input: PickInput): boolean =>
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

function cheapest(options: readonly Option[]): Option | undefined {
  const lowest = Math.min(...options.map(({ costMs }) => costMs));
  return options
    .filter(({ costMs }) => costMs <= lowest * (1 + TIE))
    .sort((a, b) => a.decode.load.assigned - b.decode.load.assigned)[0];
}
