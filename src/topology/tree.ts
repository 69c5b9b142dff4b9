/**
 * The topology tree: which nodes are close to which, from Volcano's HyperNodes or from configured node labels.
 *
 * Decides nothing about pods. Built from Nodes and HyperNodes alone, whatever state they are in: what is wrong in them
 * (bad pattern, dangling or overlapping members, a cycle) is a Verdict, that part is left out, and the rest stands.
 * It never reads devices and never changes a node.
 */
import type { Config } from "../config/schema.ts";
import type { HyperNode, Node } from "../kinds/kube.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { hyperNodeDomains } from "./hypernodes.ts";
import { labelDomains } from "./levels.ts";
import { labelLevels } from "./presets.ts";

export { domainExpression, type DomainExpression } from "./expression.ts";
export { topologyKeys } from "./keys.ts";
export { labelLevels } from "./presets.ts";

/** A set of nodes that are close to one another: a HyperNode, one value of a node label, or the virtual root. */
export interface Domain {
  /** HyperNode name or label value; `ROOT_NAME` for the virtual root. Unique in its tree. */
  readonly name: string;
  /** Lower is closer. The root's is one above the highest. */
  readonly tier: number;
  readonly tierName?: string;
  /** Rank of the tier among the tiers of the tree, from 1 (closest); the root's is the highest. */
  readonly step: number;
  /** Undefined for the root. */
  readonly parent: Domain | undefined;
  /** By name. */
  readonly children: readonly Domain[];
  /** Names of all nodes below, sorted. */
  readonly nodes: readonly string[];
  /** Node label keys that its nodes are selected by; each may select others too. */
  readonly keys: readonly string[];
}

export interface TopologyTree {
  readonly root: Domain;
  /** The tiers that exist, closest first, without the root's. */
  readonly tiers: readonly number[];
  /** What was wrong in the HyperNodes or labels, and was left out. */
  readonly verdicts: readonly Verdict[];
  /**
   * Steps between two nodes: 0 for the same node, 1 within one domain of the closest tier, and one more for each tier
   * up to the root. Nodes that the tree does not know are as far away as can be.
   */
  distance(a: string, b: string): number;
  /** The greatest distance there is: that of the root. */
  readonly diameter: number;
  domain(name: string): Domain | undefined;
  /** Domains of exactly this tier, by name. */
  domains(tier: number): readonly Domain[];
  /** The smallest domain that holds the node; the root for a node of no domain. */
  leafOf(node: string): Domain;
  /**
   * The widest domain that holds the node and has at most this tier: what Volcano calls `highestTierAllowed`.
   * Undefined where the node lies in no such domain.
   */
  domainOf(node: string, tier: number): Domain | undefined;
  /** The smallest domain that holds all of these nodes; the root for none. */
  commonDomain(nodes: Iterable<string>): Domain;
  /** For people, closest first: `rack-1 / spine-0`; `ROOT_NAME` for a node of no domain. */
  path(node: string): string;
  pathOf(domain: Domain): string;
  /** The tier that a number, or a tier name, stands for. */
  tierOf(value: number | string): number | undefined;
}

export const ROOT_NAME = "cluster";

export type TopologySource =
  | { readonly kind: "hypernodes"; readonly hyperNodes: readonly HyperNode[] }
  /** Node label keys from the closest domain to the widest. */
  | { readonly kind: "labels"; readonly levels: readonly string[] }
  | { readonly kind: "none" };

/** A domain before it hangs in the tree. */
export interface DomainDraft {
  readonly name: string;
  readonly tier: number;
  readonly tierName?: string;
  /** Name of the domain above; undefined: the root. */
  readonly parent?: string;
  /** Nodes that hang directly below. */
  readonly nodes: readonly string[];
  /** As `Domain.keys`. */
  readonly keys: readonly string[];
}

export interface DraftedDomains {
  readonly domains: readonly DomainDraft[];
  readonly verdicts: readonly Verdict[];
}

/**
 * What the configuration says the tree is made of. Without any HyperNode object, configured label levels stand in.
 */
export function topologySource(config: Config["topology"], hyperNodes: readonly HyperNode[]): TopologySource {
  if (config.source === "none") return { kind: "none" };
  const levels = labelLevels(config);
  const labels = config.source === "labels" || (hyperNodes.length === 0 && levels.length > 0);
  return labels ? { kind: "labels", levels } : { kind: "hypernodes", hyperNodes };
}

/** The tree of these nodes. The same for any order of nodes and HyperNodes. */
export function topologyTree(nodes: readonly Node[], source: TopologySource): TopologyTree {
  const sorted = [...nodes].sort((a, b) => byText(nameOf(a), nameOf(b)));
  const { domains, verdicts } = draft(sorted, source);
  return new Tree(sorted.map(nameOf), domains, verdicts);
}

function draft(nodes: readonly Node[], source: TopologySource): DraftedDomains {
  if (source.kind === "hypernodes") return hyperNodeDomains(nodes, source.hyperNodes);
  return source.kind === "labels" ? labelDomains(nodes, source.levels) : { domains: [], verdicts: [] };
}

