/**
 * The cost of giving a request to an endpoint, in milliseconds; every term is a function of its own.
 *
 * `J = Q + own * (1 + mu + beta * inflight)`: `Q` prefill work already there, `own` this request's uncached prefill,
 * `mu` the price of burning prefill capacity and somebody's cache, `beta` what each request in flight suffers from the
 * inserted prefill. Source: reference kv-cache-and-pd.md, section 4.4. Only the shape of `own` matters, so uncalibrated
 * constants pick well; it degrades to least work where nothing is cached.
 */
import type { Config } from "../../config/schema.ts";
import type { EngineStats, Role } from "../../kinds/endpoint.ts";
import type { EndpointLoad } from "../load.ts";

export type CostConstants = Config["router"]["cost"];

/**
 * Prefill time of the part of a prompt that is not cached: linear work for each token, plus attention over what stands
 * before it.
 * @param tokens of the prompt
 * @param cached leading tokens that the endpoint holds
 */
export function ownPrefillMs(tokens: number, cached: number, constants: CostConstants): number {
  const fresh = Math.max(0, tokens - cached);
  return constants.prefillMsPerToken * fresh + 2 * constants.prefillMsPerTokenSquared * fresh * (cached + fresh / 2);
}

/** Requests on the endpoint: our own count, or the engine's where others send to it too. */
export const requestsOn = (load: EndpointLoad, stats: EngineStats | undefined): number =>
  Math.max(load.inflight, (stats?.running ?? 0) + (stats?.waiting ?? 0));

/** J of prefilling on an endpoint. On a decode endpoint a prefill stalls every decoder, so its prices are higher. */
export function prefillCost(
  own: number,
  role: Role,
  load: { readonly prefillMs: number; readonly requests: number },
  constants: CostConstants,
): number {
  const [mu, beta] = role === "decode" ? [constants.decodeMu, constants.decodeBeta] : [constants.mu, constants.beta];
  return load.prefillMs + own * (1 + mu + beta * load.requests);
}

/**
 * Decode steps as long as the batch makes them, for each of the tokens to come.
 * @param kvTokens that the batch attends to: a step reads all of them
 */
export const decodeCost = (
  { requests, kvTokens }: { readonly requests: number; readonly kvTokens: number },
  tokens: number,
  constants: CostConstants,
): number => (constants.decodeStepMs * requests + constants.decodeMsPerKvToken * kvTokens) * tokens;

/** Tokens that the batch on the endpoint attends to: by our own count, or by the engine's where others send to it too. */
export const contextOn = (load: EndpointLoad, stats: EngineStats | undefined, capacityTokens: number): number =>
  Math.max(load.contextTokens, (stats?.kvUsage ?? 0) * capacityTokens);

/**
 * Moving the KV blocks of a prompt between two endpoints, with the fixed cost of the second request.
 * @param distance steps between them: 0 for one node, or where nothing is known; each makes a token's way longer
 */
export const transferCost = (tokens: number, constants: CostConstants, distance = 0): number =>
  constants.transferSetupMs + constants.transferMsPerToken * tokens * (1 + constants.transferPerStep * distance);

/**
 * Waiting until a KV cache has room: `short / kvTokens * D`, `short` the tokens that the prompt and its answer lack there,
 * `D` what its decode steps take. All that the batch holds comes free in about the time of one answer, so a share of it
 * comes free in that share of the time.
 */
export function fitCost(
  neededTokens: number,
  { kvTokens, capacityTokens }: { readonly kvTokens: number; readonly capacityTokens: number },
  decodeMs: number,
): number {
  const short = neededTokens + kvTokens - capacityTokens;
  return short <= 0 || kvTokens <= 0 || capacityTokens <= 0 ? 0 : (short / kvTokens) * decodeMs;
}

/** Where nearly all of a cache is pinned, the price is that of the rest, and not without bound. */
const MOST_PINNED = 0.95;

/**
 * What blocks that wait to be fetched add to a prefill: `own * mu * s / (1 - s)`, `s` their share of the KV cache.
 *
 * `own * mu` is the price of evicting somebody's cache. Pinned blocks cannot be evicted, so that what a prompt displaces
 * comes out of the share `1 - s` that is left: each of its blocks is `1 / (1 - s)` times as likely to be wanted again,
 * and the price of `own * (1 + mu)` becomes `own * (1 + mu / (1 - s))`. This is the difference: nothing at none pinned,
 * once mu at half the cache.
 */
export function pinnedCost(
  own: number,
  pinnedTokens: number,
  capacityTokens: number,
  constants: CostConstants,
): number {
  if (pinnedTokens <= 0 || capacityTokens <= 0) return 0;
  const share = Math.min(MOST_PINNED, pinnedTokens / capacityTokens);
  return (own * constants.mu * share) / (1 - share);
}
