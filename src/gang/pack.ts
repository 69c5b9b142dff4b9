/**
 * Packing pods onto the nodes of one domain: all of them or none.
 *
 * Greedy and deterministic: the largest and the most constrained pods first, each to the node nearest to those already
 * placed; among equals to the tightest that has room for all that is left, else to the roomiest, so that few nodes and
 * leaves are opened. A few pods on a few nodes are searched exactly beside (`search.ts`). For the pods of one cell,
 * which come in one or two sizes that divide a node, greed finds a packing whenever there is one.
 */
import type { Role } from "../kinds/endpoint.ts";
import { labelOf, type Node, type Pod } from "../kinds/kube.ts";
import { LABEL } from "../kinds/names.ts";
import { distancesTo, type Distances } from "../topology/cost.ts";
import { byText, type Domain, type TopologyTree } from "../topology/tree.ts";
import { lacking, Trial, type Amounts, type Room } from "./devices.ts";
import { unfit } from "./fit.ts";
import { rulesFor, type Rules } from "./rules.ts";
import { searched } from "./search.ts";

/** What many pods have in common: their demand, and the nodes that would carry them if they were empty. */
export interface Pattern {
  readonly demand: Amounts;
  readonly feasible: ReadonlySet<string>;
}

/** A pod to place. */
export interface Task {
  readonly pod: Pod;
  /** `namespace/name` */
  readonly key: string;
  readonly role: Role;
  readonly pattern: Pattern;
}

export interface Field {
  readonly tree: TopologyTree;
  readonly room: Room;
  /** The resource by which nodes are compared. */
  readonly resource: string;
  /** Nodes of pods to be close to, one entry a pod; undefined: closeness does not count. */
  readonly near: readonly string[] | undefined;
}

export type Assignment = ReadonlyMap<Task, string>;

/** Patterns of pods over one list of nodes. */
export class Patterns {
  readonly #nodes: readonly Node[];
  readonly #known = new Map<string, Pattern>();
  readonly #feasible = new Map<string, ReadonlySet<string>>();

  constructor(nodes: readonly Node[]) {
    this.#nodes = nodes;
  }

  of(pod: Pod, demand: Amounts): Pattern {
    const { nodeSelector = {}, affinity, tolerations = [] } = pod.spec;
    const wishes = JSON.stringify([nodeSelector, affinity?.nodeAffinity ?? {}, tolerations]);
    const key = `${wishes}${JSON.stringify([...demand])}`;
    const known = this.#known.get(key) ?? { demand, feasible: this.#feasibleFor(wishes, pod) };
    this.#known.set(key, known);
    return known;
  }

  #feasibleFor(wishes: string, pod: Pod): ReadonlySet<string> {
    const known =
      this.#feasible.get(wishes) ??
      new Set(this.#nodes.filter((node) => unfit(pod, node) === undefined).map(({ metadata }) => metadata.name ?? ""));
    this.#feasible.set(wishes, known);
    return known;
  }
}

/** A node for each task within the domain, or undefined where not all of them fit. */
export function pack(tasks: readonly Task[], domain: Domain, field: Field): Assignment | undefined {
  const rules = rulesFor(
    tasks.map(({ pod }) => pod),
    field.room,
  );
  const ordered = inOrder(tasks, field);
  const greedy = packInOrder(ordered, domain, { ...field, rules });
  // `Rules` count up only; what pods demand of one another is left to greed.
  return rules === undefined ? searched(ordered, domain, { ...field, greedy }) : greedy;
}

function packInOrder(
  ordered: readonly Task[],
  domain: Domain,
  field: Field & { readonly rules: Rules | undefined },
): Assignment | undefined {
  const { tree, resource, rules } = field;
  const trial = new Trial(field.room);
  const leaves = leavesOf(domain, field);
  const placed = new Map<Task, string>();
  let left = totalOf(ordered, resource);
  const place = (task: Task): boolean => {
    const own = task.pattern.demand.get(resource) ?? 0;
    const rest = field.near === undefined ? own : left;
    const distances = distancesTo(tree, neighboursOf(task, placed, field));
    const node = bestNode(task, leaves.values(), { ...field, room: trial, rest, distances });
    if (node === undefined) return false;
    trial.take(node, task.pattern.demand);
    const leaf = leaves.get(tree.leafOf(node));
    if (leaf !== undefined) leaf.free -= own;
    rules?.place(task.pod, node);
    placed.set(task, node);
    left -= own;
    return true;
  };
  return placeAll(ordered, place, rules) ? placed : undefined;
}

/** Nodes to be close to; those of the pod's own instance weigh more than all others together. */
function neighboursOf(task: Task, placed: Assignment, { near }: Field): readonly string[] {
  if (near === undefined) return [];
  const all = [...near, ...placed.values()];
  const instance = instanceOf(task);
  if (instance === undefined) return all;
  const own = [...placed].filter(([other]) => instanceOf(other) === instance).map(([, node]) => node);
  return [...all, ...own.flatMap((node) => all.map(() => node))];
}

