/**
 * How many pods of a pattern each domain has room for, and how much is free in it.
 *
 * Counting 5000 nodes for each cell would cost more than the rest of a plan together. So a pattern is counted once, and
 * afterwards only the nodes are counted again whose pods changed, or that a trial has filled.
 */
import type { Domain, TopologyTree } from "../topology/tree.ts";
import { capacity, type Room, type Trial } from "./devices.ts";
import type { Pattern } from "./pack.ts";

interface Count {
  free: number;
  slots: number;
}

/** Counts of one pattern, by domain. */
export interface Tally {
  /** Free amount of the resource on the nodes that the pattern may use. */
  free(domain: Domain): number;
  /** How many pods of the pattern fit, if nothing else comes. */
  slots(domain: Domain): number;
}

class Counts implements Tally {
  readonly #domains: Map<Domain, Count>;
  /** What each node counts for; a fork asks its base for the nodes it has not counted itself. */
  readonly #nodes = new Map<string, Count>();
  readonly #base: Counts | undefined;
  readonly #tree: TopologyTree;
  readonly #pattern: Pattern;
  readonly #resource: string;

  constructor(tree: TopologyTree, of: { pattern: Pattern; resource: string }, base?: Counts) {
    this.#tree = tree;
    this.#pattern = of.pattern;
    this.#resource = of.resource;
    const counted = base === undefined ? [] : [...base.#domains];
    this.#domains = new Map(counted.map(([domain, count]) => [domain, { ...count }]));
    this.#base = base;
  }

  #before(node: string): Count | undefined {
    const own = this.#nodes.get(node);
    return own === undefined && this.#base !== undefined ? this.#base.#before(node) : own;
  }

  count(nodes: Iterable<string>, room: Room): this {
    for (const node of nodes) if (this.#pattern.feasible.has(node)) this.#recount(node, room);
    return this;
  }

  #recount(node: string, room: Room): void {
    const before = this.#before(node);
    const free = Math.max(0, room.free(node, this.#resource));
    const slots = capacity(room, node, this.#pattern.demand);
    if (before?.free === free && before.slots === slots) return;
    this.#nodes.set(node, { free, slots });
    for (let at: Domain | undefined = this.#tree.leafOf(node); at !== undefined; at = at.parent) {
      const known = this.#domains.get(at) ?? { free: 0, slots: 0 };
      this.#domains.set(at, known);
      known.free += free - (before?.free ?? 0);
      known.slots += slots - (before?.slots ?? 0);
    }
  }

  fork(): Counts {
    return new Counts(this.#tree, { pattern: this.#pattern, resource: this.#resource }, this);
  }

  free(domain: Domain): number {
    return this.#domains.get(domain)?.free ?? 0;
  }

  slots(domain: Domain): number {
    return this.#domains.get(domain)?.slots ?? 0;
  }
}

/** Patterns counted at once; a cluster has some tens (sizes of pods times ways to select nodes). */
const MAX_PATTERNS = 64;

/** The tallies of one tree over one room. */
export class Tallies {
  readonly #tree: TopologyTree;
  readonly #room: Room;
  readonly #counts = new Map<Pattern, Map<string, Counts>>();

  constructor(tree: TopologyTree, room: Room) {
    this.#tree = tree;
    this.#room = room;
  }

  /** The tally of a pattern as things are, with what the trial has taken. */
  of(pattern: Pattern, resource: string, trial: Trial): Tally {
    const base = this.#base(pattern, resource);
    return trial.isEmpty() ? base : base.fork().count(trial.touched(), trial);
  }

  /** Counts these nodes again; nodes that came or went have a new tree, and so new tallies. */
  refresh(nodes: Iterable<string>): void {
    const touched = [...nodes];
    for (const byResource of this.#counts.values())
      for (const counts of byResource.values()) counts.count(touched, this.#room);
  }

  #base(pattern: Pattern, resource: string): Counts {
    const known = this.#counts.get(pattern)?.get(resource);
    if (known !== undefined) return known;
    if (this.#counts.size >= MAX_PATTERNS) this.#counts.clear();
    const counts = new Counts(this.#tree, { pattern, resource }).count(this.#tree.root.nodes, this.#room);
    const byResource = this.#counts.get(pattern) ?? new Map<string, Counts>();
    this.#counts.set(pattern, byResource.set(resource, counts));
    return counts;
  }
}