const nameOf = (node: Node): string => node.metadata.name ?? "";

/** Order of code units: the same on every machine, unlike a locale's. */
export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

interface GrowingDomain {
  readonly name: string;
  readonly tier: number;
  readonly tierName?: string;
  readonly step: number;
  parent: GrowingDomain | undefined;
  readonly children: GrowingDomain[];
  readonly nodes: string[];
  readonly keys: readonly string[];
}

class Tree implements TopologyTree {
  readonly root: Domain;
  readonly tiers: readonly number[];
  readonly verdicts: readonly Verdict[];
  readonly diameter: number;
  readonly #byName = new Map<string, Domain>();
  readonly #leafs = new Map<string, Domain>();
  readonly #byTier = new Map<number, Domain[]>();

  constructor(nodes: readonly string[], drafts: readonly DomainDraft[], verdicts: readonly Verdict[]) {
    this.verdicts = verdicts;
    this.tiers = [...new Set(drafts.map(({ tier }) => tier))].sort((a, b) => a - b);
    this.diameter = this.tiers.length + 1;
    const root = { name: ROOT_NAME, tier: (this.tiers.at(-1) ?? 0) + 1, step: this.diameter };
    const top: GrowingDomain = { ...root, parent: undefined, children: [], nodes: [], keys: [] };
    this.root = top;
    this.#hang(top, drafts);
    for (const node of nodes) if (!this.#leafs.has(node)) top.nodes.push(node);
    top.nodes.sort(byText);
  }

  #hang(top: GrowingDomain, drafts: readonly DomainDraft[]): void {
    const grown = this.#grow(top, drafts);
    for (const { name, parent = "" } of drafts) {
      const domain = grown.get(name);
      if (domain !== undefined) domain.parent = grown.get(parent) ?? top;
    }
    for (const domain of grown.values()) {
      domain.parent?.children.push(domain);
      this.#byName.set(domain.name, domain);
      this.#byTier.get(domain.tier)?.push(domain);
    }
    for (const { name, nodes } of drafts) this.#fill(grown.get(name), nodes);
    for (const domain of grown.values()) domain.nodes.sort(byText);
  }

  #grow(top: GrowingDomain, drafts: readonly DomainDraft[]): Map<string, GrowingDomain> {
    const steps = new Map(this.tiers.map((tier, index) => [tier, index + 1]));
    const grown = new Map<string, GrowingDomain>();
    for (const tier of this.tiers) this.#byTier.set(tier, []);
    for (const { name, tier, tierName, keys } of [...drafts].sort((a, b) => byText(a.name, b.name))) {
      const named = tierName === undefined ? {} : { tierName };
      const step = steps.get(tier) ?? 1;
      grown.set(name, { name, tier, ...named, step, parent: top, children: [], nodes: [], keys });
    }
    return grown;
  }

  #fill(leaf: GrowingDomain | undefined, nodes: readonly string[]): void {
    for (const node of nodes) {
      if (leaf !== undefined) this.#leafs.set(node, leaf);
      for (let domain = leaf; domain !== undefined; domain = domain.parent) domain.nodes.push(node);
    }
  }

  distance(a: string, b: string): number {
    return a === b ? 0 : common(this.leafOf(a), this.leafOf(b)).step;
  }

  domain(name: string): Domain | undefined {
    return name === ROOT_NAME ? this.root : this.#byName.get(name);
  }

  domains(tier: number): readonly Domain[] {
    return tier === this.root.tier ? [this.root] : (this.#byTier.get(tier) ?? []);
  }

  leafOf(node: string): Domain {
    return this.#leafs.get(node) ?? this.root;
  }

  domainOf(node: string, tier: number): Domain | undefined {
    let found: Domain | undefined;
    for (let at: Domain | undefined = this.leafOf(node); at !== undefined && at.tier <= tier; at = at.parent)
      found = at;
    return found;
  }

  commonDomain(nodes: Iterable<string>): Domain {
    let found: Domain | undefined;
    for (const node of nodes) found = found === undefined ? this.leafOf(node) : common(found, this.leafOf(node));
    return found ?? this.root;
  }

  path(node: string): string {
    return this.pathOf(this.leafOf(node));
  }

  pathOf(domain: Domain): string {
    const names: string[] = [];
    for (let at = domain; at.parent !== undefined; at = at.parent) names.push(at.name);
    return names.length === 0 ? ROOT_NAME : names.join(" / ");
  }

  tierOf(value: number | string): number | undefined {
    if (typeof value === "number") return value;
    if (/^\d+$/.test(value)) return Number(value);
    return this.tiers.find((tier) => this.domains(tier).some(({ tierName }) => tierName === value));
  }
}

/** The lowest domain above both: a parent's step is always higher than its child's, so the lower of the two climbs. */
function common(a: Domain, b: Domain): Domain {
  let [x, y] = [a, b];
  while (x !== y) {
    if (x.step <= y.step) x = x.parent ?? y;
    else y = y.parent ?? x;
  }
  return x;
}
