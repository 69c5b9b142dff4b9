/** How far two endpoints are from each other, by the domains that are known of each. */
import type { Endpoint } from "../../kinds/endpoint.ts";

/**
 * Steps from one to the other: 0 on one node, one more for each kind of domain that they do not share. Domains are
 * compared from the widest on. Where nothing is known of one side, no distance is taken for granted: 0.
 */
export function distanceOf({ domains: from }: Endpoint, { domains: to }: Endpoint): number {
  if (from === undefined || to === undefined) return 0;
  if (from.at(-1) === to.at(-1)) return 0;
  const deepest = Math.max(from.length, to.length);
  let shared = 0;
  while (shared < deepest && from[shared] !== undefined && from[shared] === to[shared]) shared += 1;
  return deepest - shared;
}
