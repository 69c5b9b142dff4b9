/** What each domain has for the pods of one cell: enough to say that they do not fit in it, and to compare domains. */
import type { Domain } from "../topology/tree.ts";
import type { Trial } from "./devices.ts";
import { totalOf, type Pattern, type Task } from "./pack.ts";
import type { Tallies, Tally } from "./tally.ts";

export class Census {
  readonly #tallies: ReadonlyMap<Pattern, Tally>;
  readonly #resource: string;
  /** True where all patterns may use the same nodes, so that their demands compete for the same room. */
  readonly #shared: boolean;

  constructor(tasks: readonly Task[], resource: string, { tallies, trial }: { tallies: Tallies; trial: Trial }) {
    const patterns = new Set(tasks.map(({ pattern }) => pattern));
    this.#resource = resource;
    this.#tallies = new Map([...patterns].map((pattern) => [pattern, tallies.of(pattern, resource, trial)]));
    this.#shared = new Set([...patterns].map(({ feasible }) => feasible)).size === 1;
  }

  /** Free amount of the resource on the nodes that could carry one of the pods. */
  free(domain: Domain): number {
    let free = 0;
    for (const tally of this.#tallies.values()) free = Math.max(free, tally.free(domain));
    return free;
  }

  /** False where the tasks cannot all fit; true is only a hope. */
  mayFit(domain: Domain, tasks: readonly Task[]): boolean {
    for (const [pattern, count] of countBy(tasks))
      if ((this.#tallies.get(pattern)?.slots(domain) ?? 0) < count) return false;
    return !this.#shared || this.free(domain) >= totalOf(tasks, this.#resource);
  }
}

function countBy(tasks: readonly Task[]): ReadonlyMap<Pattern, number> {
  const counts = new Map<Pattern, number>();
  for (const { pattern } of tasks) counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
  return counts;
}
