/**
 * The extender's two answers to kube-scheduler: which nodes a pod may go to, and which are better.
 *
 * Decided from one pod, node names and the view of one snapshot. Pure: it reserves nothing, so a question may be asked
 * twice. It judges devices and topology only, what kube-scheduler cannot or what it should not get wrong; taints,
 * selectors, cpu and memory are the scheduler's own. A pod that is not Tandem's is refused only the devices that are kept
 * for another pod, and never anything where it asks for none.
 */
import { isBound, isDevice, scarcest, type Amounts, type Room } from "../gang/devices.ts";
import { anchorsOf, isWithin, nothingPermitted } from "../gang/domains.ts";
import { shortage } from "../gang/fit.ts";
import { keptVerdict } from "../gang/kept.ts";
import { nodesOf, podCell, podRole, topologyPolicy, type TopologyPolicy } from "../gang/members.ts";
import { podId } from "../gang/reservations.ts";
import { keyOf, type Pod } from "../kinds/kube.ts";
import { allowed, denied, skipped, type Verdict } from "../kinds/verdict.ts";
import { UNCONFIGURED } from "../profiles/devices.ts";
import { distancesTo, type Distances } from "../topology/cost.ts";
import type { Domain, TopologyTree } from "../topology/tree.ts";
import { cellKey } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import type { ClusterView } from "./view.ts";

export interface Filtered {
  /** In the order asked. */
  readonly fit: readonly string[];
  readonly refused: ReadonlyMap<string, Verdict>;
  /** Those among the refused that evicting pods would not help. */
  readonly hopeless: ReadonlySet<string>;
}

export interface Scored {
  readonly host: string;
  /** 0 to `MAX_SCORE`, the range of kube-scheduler's extender API. */
  readonly score: number;
  readonly verdict: Verdict;
}

export const MAX_SCORE = 10;

/** Judges each node for the pod. */
export function filterNodes(pod: Pod, nodeNames: readonly string[], view: ClusterView): Filtered {
  const question = questionOf(pod, view);
  const fit: string[] = [];
  const refused = new Map<string, Verdict>();
  for (const name of nodeNames) {
    const verdict = objection(name, question, view.ledger);
    if (verdict === undefined) fit.push(name);
    else refused.set(name, verdict);
  }
  const hopeless = new Set<string>();
  for (const [name, verdict] of refused) if (!evictionHelps(name, verdict, question)) hopeless.add(name);
  return { fit, refused, hopeless };
}

/** What is asked of each node for one pod. */
export interface Question {
  readonly id: string;
  readonly ours: boolean;
  readonly devices: Amounts;
  readonly confines: Confinement;
  readonly view: ClusterView;
}

export function questionOf(pod: Pod, view: ClusterView): Question {
  const ours = ourPod(pod, view);
  const devices = new Map([...view.cells.demand(pod)].filter(([resource, amount]) => isDevice(resource) && amount > 0));
  const confines = ours === undefined ? undefined : confinement(ours, view);
  return { id: podId(pod), ours: ours !== undefined, devices, confines, view };
}

/** Why the pod may not go to the node, with so much free on it; undefined where it may. */
export function objection(name: string, question: Question, room: Room): Verdict | undefined {
  const { ours, confines, view } = question;
  if (!ours) return kept(name, question, room);
  // The key itself, not its copy out of the call: all further tables find it by comparing pointers.
  const key = view.nodes.get(name)?.metadata.name;
  if (key === undefined) return unknown(name);
  return lackingRoom(key, question, room) ?? outside(key, confines, view.tree);
}

/** Why there is too little free on the node, whoever asks, beside what is kept there for others. */
export const lackingRoom = (name: string, question: Question, room: Room): Verdict | undefined =>
  shortage(name, question.devices, room) ?? kept(name, question, room);

/** Whether what is kept for others leaves too little. Where nothing is kept, kube-scheduler's own count decides. */
function kept(name: string, { id, devices, view: { holds } }: Question, room: Room): Verdict | undefined {
  if (devices.size === 0) return undefined;
  const holders = holds.on(name, id);
  if (holders.length === 0) return undefined;
  if (!holders.some(({ demand }) => [...devices.keys()].some((resource) => (demand.get(resource) ?? 0) > 0)))
    return undefined;
  return keptVerdict(name, devices, { room: holds.beside(room, id), holders });
}

