/** A domain as one node-affinity requirement, which any scheduler honours. */
import { isObject, labelOf, type Node } from "../kinds/kube.ts";
import type { Domain, TopologyTree } from "./tree.ts";

/** `key In values` of a node-affinity term. */
export interface DomainExpression {
  readonly key: string;
  readonly values: readonly string[];
}

/** The label that the kubelet puts on every node. Cloud providers make it differ from the node's name. */
const HOSTNAME = "kubernetes.io/hostname";

/** A pod carries the values; 256 names of 63 characters are 16 KiB of it. */
const MOST_VALUES = 256;

/**
 * The requirement that selects exactly the nodes of the domain, out of these nodes: by the key of the HyperNode's
 * selector or of the label level, its own before those of the domains below it (a spine is the racks in it), else by
 * hostnames. A key is believed by what the nodes carry, not by what a selector says. Undefined where nothing selects
 * them with at most `MOST_VALUES` values, and for the root, which needs no requirement.
 */
export function domainExpression(
  domain: Domain,
  tree: TopologyTree,
  nodes: readonly Node[],
): DomainExpression | undefined {
  if (domain === tree.root || domain.nodes.length === 0) return undefined;
  const inside = new Set(domain.nodes);
  for (const key of [...keysBelow(domain), HOSTNAME]) {
    const values = exactValues(key, inside, nodes);
    if (values !== undefined) return { key, values };
  }
  return undefined;
}

/** Keys of the domain, then of those below it, level by level. */
function keysBelow(domain: Domain): readonly string[] {
  const keys = new Set<string>();
  for (let level: readonly Domain[] = [domain]; level.length > 0; level = level.flatMap(({ children }) => children))
    for (const { keys: own } of level) for (const key of own) keys.add(key);
  return [...keys];
}

/** The label values of the nodes inside; undefined where one has none, where a node outside shares one, or too many. */
function exactValues(key: string, inside: ReadonlySet<string>, nodes: readonly Node[]): readonly string[] | undefined {
  const values = new Set<string>();
  const taken = new Set<string>();
  for (const node of nodes) (inside.has(node.metadata.name ?? "") ? values : taken).add(labelOf(node, key) ?? "");
  if (values.size === 0 || values.size > MOST_VALUES || values.has("")) return undefined;
  return [...values].some((value) => taken.has(value)) ? undefined : [...values].sort();
}

/** A requirement as it was written to a record; undefined for anything else. */
export function readExpression(text: unknown): DomainExpression | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isExpression(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const isExpression = (value: unknown): value is DomainExpression =>
  isObject(value) &&
  typeof value["key"] === "string" &&
  Array.isArray(value["values"]) &&
  value["values"].every((one) => typeof one === "string");
