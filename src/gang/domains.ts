/** Which domains a cell may be placed in, and which of them are better. */
import { denied, type Verdict } from "../kinds/verdict.ts";
import { byText, type Domain, type TopologyTree } from "../topology/tree.ts";
import type { TopologyPolicy } from "./members.ts";
import type { Distances } from "../topology/cost.ts";
import type { Census } from "./census.ts";

/** Every domain of a tree, the root last. */
export const allDomains = (tree: TopologyTree): readonly Domain[] => [
  ...tree.tiers.flatMap((tier) => tree.domains(tier)),
  tree.root,
];

export const isWithin = (domain: Domain, above: Domain): boolean => {
  for (let at: Domain | undefined = domain; at !== undefined; at = at.parent) if (at === above) return true;
  return false;
};

/**
 * The domains that a cell with pods on these nodes may use. `required`: those up to its tier, and inside the domains of
 * its bound pods once there are any. A bound pod outside every such domain (placed before it was required) binds nobody.
 */
export function permittedDomains(
  policy: TopologyPolicy,
  bound: readonly string[],
  tree: TopologyTree,
): readonly Domain[] {
  if (policy.mode === "off") return [tree.root];
  if (policy.mode === "preferred") return allDomains(tree);
  const { tier } = policy;
  if (tier === undefined) return [];
  const anchors = anchorsOf(bound, tier, tree);
  return allDomains(tree).filter(
    (domain) => domain.tier <= tier && (anchors.length === 0 || anchors.some((anchor) => isWithin(domain, anchor))),
  );
}

/** The widest permitted domains that hold the bound pods. */
export const anchorsOf = (bound: readonly string[], tier: number, tree: TopologyTree): readonly Domain[] => [
  ...new Set(bound.flatMap((node) => tree.domainOf(node, tier) ?? [])),
];

/** What domains are compared by. */
export interface Standing {
  readonly census: Census;
  /** The domain of the bound pods. */
  readonly home: Domain | undefined;
  /** Distances to the other cells of the service; absent where there are none. */
  readonly others: Distances | undefined;
}

/**
 * Best first: nearest to the bound pods, then smallest, then the one that is left with least; of those as good, the one
 * farthest from the service's other cells, then by name. Cells exchange nothing, so that they need not be close, and a
 * rack that fails takes one of them; but no cell takes a worse domain for it.
 */
export function ranked(domains: readonly Domain[], { census, home, others }: Standing): readonly Domain[] {
  return domains
    .map((domain) => ({
      domain,
      away: home === undefined ? domain.step : reach(domain, home),
      free: census.free(domain),
      apart: others?.meanFrom(domain) ?? 0,
    }))
    .sort(
      (a, b) =>
        a.away - b.away ||
        a.domain.step - b.domain.step ||
        a.free - b.free ||
        b.apart - a.apart ||
        byText(a.domain.name, b.domain.name),
    )
    .map(({ domain }) => domain);
}

/** Step of the lowest domain above both. */
function reach(domain: Domain, home: Domain): number {
  let at: Domain | undefined = domain;
  while (at !== undefined && !isWithin(home, at)) at = at.parent;
  return at?.step ?? Infinity;
}

/** Why no domain is permitted at all: an unknown tier, or no topology. */
export function nothingPermitted(policy: TopologyPolicy, tree: TopologyTree): Verdict {
  const asked = policy.asked === undefined ? "" : ` up to tier ${JSON.stringify(policy.asked)}`;
  return denied("NoDomainFits", `topology is required${asked}, but ${describeTiers(tree)}`);
}

function describeTiers(tree: TopologyTree): string {
  if (tree.tiers.length === 0) return "no HyperNode or node label makes a domain";
  const tiers = tree.tiers.map((tier) => {
    const name = tree.domains(tier)[0]?.tierName;
    return name === undefined ? String(tier) : `${tier} (${name})`;
  });
  return `the tiers are ${tiers.join(", ")}`;
}
