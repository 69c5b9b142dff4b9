/** Places the unbound pods of one cell: whole, or its minimum viable set and what more fits, or not at all. */
import type { Role } from "../kinds/endpoint.ts";
import { allowed, denied, type Verdict } from "../kinds/verdict.ts";
import { distancesTo, placementCost } from "../topology/cost.ts";
import { byText, type Domain, type TopologyTree } from "../topology/tree.ts";
import { Census } from "./census.ts";
import { lacking, sumOf, Trial } from "./devices.ts";
import { anchorsOf, isWithin, nothingPermitted, permittedDomains, ranked } from "./domains.ts";
import type { TopologyPolicy } from "./members.ts";
import { pack, type Assignment, type Field, type Task } from "./pack.ts";
import type { MinimumShare } from "./podgroup.ts";
import { causesText, obstacleOf, shortfall } from "./refusal.ts";
import type { Tallies } from "./tally.ts";

export interface CellRequest {
  /** For messages. */
  readonly name: string;
  /** The unbound pods. */
  readonly tasks: readonly Task[];
  readonly minimum: readonly MinimumShare[];
  /** Nodes of the bound pods, and their roles. */
  readonly bound: readonly string[];
  readonly boundRoles: readonly Role[];
  readonly policy: TopologyPolicy;
  /** Nodes of the other cells of the service, one entry a pod: of domains as good, one far from them is taken. */
  readonly others?: readonly string[];
}

export interface CellField {
  readonly tree: TopologyTree;
  /** Takes what is placed. */
  readonly room: Trial;
  readonly resource: string;
  /** Counts of what lies below `room`. */
  readonly tallies: Tallies;
}

export interface CellOutcome {
  readonly nodes: Assignment;
  /** One for each task. */
  readonly verdicts: ReadonlyMap<Task, Verdict>;
  /** Whether the minimum viable set stands; absent where there is none to hold together. */
  readonly gang?: Verdict;
}

interface Scene {
  readonly request: CellRequest;
  readonly field: Field & { readonly room: Trial };
  readonly census: Census;
  /** Permitted domains, best first. */
  readonly domains: readonly Domain[];
  readonly gang: readonly Task[];
  readonly rest: readonly Task[];
}

/** Decides for one cell, and takes the room of what it places. */
export function placeCell(given: CellRequest, field: CellField): CellOutcome {
  const request = { ...given, tasks: given.tasks.toSorted((a, b) => byText(a.key, b.key)) };
  const { policy, bound, tasks } = request;
  const permitted = permittedDomains(policy, bound, field.tree);
  if (permitted.length === 0) return none(request, nothingPermitted(policy, field.tree));
  const { gang, missing } = gangTasks(request);
  if (missing !== undefined) return none(request, missing);
  const near = policy.mode === "off" ? undefined : bound;
  const census = new Census(tasks, field.resource, { tallies: field.tallies, trial: field.room });
  const home = near === undefined || near.length === 0 ? undefined : field.tree.commonDomain(near);
  const others = (request.others ?? []).length === 0 ? undefined : distancesTo(field.tree, request.others ?? []);
  const domains = ranked(permitted, { census, home, others });
  const rest = tasks.filter((task) => !gang.includes(task));
  return decide({ request, field: { ...field, near }, census, domains, gang, rest });
}

/** The tasks that complete the minimum viable set beside what is bound, or what is still to come before it can be. */
function gangTasks({ tasks, minimum, boundRoles, name }: CellRequest): { gang: readonly Task[]; missing?: Verdict } {
  const gang: Task[] = [];
  for (const role of new Set(minimum.map((share) => share.role))) {
    const pods = minimum.reduce((sum, share) => sum + (share.role === role ? share.pods : 0), 0);
    const needed = Math.max(0, pods - boundRoles.filter((bound) => bound === role).length);
    const found = tasks.filter((task) => task.role === role);
    if (found.length < needed) {
      const wanted = needed - found.length;
      const message = `the minimum viable set of ${name} waits for ${wanted} more ${role} ${wanted === 1 ? "pod" : "pods"}`;
      return { gang: [], missing: denied("GangIncomplete", message) };
    }
    gang.push(...found.slice(0, needed));
  }
  return { gang };
}