/** Pods that are bound can be evicted; what the node never had, or is kept for pods on their way, stays out of reach. */
function evictionHelps(name: string, { reason }: Verdict, { id, devices, view }: Question): boolean {
  if (reason !== "NodeLacksDevices" && reason !== "NodeReserved") return false;
  const holders = view.holds.on(name, id);
  const heldOf = (resource: string): number =>
    holders.reduce((sum, { demand }) => sum + (demand.get(resource) ?? 0), 0);
  return [...devices].every(
    ([resource, amount]) => view.ledger.allocatable(name, resource) - heldOf(resource) >= amount,
  );
}

interface OurPod {
  readonly pod: Pod;
  readonly key: string;
  readonly policy: TopologyPolicy;
  /** Nodes of the other pods of the cell. */
  readonly bound: readonly string[];
  /** Nodes that are kept for unbound pods of the cell, its own among them. */
  readonly kept: readonly string[];
  /** Where the cell is, or is going to be: the former where it has begun. */
  readonly home: readonly string[];
  /** The node that is kept for the pod itself. */
  readonly own: string | undefined;
}

/** The pod as a member of its cell; undefined for a pod that is not ours. */
function ourPod(pod: Pod, view: ClusterView): OurPod | undefined {
  const cell = podCell(pod);
  if (cell === undefined) return undefined;
  const key = cellKey(cell);
  const members = [...view.cells.pods(key)];
  const siblings = members.filter((other) => isBound(other) && keyOf(other) !== keyOf(pod));
  const policy = view.cells.policy(key) ?? ownPolicy(pod, view.tree);
  const bound = nodesOf(siblings);
  const kept = members.flatMap((other) => (isBound(other) ? [] : (view.holds.nodeOf(podId(other)) ?? []))).sort();
  return { pod, key, policy, bound, kept, home: bound.length > 0 ? bound : kept, own: view.holds.nodeOf(podId(pod)) };
}

/** A pod whose workload is not known speaks for itself: admission left the workload's intent on it. */
function ownPolicy(pod: Pod, tree: TopologyTree): TopologyPolicy {
  const { spec } = workloadSpec(pod, { devices: UNCONFIGURED });
  return spec === undefined ? { mode: "off", tier: undefined, asked: undefined } : topologyPolicy([spec], tree);
}

/** Where a required cell must stay: inside these domains; a verdict refuses every node. */
type Confinement = readonly Domain[] | Verdict | undefined;

/**
 * The domains of the bound pods of the cell; before there are any, those of the nodes that are kept for it, or that the
 * planner would give to its minimum viable set, so that the first pod does not choose a leaf in which the rest finds no
 * room.
 */
function confinement({ key, policy, home }: OurPod, view: ClusterView): Confinement {
  if (policy.mode !== "required") return undefined;
  const { tier } = policy;
  if (tier === undefined) return nothingPermitted(policy, view.tree);
  const anchors = anchorsOf(home, tier, view.tree);
  if (anchors.length > 0) return anchors;
  const plan = view.plans.of(key);
  if (plan?.gang?.outcome === "denied") return plan.gang;
  const planned = anchorsOf([...(plan?.nodes.values() ?? [])].flat(), tier, view.tree);
  return planned.length > 0 ? planned : undefined;
}

const unknown = (name: string): Verdict =>
  denied("NodeUnknown", "the node is not in Tandem's store yet", { subject: name });

function outside(name: string, confines: Confinement, tree: TopologyTree): Verdict | undefined {
  if (confines === undefined) return undefined;
  if (!isDomains(confines)) return { ...confines, subject: name };
  const leaf = tree.leafOf(name);
  if (confines.some((domain) => isWithin(leaf, domain))) return undefined;
  const wanted = confines.length === 1 ? confines[0]?.name : confines.map((domain) => domain.name).join(", ");
  return denied("NodeOutsideDomain", `${tree.path(name)} lies outside ${wanted}, to which the cell is confined`, {
    subject: name,
  });
}

const isDomains = (confines: readonly Domain[] | Verdict): confines is readonly Domain[] => Array.isArray(confines);

/**
 * A score for each node. Nodes that the planner has chosen for a pod of this role get 10; the others less the farther
 * they are from the cell's bound and planned pods, and a little more the fuller they would be.
 */
