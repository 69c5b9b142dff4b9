/**
 * What is asked of a node for one pod, and why it may be refused: devices, what is kept for others, and the domain to
 * which the pod's cell is confined.
 */
import { isBound, isDevice, type Amounts, type Room } from "../gang/devices.ts";
import { anchorsOf, isWithin, nothingPermitted } from "../gang/domains.ts";
import { shortage } from "../gang/fit.ts";
import { keptVerdict } from "../gang/kept.ts";
import { nodesOf, podCell, topologyPolicy, type TopologyPolicy } from "../gang/members.ts";
import { podId } from "../gang/reservations.ts";
import { keyOf, type Pod } from "../kinds/kube.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { UNCONFIGURED } from "../profiles/devices.ts";
import type { Domain, TopologyTree } from "../topology/tree.ts";
import { cellKey } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import type { ClusterView } from "./view.ts";

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
  return outside(view.tree.leafOf(key), confines) ?? lackingRoom(key, question, room);
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
export function evictionHelps(name: string, { reason }: Verdict, { id, devices, view }: Question): boolean {
  if (reason !== "NodeLacksDevices" && reason !== "NodeReserved") return false;
  const holders = view.holds.on(name, id);
  const heldOf = (resource: string): number =>
    holders.reduce((sum, { demand }) => sum + (demand.get(resource) ?? 0), 0);
  return [...devices].every(
    ([resource, amount]) => view.ledger.allocatable(name, resource) - heldOf(resource) >= amount,
  );
}

export interface OurPod {
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
export function ourPod(pod: Pod, view: ClusterView): OurPod | undefined {
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

export const unknown = (name: string): Verdict =>
  denied("NodeUnknown", "the node is not in Tandem's store yet", { subject: name });

export function outside(leaf: Domain, confines: Confinement): Verdict | undefined {
  if (confines === undefined) return undefined;
  if (!isDomains(confines)) return confines;
  if (confines.some((domain) => isWithin(leaf, domain))) return undefined;
  const wanted = confines.length === 1 ? confines[0]?.name : confines.map((domain) => domain.name).join(", ");
  // No word of the node: kube-scheduler counts nodes by their text, and shows one line for all of them.
  return denied("NodeOutsideDomain", `the cell is confined to ${wanted}`);
}

const isDomains = (confines: readonly Domain[] | Verdict): confines is readonly Domain[] => Array.isArray(confines);