function decide(scene: Scene): CellOutcome {
  const { request, gang } = scene;
  const whole = firstFit(scene, request.tasks, (domain) => packWhole(scene, domain));
  if (whole !== undefined) {
    take(scene, whole.nodes);
    return kept(scene, whole.nodes, { why: wholeReason(scene, whole.domain), refusals: new Map() });
  }
  if (gang.length === 0) return placeRest(scene, new Map(), "nearest node with room");
  const core = firstFit(scene, gang, (domain) => pack(gang, domain, scene.field));
  return core === undefined
    ? none(request, gangRefusal(scene))
    : placeRest(scene, core.nodes, gangReason(scene, core.domain));
}

/** The minimum viable set where it was found, and of the other pods each to the nearest node that has room. */
function placeRest(scene: Scene, core: Assignment, why: string): CellOutcome {
  const { request, field, rest } = scene;
  const nodes = new Map(core);
  take(scene, core);
  const confined = confinement(scene, [...core.values()]);
  const refusals = new Map<Task, Verdict>();
  for (const task of rest) {
    const near = field.near === undefined ? undefined : [...request.bound, ...nodes.values()];
    const node = firstNode(task, confined, { ...field, near });
    if (node === undefined) refusals.set(task, taskRefusal(scene, task, confined));
    else {
      field.room.take(node, task.pattern.demand, task.pod);
      nodes.set(task, node);
    }
  }
  return kept(scene, nodes, { why, refusals });
}

function firstNode(task: Task, domains: readonly Domain[], field: Field): string | undefined {
  for (const domain of domains) {
    const node = pack([task], domain, field)?.get(task);
    if (node !== undefined) return node;
  }
  return undefined;
}

const take = ({ field }: Scene, nodes: Assignment): void => {
  for (const [task, node] of nodes) field.room.take(node, task.pattern.demand, task.pod);
};

interface Found {
  readonly domain: Domain;
  readonly nodes: Assignment;
}

function firstFit(
  scene: Scene,
  tasks: readonly Task[],
  attempt: (domain: Domain) => Assignment | undefined,
): Found | undefined {
  const { domains, census } = scene;
  const single = onOneNode(scene, tasks);
  if (single !== undefined) return single;
  for (const domain of domains) {
    const nodes = census.mayFit(domain, tasks) ? attempt(domain) : undefined;
    if (nodes !== undefined) return { domain, nodes };
  }
  return undefined;
}

/** Nodes with room for all that are tried: what pods demand of one another mostly refuses them all alike. */
const MOST_SINGLES = 8;

/** A node is the smallest domain of all: the tightest that takes every pod, in the tightest leaf among equals. */
function onOneNode({ request, field, domains, census }: Scene, tasks: readonly Task[]): Found | undefined {
  if (tasks.length < 2 || request.bound.length > 0 || request.policy.mode === "off") return undefined;
  const demand = sumOf(tasks.map(({ pattern }) => pattern.demand));
  const { tree, room, resource } = field;
  const needs = demand.get(resource) ?? 0;
  const permitted = new Set(domains);
  const widest = domains.filter(({ parent }) => parent === undefined || !permitted.has(parent));
  const fitting = widest
    .flatMap(({ nodes }) => nodes)
    .filter(
      (node) =>
        room.free(node, resource) >= needs &&
        lacking(room, node, demand) === undefined &&
        tasks.every(({ pattern }) => pattern.feasible.has(node)),
    );
  const found = fitting.toSorted(
    (a, b) =>
      room.free(a, resource) - room.free(b, resource) ||
      census.free(tree.leafOf(a)) - census.free(tree.leafOf(b)) ||
      byText(a, b),
  );
  for (const node of found.slice(0, MOST_SINGLES)) {
    const domain = tree.leafOf(node);
    const nodes = pack(tasks, { ...domain, nodes: [node], children: [] }, field);
    if (nodes !== undefined) return { domain, nodes };
  }
  return undefined;
}

/** All tasks in this domain, with the minimum viable set as close together inside it as can be. */
function packWhole(scene: Scene, domain: Domain): Assignment | undefined {
  const { request, field, gang, rest } = scene;
  if (gang.length === 0 || rest.length === 0 || domain.children.length === 0) return pack(request.tasks, domain, field);
  const inner = { ...scene, domains: scene.domains.filter((other) => other !== domain && isWithin(other, domain)) };
  const core = firstFit(inner, gang, (smaller) => pack(gang, smaller, field));
  if (core === undefined) return pack(request.tasks, domain, field);
  const room = new Trial(field.room);
  for (const [task, node] of core.nodes) room.take(node, task.pattern.demand, task.pod);
  const near = field.near === undefined ? undefined : [...field.near, ...core.nodes.values()];
  const others = pack(rest, domain, { ...field, room, near });
  return others === undefined ? pack(request.tasks, domain, field) : new Map([...core.nodes, ...others]);
}