export function prioritizeNodes(pod: Pod, nodeNames: readonly string[], view: ClusterView): readonly Scored[] {
  const ours = ourPod(pod, view);
  if (ours === undefined || ours.policy.mode === "off") return nodeNames.map((host) => unranked(host, ours));
  const plan = view.plans.of(ours.key);
  const planned = new Set(ours.own === undefined ? plan?.nodes.get(podRole(pod)) : [ours.own]);
  const around = [...ours.bound, ...ours.kept, ...(plan?.nodes.values() ?? [])].flat();
  const demand = view.cells.demand(pod);
  const scale: Scale = {
    view,
    planned,
    why: plan?.why ?? "",
    around,
    demand,
    resource: scarcest([demand]),
    distances: distancesTo(view.tree, around),
    weights: weightsOf(view.tree),
    holders: new Set(around),
    places: new Map(),
  };
  return nodeNames.map((host) => scored(host, scale));
}

const unranked = (host: string, ours: OurPod | undefined): Scored => {
  const rest = { subject: host };
  if (ours === undefined) return { host, score: 0, verdict: skipped("NotOurs", "not a pod of Tandem", rest) };
  return { host, score: 0, verdict: allowed("NodeFits", "topology is off", rest) };
};

interface Scale {
  readonly view: ClusterView;
  readonly planned: ReadonlySet<string>;
  readonly why: string;
  /** Nodes to be close to, one entry a pod. */
  readonly around: readonly string[];
  readonly demand: Amounts;
  readonly resource: string;
  readonly distances: Distances;
  /** What one pod of the cell at each distance is worth, 0 to 1. */
  readonly weights: readonly number[];
  /** Nodes that hold one of them: all others of a leaf are equally far from everything. */
  readonly holders: ReadonlySet<string>;
  readonly places: Map<Domain, Place>;
}

/** What a node has in common with its leaf. */
interface Place {
  readonly path: string;
  /** Where it lies and how far that is, for people. */
  readonly text: string;
  /** Mean steps to the pods of the cell. */
  readonly distance: number;
  /** 0 to 1. */
  readonly closeness: number;
}

/** Worked out once for a leaf; nodes that hold pods of the cell are nearer than their leaf. */
function placeOf(host: string, scale: Scale): Place {
  const { view, holders, places } = scale;
  if (holders.has(host)) return placeAt(host, scale);
  const leaf = view.tree.leafOf(host);
  const place = places.get(leaf) ?? placeAt(host, scale);
  places.set(leaf, place);
  return place;
}

function placeAt(host: string, { view, distances, weights, around }: Scale): Place {
  const worth = distances.spread(host).reduce((sum, count, steps) => sum + count * (weights[steps] ?? 0), 0);
  const [path, distance] = [view.tree.path(host), distances.mean(host)];
  const far = around.length === 0 ? "no pod of the cell is placed" : `${distance.toFixed(1)} steps from the cell`;
  return {
    path,
    text: `${path}: ${far}`,
    distance,
    closeness: around.length === 0 ? 0 : worth / around.length,
  };
}

/** Of the score of a node that is not planned: closeness makes 8, tightness 1. */
const CLOSENESS_POINTS = 8;

function scored(host: string, scale: Scale): Scored {
  const { view, planned, why } = scale;
  const key = view.nodes.get(host)?.metadata.name;
  if (key === undefined) return { host, score: 0, verdict: unknown(host) };
  const { path: place, text: far, distance, closeness } = placeOf(key, scale);
  const rest = { subject: host, numbers: { distance } };
  if (planned.has(host)) {
    const text = `${place}: planned for this role${why === "" ? "" : `, ${why}`}`;
    return { host, score: MAX_SCORE, verdict: allowed("NodeFits", text, rest) };
  }
  const score = Math.round(CLOSENESS_POINTS * closeness + tightness(key, scale));
  return { host, score, verdict: allowed("NodeFits", far, rest) };
}

/** How full the node would be. */
function tightness(host: string, { view, demand, resource }: Scale): number {
  const all = view.ledger.allocatable(host, resource);
  if (all === 0) return 0;
  const left = view.ledger.free(host, resource) - (demand.get(resource) ?? 0);
  return Math.min(1, Math.max(0, (all - left) / all));
}

/** The same node counts a little more than the same leaf; each step beyond the leaf halves; the root is worth nothing. */
function weightsOf({ diameter }: TopologyTree): readonly number[] {
  const far = 0.5 ** (diameter - 1);
  return Array.from({ length: diameter + 1 }, (_, steps) => {
    if (steps === 0) return 1;
    return diameter === 1 ? 0 : (0.95 * (0.5 ** (steps - 1) - far)) / (1 - far);
  });
}