/** The instance over several pods that a pod belongs to, where it has one already. */
const instanceOf = ({ pod }: Task): string | undefined => labelOf(pod, LABEL.instance);

/** A pod that finds no node may find one after others are placed, but only where pods demand things of one another. */
function placeAll(tasks: readonly Task[], place: (task: Task) => boolean, rules: Rules | undefined): boolean {
  let waiting = tasks;
  while (waiting.length > 0) {
    const left: Task[] = [];
    for (const task of waiting) {
      if (place(task)) continue;
      if (rules === undefined) return false;
      left.push(task);
    }
    if (left.length === waiting.length) return false;
    waiting = left;
  }
  return true;
}

/**
 * The largest first, then those with the fewest nodes; pods alike go instance by instance, by turns of each role: where
 * they need several leaves, each leaf gets both.
 */
function inOrder(tasks: readonly Task[], { resource }: Field): readonly Task[] {
  const turns = new Map<string, number>();
  const counts = new Map<Role, number>();
  const unit = (task: Task): string => `${task.role} ${instanceOf(task) ?? task.key}`;
  for (const task of tasks.toSorted((a, b) => byText(a.key, b.key))) {
    if (turns.has(unit(task))) continue;
    turns.set(unit(task), counts.get(task.role) ?? 0);
    counts.set(task.role, (counts.get(task.role) ?? 0) + 1);
  }
  return tasks
    .map((task) => ({ task, unit: unit(task), needs: task.pattern.demand.get(resource) ?? 0 }))
    .sort(
      (a, b) =>
        b.needs - a.needs ||
        a.task.pattern.feasible.size - b.task.pattern.feasible.size ||
        (turns.get(a.unit) ?? 0) - (turns.get(b.unit) ?? 0) ||
        byText(a.unit, b.unit) ||
        byText(a.task.key, b.task.key),
    )
    .map(({ task }) => task);
}

/** The nodes of a domain by their leaf: all nodes of a leaf are equally far from everything outside it. */
interface Leaf {
  readonly domain: Domain;
  readonly nodes: readonly string[];
  /** Free amount of the resource on all of them. */
  free: number;
}

const leavesOf = (domain: Domain, { tree, room, resource }: Field): ReadonlyMap<Domain, Leaf> =>
  new Map(
    [...Map.groupBy(domain.nodes, (node) => tree.leafOf(node))].map(([leaf, nodes]) => [
      leaf,
      { domain: leaf, nodes, free: nodes.reduce((sum, node) => sum + Math.max(0, room.free(node, resource)), 0) },
    ]),
  );

interface Choice extends Field {
  readonly rules: Rules | undefined;
  /** Amount of the resource that is still to be placed, this pod's included. */
  readonly rest: number;
  readonly distances: Distances;
}

/** The best node of the nearest leaf that has one; leaves equally near are compared by what is free in them. */
function bestNode(task: Task, leaves: Iterable<Leaf>, choice: Choice): string | undefined {
  const needs = task.pattern.demand.get(choice.resource) ?? 0;
  const ranked = [...leaves]
    .filter(({ free }) => free >= needs)
    .map((leaf) => ({ leaf, away: choice.distances.meanFrom(leaf.domain) }))
    .sort((a, b) => a.away - b.away);
  let best: { node: string; free: number } | undefined;
  let reach = Infinity;
  for (const { leaf, away } of ranked) {
    if (away > reach) break;
    const node = bestOfLeaf(task, leaf, { ...choice, away });
    if (node === undefined) continue;
    reach = away;
    const { free } = leaf;
    if (best === undefined || (byRoom(free, best.free, choice.rest) || byText(node, best.node)) < 0)
      best = { node, free };
  }
  return best?.node;
}

function bestOfLeaf({ pattern, pod }: Task, { nodes }: Leaf, choice: Choice & { away: number }): string | undefined {
  const { room, resource, distances, rules, away } = choice;
  let best: { node: string; away: number; free: number } | undefined;
  for (const node of nodes) {
    if (!pattern.feasible.has(node) || lacking(room, node, pattern.demand) !== undefined) continue;
    const found = { node, away: distances.holds(node) ? distances.mean(node) : away, free: room.free(node, resource) };
    const better = best === undefined || isBetter(found, best, choice.rest);
    if (better && rules?.objection(pod, node) === undefined) best = found;
  }
  return best?.node;
}

type Rank = { readonly node: string; readonly away: number; readonly free: number };

const isBetter = (a: Rank, b: Rank, rest: number): boolean =>
  (a.away - b.away || byRoom(a.free, b.free, rest) || byText(a.node, b.node)) < 0;

/** The tightest that has room for the rest; where none has, the roomiest. */
function byRoom(a: number, b: number, rest: number): number {
  if (a >= rest !== b >= rest) return a >= rest ? -1 : 1;
  return a >= rest ? a - b : b - a;
}

export const totalOf = (tasks: readonly Task[], resource: string): number =>
  tasks.reduce((sum, { pattern }) => sum + (pattern.demand.get(resource) ?? 0), 0);
