/**
 * Cached prefixes that are not in the accelerator's memory: fetched from the host's, a disk or a pool where that is faster
 * than to compute them, else left where they are. Reference kv-cache-and-pd.md, section 4.4, term X.
 */
import { ownPrefillMs, type CostConstants } from "./cost.ts";

/** Leading tokens of a prompt by how far away they are at most: each counts those before it. */
export interface Tiers {
  readonly cachedTokens: number;
  readonly hostTokens?: number;
  readonly sharedTokens?: number;
}

/** Leading tokens that need not be computed there: as far as fetching beats computing. */
export function usableTokens(tokens: number, tiers: Tiers, constants: CostConstants): number {
  const { cachedTokens, hostTokens = 0, sharedTokens = 0 } = tiers;
  if (hostTokens <= cachedTokens && sharedTokens <= cachedTokens) return cachedTokens;
  let [best, lowest] = [cachedTokens, ownPrefillMs(tokens, cachedTokens, constants)];
  for (const reach of [hostTokens, sharedTokens]) {
    // The last token is computed in any case.
    const usable = Math.min(tokens - 1, reach);
    const ms = ownPrefillMs(tokens, usable, constants) + fetchMs(usable, tiers, constants);
    if (usable > best && ms < lowest) [best, lowest] = [usable, ms];
  }
  return best;
}

/** Time to fetch the first `usable` tokens, as far as they are not in the accelerator's memory. */
export function fetchMs(usable: number, tiers: Tiers, constants: CostConstants): number {
  const { cachedTokens, hostTokens = 0 } = tiers;
  if (usable <= cachedTokens) return 0;
  const near = Math.max(0, Math.min(usable, hostTokens) - cachedTokens);
  return constants.offloadedMsPerToken * near + constants.sharedMsPerToken * (usable - cachedTokens - near);
}
