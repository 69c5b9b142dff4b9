/**
 * Why pods find no place on some nodes, in words and numbers: which resource lacks, or what closes the nodes.
 *
 * Decided from the same room, patterns and rules as the plan that failed. Never decides whether pods fit: it is asked
 * afterwards, places one pod after the other where it first can, and tells what keeps the next one off each node. Where
 * that finds a way the plan did not (which tries the tightest nodes), it says so by naming no cause.
 */
import type { Verdict } from "../kinds/verdict.ts";
import type { Reason } from "../kinds/reasons.ts";
import { byText } from "../topology/tree.ts";
import { isDevice, lacking, sumOf, Trial, type Room } from "./devices.ts";
import { shortage, unfit } from "./fit.ts";
import { totalOf, type Pattern, type Task } from "./pack.ts";
import { formatAmount } from "./quantity.ts";
import { neighbourVerdict, rulesFor, type Rules } from "./rules.ts";

/** A resource of which the nodes together have too little for the pods together. */
interface Lack {
  readonly resource: string;
  /** In the whole units of `amountOf`, as is `free`. */
  readonly needs: number;
  /** On the nodes that are open to pods which ask for it. */
  readonly free: number;
}

/** What keeps one pod off some nodes: all of those that are refused for the same reason. */
export interface Cause {
  readonly reason: Reason;
  /** Resource, taint, label or rule. */
  readonly what: string;
  readonly nodes: number;
  /** Of the node that comes nearest: the freest, where a resource lacks. */
  readonly example: Verdict;
}

/** The first pod that finds no node, when the others before it have theirs. */
export interface Obstacle {
  readonly task: Task;
  readonly placed: number;
  /** Those that refuse most nodes first. */
  readonly causes: readonly Cause[];
}

/** Devices, then what all pods share, then the rest by name. */
const rank = (resource: string): number => (isDevice(resource) ? 0 : ["cpu", "memory"].includes(resource) ? 1 : 2);

/** Resources that do not suffice even if any piece of them served any pod. */
function lacksOf({ tasks, nodes, room }: Place): readonly Lack[] {
  const total = sumOf(tasks.map(({ pattern }) => pattern.demand));
  return [...total]
    .map(([resource, needs]) => ({ resource, needs, free: freeOf(resource, { tasks, nodes, room }) }))
    .filter(({ needs, free }) => free < needs)
    .sort((a, b) => rank(a.resource) - rank(b.resource) || byText(a.resource, b.resource));
}

interface Place {
  readonly tasks: readonly Task[];
  readonly nodes: readonly string[];
  readonly room: Room;
}

function freeOf(resource: string, { tasks, nodes, room }: Place): number {
  const asking = new Set(tasks.filter(({ pattern }) => (pattern.demand.get(resource) ?? 0) > 0).map((t) => t.pattern));
  const open = nodes.filter((node) => [...asking].some(({ feasible }) => feasible.has(node)));
  return open.reduce((sum, node) => sum + Math.max(0, room.free(node, resource)), 0);
}

export function obstacleOf({ tasks, nodes, room }: Place): Obstacle | undefined {
  const trial = new Trial(room);
  const rules = rulesFor(
    tasks.map(({ pod }) => pod),
    room,
  );
  const sorted = nodes.toSorted(byText);
  const begin = new Map<Pattern, number>();
  for (const [placed, task] of tasks.entries()) {
    const found = firstNode(task, sorted, { room: trial, rules, begin });
    if (found === undefined) return { task, placed, causes: causesOf(task, sorted, { room: trial, rules }) };
    trial.take(found, task.pattern.demand);
    rules?.place(task.pod, found);
  }
  return undefined;
}

/** What a pod is judged by, beside its pattern. */
export interface Judge {
  readonly room: Room;
  readonly rules: Rules | undefined;
}

/** Room only shrinks, so that a node without any is not asked again; what pods demand of one another may change. */
function firstNode(
  task: Task,
  nodes: readonly string[],
  { begin, ...judge }: Judge & { readonly begin: Map<Pattern, number> },
): string | undefined {
  const from = begin.get(task.pattern) ?? 0;
  const at = nodes.findIndex((node, index) => index >= from && takes(node, task, judge));
  begin.set(task.pattern, at < 0 ? nodes.length : at);
  if (at >= 0 || judge.rules === undefined) return nodes[at];
  return nodes.find((node) => takes(node, task, judge));
}

/** Whether the node is open to the pod, has room for it, and no neighbour keeps it off. */
export const takes = (node: string, { pod, pattern }: Task, { room, rules }: Judge): boolean =>
  pattern.feasible.has(node) &&
  lacking(room, node, pattern.demand) === undefined &&
  rules?.objection(pod, node) === undefined;

function causesOf(task: Task, nodes: readonly string[], judge: Judge): readonly Cause[] {
  const causes = new Map<string, Cause>();
  for (const node of nodes) {
    const { what, verdict } = refusalBy(node, task, judge);
    const known = causes.get(what);
    const nearer = known === undefined || (verdict.numbers?.["free"] ?? 0) > (known.example.numbers?.["free"] ?? 0);
    causes.set(what, {
      ...{ reason: verdict.reason, what, nodes: (known?.nodes ?? 0) + 1 },
      example: nearer ? verdict : known.example,
    });
  }
  return [...causes.values()].sort((a, b) => b.nodes - a.nodes || byText(a.what, b.what));
}

const CLOSED: Verdict = { outcome: "denied", reason: "NodeNotSelected", message: "closed to the pod" };

