/**
 * Domains from Volcano's HyperNodes (`topology.volcano.sh/v1alpha1`).
 *
 * Members are read as Volcano's scheduler reads them: `regexMatch` searches in the node name (unanchored, RE2), an empty
 * `labelMatch` selects nothing, and HyperNode members are by exact name only. Unlike Volcano, which stops building on
 * the first contradiction, every contradiction is reported and the rest of the tree stands.
 */
import type { HyperNode, HyperNodeMember, Node } from "../kinds/kube.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
import { labelKeys, readableMembers } from "./keys.ts";
import { compilePattern } from "./pattern.ts";
import type { DomainDraft, DraftedDomains } from "./tree.ts";

interface Build {
  readonly nodes: readonly Node[];
  readonly names: ReadonlySet<string>;
  readonly byName: ReadonlyMap<string, HyperNode>;
  /** HyperNode -> the HyperNode above. */
  readonly parents: Map<string, string>;
  /** Node -> the HyperNode directly above. */
  readonly owners: Map<string, string>;
  readonly verdicts: Verdict[];
}

/** Domains of these HyperNodes; the closest tier chooses first, then the name. */
export function hyperNodeDomains(nodes: readonly Node[], hyperNodes: readonly HyperNode[]): DraftedDomains {
  const ordered = [...hyperNodes].sort((a, b) => tierOf(a) - tierOf(b) || (nameOf(a) < nameOf(b) ? -1 : 1));
  const build: Build = {
    nodes,
    names: new Set(nodes.map((node) => node.metadata.name ?? "")),
    byName: new Map(ordered.map((hyperNode) => [nameOf(hyperNode), hyperNode])),
    parents: new Map(),
    owners: new Map(),
    verdicts: [],
  };
  for (const hyperNode of ordered) for (const child of childrenOf(hyperNode, build)) adopt(hyperNode, child, build);
  for (const hyperNode of ordered) for (const node of membersOf(hyperNode, build)) claim(hyperNode, node, build);
  const owned = ownedNodes(build);
  const domains = [...build.byName.values()].map((hyperNode) => toDraft(hyperNode, owned, build));
  return { domains, verdicts: build.verdicts };
}

const nameOf = (hyperNode: HyperNode): string => hyperNode.metadata.name ?? "";

/** Objects come from outside: a HyperNode without a usable tier counts as the closest. */
const tierOf = (hyperNode: HyperNode): number => (Number.isInteger(hyperNode.spec.tier) ? hyperNode.spec.tier : 0);

const membersIn = (hyperNode: HyperNode, type: HyperNodeMember["type"]): readonly HyperNodeMember[] =>
  readableMembers(hyperNode).filter((member) => member.type === type);

function childrenOf(hyperNode: HyperNode, build: Build): string[] {
  return membersIn(hyperNode, "HyperNode").flatMap(({ selector }) => {
    if (selector.exactMatch !== undefined) return [selector.exactMatch.name];
    const message = `HyperNode ${nameOf(hyperNode)}: members of type HyperNode are given by exactMatch only`;
    build.verdicts.push(warned("HyperNodeInvalid", message, { subject: nameOf(hyperNode) }));
    return [];
  });
}

function adopt(parent: HyperNode, child: string, build: Build): void {
  const verdict = objection(parent, child, build);
  if (verdict === undefined) build.parents.set(child, nameOf(parent));
  else build.verdicts.push(verdict);
}

/**
 * Why a HyperNode may not hang below another. A member must be of a lower tier: with that, a cycle cannot close, and
 * at least one edge of every cycle is refused here.
 */
function objection(parent: HyperNode, child: string, build: Build): Verdict | undefined {
  const name = nameOf(parent);
  const rest = { subject: name };
  const found = build.byName.get(child);
  if (found === undefined)
    return warned("HyperNodeDangling", `HyperNode ${name}: member HyperNode ${child} does not exist`, rest);
  if (tierOf(found) >= tierOf(parent))
    return warned(
      "HyperNodeInvalid",
      `HyperNode ${name} (tier ${tierOf(parent)}): member ${child} (tier ${tierOf(found)}) must be of a lower tier; ` +
        "a cycle is cut here too",
      rest,
    );
  const other = build.parents.get(child);
  if (other === undefined || other === name) return undefined;
  return warned("HyperNodeOverlaps", `HyperNode ${name}: member ${child} already belongs to ${other}`, rest);
}

function membersOf(hyperNode: HyperNode, build: Build): Set<string> {
  return new Set(membersIn(hyperNode, "Node").flatMap((member) => nodesOf(hyperNode, member, build)));
}

function nodesOf(hyperNode: HyperNode, { selector }: HyperNodeMember, build: Build): string[] {
  if (selector.exactMatch !== undefined) return exactly(hyperNode, selector.exactMatch.name, build);
  if (selector.regexMatch !== undefined) return matching(hyperNode, selector.regexMatch.pattern, build);
  const labels = selector.labelMatch;
  if (labels === undefined || isEmpty(labels.matchLabels, labels.matchExpressions)) return [];
  return build.nodes
    .filter((node) => selectorMatches(labels, node.metadata.labels))
    .map((node) => node.metadata.name ?? "");
}

const isEmpty = (labels: object | undefined, expressions: readonly unknown[] | undefined): boolean =>
  Object.keys(labels ?? {}).length === 0 && (expressions ?? []).length === 0;

function exactly(hyperNode: HyperNode, node: string, build: Build): string[] {
  if (build.names.has(node)) return [node];
  const message = `HyperNode ${nameOf(hyperNode)}: member node ${node} does not exist`;
  build.verdicts.push(warned("HyperNodeDangling", message, { subject: nameOf(hyperNode) }));
  return [];
}

function matching(hyperNode: HyperNode, pattern: string, build: Build): string[] {
  const compiled = compilePattern(pattern);
  if (compiled.ok) return [...build.names].filter((node) => compiled.matches(node));
  const message = `HyperNode ${nameOf(hyperNode)}: regexMatch ${JSON.stringify(pattern)}: ${compiled.error}`;
  build.verdicts.push(warned("HyperNodeInvalid", message, { subject: nameOf(hyperNode) }));
  return [];
}

/** A node hangs below the first HyperNode that claims it; a claim by one further up the same branch says nothing new. */
function claim(hyperNode: HyperNode, node: string, build: Build): void {
  const owner = build.owners.get(node);
  if (owner === undefined) {
    build.owners.set(node, nameOf(hyperNode));
    return;
  }
  for (let at: string | undefined = owner; at !== undefined; at = build.parents.get(at))
    if (at === nameOf(hyperNode)) return;
  const message = `HyperNode ${nameOf(hyperNode)}: node ${node} already belongs to ${owner}`;
  build.verdicts.push(warned("HyperNodeOverlaps", message, { subject: nameOf(hyperNode) }));
}

function ownedNodes({ owners }: Build): ReadonlyMap<string, readonly string[]> {
  const owned = new Map<string, string[]>();
  for (const [node, owner] of owners) {
    const nodes = owned.get(owner) ?? [];
    nodes.push(node);
    owned.set(owner, nodes);
  }
  return owned;
}

function toDraft(hyperNode: HyperNode, owned: ReadonlyMap<string, readonly string[]>, { parents }: Build): DomainDraft {
  const name = nameOf(hyperNode);
  const parent = parents.get(name);
  const { tierName } = hyperNode.spec;
  return {
    name,
    tier: tierOf(hyperNode),
    nodes: owned.get(name) ?? [],
    keys: labelKeys(hyperNode),
    ...(tierName === undefined ? {} : { tierName }),
    ...(parent === undefined ? {} : { parent }),
  };
}
