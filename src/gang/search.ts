/**
 * The closest packing of a few pods on a few nodes, by branch and bound.
 *
 * Greed opens the wrong node where sizes do not divide one another, and may then miss a packing. Below the limits here
 * the search is exact; it costs at most some milliseconds. Above them, what greed has found stands.
 */
import type { Domain } from "../topology/tree.ts";
import { lacking, Trial } from "./devices.ts";
import type { Assignment, Field, Task } from "./pack.ts";

const MOST_TASKS = 8;
const MOST_NODES = 32;
/** Nodes tried, over the whole search: about 5 ms. */
const MOST_STEPS = 10_000;

/** Sharing a node counts for less than sharing a leaf, over all pairs of the most pods. */
const WITHIN_LEAF = 1e-3;
/** KV blocks travel between prefill and decode: of two packings as close, the one with both roles in each leaf. */
const OTHER_ROLE = 1 + 1e-4;

interface Search extends Field {
  readonly greedy: Assignment | undefined;
}

/** The closest packing; `greedy` where it is as close, or where the problem is too large. */
export function searched(tasks: readonly Task[], domain: Domain, field: Search): Assignment | undefined {
  const { greedy, near } = field;
  if (tasks.length > MOST_TASKS || (greedy !== undefined && (near === undefined || tasks.length === 1))) return greedy;
  const nodes = domain.nodes.filter((node) =>
    tasks.some(({ pattern }) => pattern.feasible.has(node) && lacking(field.room, node, pattern.demand) === undefined),
  );
  if (nodes.length === 0 || nodes.length > MOST_NODES) return greedy;
  return new Branching(tasks, nodes, field).best();
}

class Branching {
  readonly #tasks: readonly Task[];
  readonly #nodes: readonly string[];
  readonly #field: Search;
  readonly #room: Trial;
  readonly #chosen: number[] = [];
  readonly #steps: readonly (readonly number[])[];
  /** Steps from each node to the pods that stand. */
  readonly #away: readonly number[];
  #found: readonly number[] | undefined;
  #cost: number;
  #left = MOST_STEPS;

  constructor(tasks: readonly Task[], nodes: readonly string[], field: Search) {
    const { tree, near = [], greedy } = field;
    this.#tasks = tasks;
    this.#nodes = nodes;
    this.#field = field;
    this.#room = new Trial(field.room);
    const steps = (a: string, b: string): number =>
      field.near === undefined ? 0 : tree.commonDomain([a, b]).step + WITHIN_LEAF * tree.distance(a, b);
    this.#steps = nodes.map((a) => nodes.map((b) => steps(a, b)));
    this.#away = nodes.map((node) => near.reduce((sum, other) => sum + steps(node, other), 0));
    this.#cost =
      greedy === undefined ? Infinity : this.#costOf(tasks.map((task) => nodes.indexOf(greedy.get(task) ?? "")));
  }

  best(): Assignment | undefined {
    this.#descend(0);
    const found = this.#found;
    if (found === undefined) return this.#field.greedy;
    return new Map(this.#tasks.map((task, index) => [task, this.#nodes[found[index] ?? 0] ?? ""]));
  }

  #costOf(places: readonly number[]): number {
    return places.reduce((sum, at, index) => sum + this.#added(at, places.slice(0, index)), 0);
  }

  /** What the next pod adds here to those before it. */
  #added(at: number, others: readonly number[]): number {
    const role = this.#tasks[others.length]?.role;
    return others.reduce((sum, other, index) => {
      const pair = this.#tasks[index]?.role === role ? 1 : OTHER_ROLE;
      return sum + pair * (this.#steps[at]?.[other] ?? 0);
    }, this.#away[at] ?? 0);
  }

  #descend(cost: number): void {
    const task = this.#tasks[this.#chosen.length];
    if (task === undefined) {
      this.#cost = cost;
      this.#found = [...this.#chosen];
      return;
    }
    for (let at = this.#first(task); at < this.#nodes.length && this.#left > 0; at++) this.#try(task, at, cost);
  }

  /** Pods of one pattern are alike: they take nodes in their order. */
  #first(task: Task): number {
    const before = this.#tasks[this.#chosen.length - 1];
    return before?.pattern === task.pattern && before.role === task.role ? (this.#chosen.at(-1) ?? 0) : 0;
  }

  #try(task: Task, at: number, cost: number): void {
    this.#left -= 1;
    const node = this.#nodes[at] ?? "";
    const { demand, feasible } = task.pattern;
    const total = cost + this.#added(at, this.#chosen);
    if (total >= this.#cost || !feasible.has(node) || lacking(this.#room, node, demand) !== undefined) return;
    this.#room.take(node, demand);
    this.#chosen.push(at);
    this.#descend(total);
    this.#chosen.pop();
    this.#room.give(node, demand);
  }
}