/** Where the pods beyond the minimum viable set may go: a required cell must not leave the domains it is in. */
function confinement({ request, field, domains, census }: Scene, placed: readonly string[]): readonly Domain[] {
  const { mode, tier } = request.policy;
  if (mode !== "required" || tier === undefined) return [field.tree.root];
  const anchors = anchorsOf([...request.bound, ...placed], tier, field.tree);
  if (anchors.length > 0) return anchors;
  const roomiest = domains.toSorted((a, b) => census.free(b) - census.free(a) || a.step - b.step)[0];
  return roomiest === undefined ? [] : [roomiest];
}

function kept(
  scene: Scene,
  nodes: Assignment,
  { why, refusals }: { why: string; refusals: ReadonlyMap<Task, Verdict> },
): CellOutcome {
  const { request, field, gang } = scene;
  const distance = placementCost(field.tree, [...request.bound, ...nodes.values()]);
  const verdicts = new Map(refusals);
  for (const [task, node] of nodes)
    verdicts.set(
      task,
      allowed("Placed", `${field.tree.path(node)}: ${why}`, {
        subject: node,
        numbers: { distance, free: Math.max(0, field.room.free(node, field.resource)) },
      }),
    );
  if (request.minimum.length === 0) return { nodes, verdicts };
  const stands = gang.length === 0 ? "the minimum viable set is bound" : why;
  return { nodes, verdicts, gang: allowed("Placed", stands, { numbers: { distance } }) };
}

function none({ tasks, minimum }: CellRequest, verdict: Verdict): CellOutcome {
  const verdicts = new Map(tasks.map((task) => [task, { ...verdict, subject: task.key }]));
  return { nodes: new Map(), verdicts, ...(minimum.length === 0 ? {} : { gang: verdict }) };
}

const tierText = ({ tier, tierName }: Domain): string => `tier ${tier}${tierName === undefined ? "" : `, ${tierName}`}`;

function wholeReason({ request, field }: Scene, domain: Domain): string {
  if (request.policy.mode === "off") return "tightest node with room";
  const pods = `${countText(request)} of ${request.name}`;
  return domain === field.tree.root
    ? `no domain has room for ${pods}; as close together as the cluster has room`
    : `${domain.name} (${tierText(domain)}) is the smallest domain with room for ${pods}`;
}

function countText({ tasks, bound }: CellRequest): string {
  const more = bound.length > 0 ? "more " : "";
  return tasks.length === 1 ? `one ${more}pod` : `all ${tasks.length} ${more}pods`;
}

const gangReason = ({ request }: Scene, domain: Domain): string =>
  `${domain.name} (${tierText(domain)}) is the smallest domain with room for the minimum viable set of ${request.name}; ` +
  "the rest as near as there is room";

/** Of the domain with most room: what lacks there. */
function gangRefusal({ request, field, domains, census, gang }: Scene): Verdict {
  const { resource, room } = field;
  // Where nothing is free anywhere, the widest tells most.
  const order = domains.some((domain) => census.free(domain) > 0) ? 1 : -1;
  const best =
    domains.toSorted((a, b) => census.free(b) - census.free(a) || order * (a.step - b.step))[0] ?? field.tree.root;
  const name =
    domains.length === 1 ? best.name : `the largest of ${domains.length} domains, ${best.name} (${tierText(best)}),`;
  const { text, numbers } = shortfall({ tasks: gang, nodes: best.nodes, room }, { name, resource });
  return denied("NoDomainFits", `the minimum viable set of ${request.name} ${text}`, { numbers });
}

function taskRefusal({ field }: Scene, task: Task, confined: readonly Domain[]): Verdict {
  const nodes = confined.flatMap((domain) => domain.nodes);
  const where = confined.map(({ name }) => name).join(", ");
  const causes = obstacleOf({ tasks: [task], nodes, room: field.room })?.causes ?? [];
  const [first] = causes;
  const text = causes.length === 0 ? "" : `: ${causesText(causes)}`;
  return denied(first?.reason ?? "NodeNotSelected", `none of the ${nodes.length} nodes of ${where} takes it${text}`, {
    subject: task.key,
    numbers: first?.example.numbers ?? {},
  });
}
