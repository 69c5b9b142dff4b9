/**
 * What the planner would do with every cell that is not whole yet, from one snapshot.
 *
 * The extender is asked pod by pod, and between two questions the first pod's binding may not be visible yet. So a pod's
 * leaf is never derived from the pod asked about, but from the replicas of the workloads: every question about a cell
 * that is put to the same snapshot gets the same plan, the first pod goes where the rest will find room, and the second
 * follows it without having seen it. Counting a device twice is kube-scheduler's part, rightly: it assumes a pod on its
 * node before it takes up the next one, so of two planned nodes it uses each once.
 *
 * Cells that have begun are planned first, then by key: what they still need is not promised to another cell. Such a
 * promise is only a preference; a cell that finds no room beside the promises is planned without them.
 *
 * A pod that was let go for a node, or is about to be bound to one, is planned there; what is held for such pods is no
 * promise, and nothing is planned into it.
 */
import { placeCell, type CellOutcome } from "../gang/cell-plan.ts";
import { isBound, scarcest, Trial, type DeviceLedger } from "../gang/devices.ts";
import { cellName, missingPods, nodesOf, podRole } from "../gang/members.ts";
import type { Task } from "../gang/pack.ts";
import { minimumViableSet } from "../gang/podgroup.ts";
import { podId, type Holds } from "../gang/reservations.ts";
import type { Tallies } from "../gang/tally.ts";
import type { Role } from "../kinds/endpoint.ts";
import { keyOf, type Pod } from "../kinds/kube.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { byText, type TopologyTree } from "../topology/tree.ts";
import { serviceKey } from "../workload/cell.ts";
import type { CellDirectory } from "./view.ts";

export interface CellPlan {
  /** Nodes planned for the unbound pods of each role. */
  readonly nodes: ReadonlyMap<Role, readonly string[]>;
  /** The minimum viable set: whether it stands or can be placed; absent where there is none. */
  readonly gang?: Verdict;
  /** Why these nodes, in words; empty where there is nothing to say. */
  readonly why: string;
}

/** Cells planned before the one asked about, at most: each costs a ranking of all domains (0.3 ms at 5000 nodes). */
const MAX_PROMISES = 16;
/** Pods of a role of a cell that are planned; beyond, the nearest nodes are as good as a plan. */
const MAX_TASKS = 128;

interface Ground {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  readonly tallies: Tallies;
  readonly cells: CellDirectory;
  readonly holds: Holds;
}

export class CellPlans {
  readonly #ground: Ground;
  #promised: Trial | undefined;
  readonly #plans = new Map<string, CellPlan>();
  /** Cells that were planned without regard to promises. */
  readonly #unpromised = new Set<string>();
  #order: readonly string[] | undefined;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** What is free beside all that is held. */
  #room(): Trial {
    const room = new Trial(this.#ground.ledger);
    for (const { node, demand, pod } of this.#ground.holds.all()) room.take(node, demand, pod);
    return room;
  }

  /** The plan of a cell; undefined where it is whole, or nothing is known of its workloads. */
  of(key: string): CellPlan | undefined {
    this.#order ??= this.#incomplete();
    const place = this.#order.indexOf(key);
    if (place === -1) return undefined;
    if (place >= MAX_PROMISES) return this.#planned(key, this.#room());
    const promised = (this.#promised ??= this.#room());
    for (const earlier of this.#order.slice(0, place)) this.#planned(earlier, promised);
    const plan = this.#planned(key, promised);
    return plan.gang?.outcome === "denied" && !this.#unpromised.has(key) ? this.#alone(key) : plan;
  }

  #alone(key: string): CellPlan {
    const plan = this.#plan(key, this.#room());
    this.#unpromised.add(key);
    this.#plans.set(key, plan);
    return plan;
  }

  #planned(key: string, room: Trial): CellPlan {
    const plan = this.#plans.get(key) ?? this.#plan(key, room);
    this.#plans.set(key, plan);
    return plan;
  }

  /** Cells with pods to come, those that have begun first. */
  #incomplete(): readonly string[] {
    const { cells } = this.#ground;
    return [...cells.keys()]
      .filter((key) => !["off", undefined].includes(cells.policy(key)?.mode))
      .map((key) => ({ key, bound: [...cells.pods(key)].filter(isBound).length, wanted: this.#wanted(key) }))
      .filter(({ bound, wanted }) => bound < wanted)
      .sort((a, b) => Number(b.bound > 0) - Number(a.bound > 0) || byText(a.key, b.key))
      .map(({ key }) => key);
  }

  #wanted(key: string): number {
    const { cells } = this.#ground;
    return Math.max(
      cells.workloads(key).reduce((sum, { spec }) => sum + spec.replicas, 0),
      cells.pods(key).size,
    );
  }

  #plan(key: string, room: Trial): CellPlan {
    const { cells, tree, tallies, holds } = this.#ground;
    const workloads = cells.workloads(key);
    const members = [...cells.pods(key)].sort((a, b) => byText(keyOf(a), keyOf(b)));
    const taken = new Map(
      members.flatMap((pod) => {
        const node = isBound(pod) ? pod.spec.nodeName : holds.nodeOf(podId(pod));
        return node === undefined ? [] : [[pod, node] as const];
      }),
    );
    const expected = [...members.filter((pod) => !taken.has(pod)), ...missingPods(workloads, members, MAX_TASKS)];
    const tasks = [...Map.groupBy(expected, podRole).values()]
      .flatMap((pods) => pods.slice(0, MAX_TASKS))
      .map((pod) => this.#task(pod));
    const policy = cells.policy(key);
    const outcome = placeCell(
      {
        name: cellName(workloads[0]?.spec),
        tasks,
        minimum: minimumViableSet(workloads.map(({ spec }) => spec)),
        bound: [...taken.values()].sort(),
        boundRoles: [...taken.keys()].map(podRole),
        policy: policy ?? { mode: "off", tier: undefined, asked: undefined },
        others: this.#othersOf(key),
      },
      { tree, room, tallies, resource: scarcest(tasks.map(({ pattern }) => pattern.demand)) },
    );
    return toPlan(outcome);
  }

  /** Nodes of the other cells of the service. */
  #othersOf(key: string): readonly string[] {
    const { cells } = this.#ground;
    const others = [...cells.keys()].filter((other) => other !== key && serviceKey(other) === serviceKey(key));
    return others.flatMap((other) => nodesOf([...cells.pods(other)]));
  }

  #task(pod: Pod): Task {
    return { pod, key: keyOf(pod), role: podRole(pod), pattern: this.#ground.cells.pattern(pod) };
  }
}

function toPlan({ nodes, gang }: CellOutcome): CellPlan {
  const byRole = new Map<Role, string[]>();
  for (const [task, node] of nodes) byRole.set(task.role, [...(byRole.get(task.role) ?? []), node]);
  const why = gang?.outcome === "allowed" ? gang.message : "";
  return { nodes: byRole, why, ...(gang === undefined ? {} : { gang }) };
}
