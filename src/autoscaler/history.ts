/**
 * The last decisions on each workload, for people: a decision that differs from the one before in more than its figures
 * is a new entry, any other takes the place of that one. Bounded in workloads and in decisions of each.
 */
import type { Decision, RoleFigures, WorkloadDecision } from "./group.ts";

export interface Entry {
  /** Milliseconds since the Unix epoch: when it was decided for the first time in a row, and for the last. */
  readonly since: number;
  readonly until: number;
  readonly group: string;
  readonly decision: WorkloadDecision;
  readonly roles: readonly RoleFigures[];
}

export interface History {
  add(group: string, decision: Decision, wallClock: number): void;
  /** The last one on each workload. */
  last(): readonly Entry[];
  /** On one, newest first; undefined where it is not known. */
  of(workload: string): readonly Entry[] | undefined;
  /** Forgets all workloads but these. */
  keep(workloads: ReadonlySet<string>): void;
}

const MOST_WORKLOADS = 1000;
const MOST_ENTRIES = 20;

export function createHistory(): History {
  const entries = new Map<string, Entry[]>();
  return {
    add: (group, { workloads, roles }, wallClock) => {
      for (const decision of workloads) {
        const known = entries.get(decision.workload);
        if (known === undefined && entries.size >= MOST_WORKLOADS) continue;
        const entry = { since: wallClock, until: wallClock, group, decision, roles };
        entries.set(decision.workload, known === undefined ? [entry] : joined(known, entry));
      }
    },
    last: () => [...entries.values()].flatMap((known) => known.slice(0, 1)),
    of: (workload) => entries.get(workload),
    keep: (workloads) => {
      for (const key of entries.keys()) if (!workloads.has(key)) entries.delete(key);
    },
  };
}

function joined(known: Entry[], entry: Entry): Entry[] {
  const [last, ...earlier] = known;
  if (last !== undefined && kindOf(last) === kindOf(entry)) return [{ ...entry, since: last.since }, ...earlier];
  return [entry, ...known].slice(0, MOST_ENTRIES);
}

const kindOf = ({ decision: { from, to, recommended, frozen, chain } }: Entry): string =>
  JSON.stringify([from, to, recommended, frozen, chain.map(({ reason }) => reason)]);