function refusalBy(name: string, { pod, pattern }: Task, { room, rules }: Judge): { what: string; verdict: Verdict } {
  const node = room.neighbours?.node(name);
  const closed = node === undefined ? undefined : unfit(pod, node);
  if (closed !== undefined) return { what: closed.message, verdict: closed };
  if (!pattern.feasible.has(name)) return { what: CLOSED.message, verdict: CLOSED };
  const short = shortage(name, pattern.demand, room);
  if (short !== undefined) return { what: lacking(room, name, pattern.demand) ?? "", verdict: short };
  const kept = neighbourVerdict(pod, name, rules) ?? CLOSED;
  return { what: kept.message, verdict: kept };
}

/** True where a resource lacks; else the node is closed, or its pods or those of the plan keep the pod off. */
const isLack = ({ reason }: Cause): boolean => reason === "NodeLacksDevices";

/** Causes named at most; the rest is rare, and `tandem place` lists all. */
const MOST_CAUSES = 3;

/** `3 nodes lack memory (the freest, n1: needs 64Gi memory, 32Gi of 128Gi free), 1 node is cordoned` */
export const causesText = (causes: readonly Cause[]): string =>
  causes
    .slice(0, MOST_CAUSES)
    .map((cause) => causeText(cause))
    .join(", ");

function causeText(cause: Cause): string {
  const nodes = `${cause.nodes} ${cause.nodes === 1 ? "node" : "nodes"}`;
  if (!isLack(cause)) return `${nodes}: ${cause.what}`;
  const which = cause.nodes === 1 ? "" : "the freest, ";
  const { subject = "", message } = cause.example;
  return `${nodes} short of ${spoken(cause.what)} (${which}${subject}: ${message})`;
}

/** What pods lack where, and the numbers of the first resource that does. */
export interface Shortfall {
  readonly text: string;
  readonly numbers: { readonly needs: number; readonly free: number };
}

interface Named {
  /** Of the nodes, as the subject of `has`. */
  readonly name: string;
  /** The resource by which nodes are compared. */
  readonly resource: string;
}

/**
 * `needs 16 nvidia.com/gpu for 2 pods, rack-2 has 12 free`. Where enough is free: what keeps the first pod that finds no
 * place off each node.
 */
export function shortfall(place: Place, named: Named): Shortfall {
  const closed = place.nodes.filter((node) => !place.tasks.some(({ pattern }) => pattern.feasible.has(node)));
  const lacks = closed.length === place.nodes.length ? [] : lacksOf(place);
  return lacks.length > 0 ? tooLittle({ ...place, closed }, lacks, named) : inPieces(place, named);
}

/** Resources named at most. */
const MOST_LACKS = 3;

interface Closing extends Place {
  /** Nodes that none of the pods may use, whatever is free. */
  readonly closed: readonly string[];
}

function tooLittle(place: Closing, lacks: readonly Lack[], { name }: Named): Shortfall {
  const [{ resource, needs, free }] = lacks as readonly [Lack];
  const there = lacks.length > 1 ? amountsText(lacks, "free") : formatAmount(resource, free);
  const wanted = `needs ${amountsText(lacks, "needs")} for ${podsText(place.tasks.length)}`;
  return { text: `${wanted}, ${name} has ${there} free${closedText(place)}`, numbers: { needs, free } };
}

/** ` on 3 of its 4 nodes (1 node: cordoned)` */
function closedText({ tasks, nodes, room, closed }: Closing): string {
  const [task] = tasks;
  if (task === undefined || closed.length === 0) return "";
  const why = causesText(causesOf(task, closed, { room, rules: undefined }));
  return ` on ${nodes.length - closed.length} of its ${nodes.length} nodes (${why})`;
}

function inPieces({ tasks, nodes, room }: Place, { name, resource }: Named): Shortfall {
  const obstacle = obstacleOf({ tasks: bySize(tasks, resource), nodes, room });
  const [cause] = obstacle?.causes ?? [];
  const of = cause !== undefined && isLack(cause) ? cause.what : resource;
  const numbers = { needs: totalOf(tasks, of), free: freeOf(of, { tasks, nodes, room }) };
  const amounts =
    `needs ${formatAmount(of, numbers.needs)} ${of} for ${podsText(tasks.length)}, ` +
    `${name} has ${formatAmount(of, numbers.free)} free, but in pieces that do not fit the pods`;
  if (obstacle === undefined || cause === undefined) return { text: amounts, numbers };
  const found = obstacleText(obstacle, tasks.length);
  return { text: isLack(cause) ? `${amounts}; ${found}` : `finds no place: in ${name} ${found}`, numbers };
}

const obstacleText = ({ placed, task, causes }: Obstacle, all: number): string =>
  `no node takes ${task.key}${placed === 0 ? "" : `, once ${placed} of ${all} pods are placed`}: ${causesText(causes)}`;

const bySize = (tasks: readonly Task[], resource: string): readonly Task[] =>
  tasks.toSorted(
    (a, b) => (b.pattern.demand.get(resource) ?? 0) - (a.pattern.demand.get(resource) ?? 0) || byText(a.key, b.key),
  );

const podsText = (count: number): string => `${count} ${count === 1 ? "pod" : "pods"}`;

/** `pods` of a node are how many it takes. */
const spoken = (resource: string): string => (resource === "pods" ? "places for pods" : resource);

/** `16 nvidia.com/gpu and 2Ti memory` */
const amountsText = (lacks: readonly Lack[], of: "needs" | "free"): string =>
  lacks
    .slice(0, MOST_LACKS)
    .map((lack) => `${formatAmount(lack.resource, lack[of])} ${spoken(lack.resource)}`)
    .join(" and ");
