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
 *
 * A plan outlives its snapshot while it comes true: as long as its pods are bound where it said, and the others may still
 * go to the rest of its nodes, the next snapshot goes on with that (`PlanMemory`).
 */
import { placeCell, type CellOutcome } from "../gang/cell-plan.ts";
import { isBound, scarcest, Trial, type DeviceLedger, type Room } from "../gang/devices.ts";
import { cellName, missingPods, nodesOf, podRole, type CellMember } from "../gang/members.ts";
import type { Task } from "../gang/pack.ts";
import { minimumViableSet } from "../gang/podgroup.ts";
import { podId, type Holds } from "../gang/reservations.ts";
import { takes } from "../gang/refusal.ts";
import { rulesFor } from "../gang/rules.ts";
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

/** A plan, and of what it was made. */
interface Remembered {
  readonly plan: CellPlan;
  readonly tree: TopologyTree;
  readonly workloads: readonly CellMember[];
  /** Where the pods of the cell were that had a node: by uid. */
  readonly taken: ReadonlyMap<string, string>;
}

/** The last plan of each cell, from one snapshot to the next. */
export type PlanMemory = Map<string, Remembered>;

interface Ground {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  readonly tallies: Tallies;
  readonly cells: CellDirectory;
  readonly holds: Holds;
  readonly memory: PlanMemory;
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

  /** What is left of the cell's last plan, if it still comes true; its pods take their room. */
  #rest(key: string, { taken, tasks }: Scene, room: Trial): CellPlan | undefined {
    const { cells, tree, memory } = this.#ground;
    const last = memory.get(key);
    if (last === undefined || last.tree !== tree || !sameItems(last.workloads, cells.workloads(key))) return undefined;
    const nodes = remaining(last, taken);
    const seats = nodes === undefined ? undefined : seated(tasks, nodes);
    if (nodes === undefined || seats === undefined || !stillGo(seats, room)) return undefined;
    for (const { task, node } of seats) room.take(node, task.pattern.demand, task.pod);
    return { ...last.plan, nodes };
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
    const { cells, tree, memory } = this.#ground;
    const scene = this.#scene(key);
    const plan = this.#rest(key, scene, room) ?? this.#anew(key, scene, room);
    const taken = new Map([...scene.taken].map(([pod, node]) => [podId(pod), node]));
    if (plan.nodes.size > 0) memory.set(key, { plan, tree, workloads: cells.workloads(key), taken });
    else memory.delete(key);
    return plan;
  }

  #scene(key: string): Scene {
    const { cells, holds } = this.#ground;
    const members = [...cells.pods(key)].sort((a, b) => byText(keyOf(a), keyOf(b)));
    const taken = new Map(
      members.flatMap((pod) => {
        const node = isBound(pod) ? pod.spec.nodeName : holds.nodeOf(podId(pod));
        return node === undefined ? [] : [[pod, node] as const];
      }),
    );
    const missing = missingPods(cells.workloads(key), members, MAX_TASKS);
    const expected = [...members.filter((pod) => !taken.has(pod)), ...missing];
    const tasks = [...Map.groupBy(expected, podRole).values()]
      .flatMap((pods) => pods.slice(0, MAX_TASKS))
      .map((pod) => this.#task(pod));
    return { taken, tasks };
  }

  #anew(key: string, { taken, tasks }: Scene, room: Trial): CellPlan {
    const { cells, tree, tallies } = this.#ground;
    const workloads = cells.workloads(key);
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

/** The pods of a cell: where those are that have a node, and what is left to be placed. */
interface Scene {
  readonly taken: ReadonlyMap<Pod, string>;
  readonly tasks: readonly Task[];
}

interface Seat {
  readonly task: Task;
  readonly node: string;
}

const sameItems = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a === b || (a.length === b.length && a.every((item, index) => item === b[index]));

/** The nodes of a plan that are not taken yet; undefined where a pod is not where the plan, or the cell before, had it. */
function remaining(
  last: Remembered,
  taken: ReadonlyMap<Pod, string>,
): ReadonlyMap<Role, readonly string[]> | undefined {
  const nodes = new Map([...last.plan.nodes].map(([role, names]) => [role, [...names]]));
  let known = 0;
  for (const [pod, node] of taken) {
    const before = last.taken.get(podId(pod));
    if (before === node) known += 1;
    else if (before !== undefined || !took(nodes.get(podRole(pod)), node)) return undefined;
  }
  return known === last.taken.size ? nodes : undefined;
}

function took(names: string[] | undefined, node: string): boolean {
  const at = names?.indexOf(node) ?? -1;
  if (at >= 0) names?.splice(at, 1);
  return at >= 0;
}

/** Each task on a node of its role; undefined where there are more or fewer of them. */
function seated(tasks: readonly Task[], nodes: ReadonlyMap<Role, readonly string[]>): readonly Seat[] | undefined {
  const left = new Map([...nodes].map(([role, names]) => [role, [...names]]));
  const seats = tasks.flatMap((task) => (left.get(task.role)?.splice(0, 1) ?? []).map((node) => ({ task, node })));
  return seats.length === tasks.length && [...left.values()].every((names) => names.length === 0) ? seats : undefined;
}

/** Whether each pod may still go where the plan has it: by its selectors, by its neighbours, and by what is free. */
function stillGo(seats: readonly Seat[], room: Room): boolean {
  const trial = new Trial(room);
  const pods = seats.map(({ task }) => task.pod);
  const rules = rulesFor(pods, room);
  return seats.every(({ task, node }) => {
    if (!takes(node, task, { room: trial, rules })) return false;
    trial.take(node, task.pattern.demand);
    rules?.place(task.pod, node);
    return true;
  });
}

function toPlan({ nodes, gang }: CellOutcome): CellPlan {
  const byRole = new Map<Role, string[]>();
  for (const [task, node] of nodes) byRole.set(task.role, [...(byRole.get(task.role) ?? []), node]);
  const why = gang?.outcome === "allowed" ? gang.message : "";
  return { nodes: byRole, why, ...(gang === undefined ? {} : { gang }) };
}
