/**
 * The extender's two answers to kube-scheduler: which nodes a pod may go to, and which are better.
 *
 * Decided from one pod, node names and the view of one snapshot. Pure: it reserves nothing, so a question may be asked
 * twice. It judges devices and topology only, what kube-scheduler cannot or what it should not get wrong; taints,
 * selectors, cpu and memory are the scheduler's own. A pod that is not Tandem's is refused only the devices that are kept
 * for another pod, and never anything where it asks for none.
 */
import { scarcest, type Stock } from "../gang/devices.ts";
import { podRole } from "../gang/members.ts";
import type { Role } from "../kinds/endpoint.ts";
import type { Pod } from "../kinds/kube.ts";
import { allowed, skipped, type Verdict } from "../kinds/verdict.ts";
import { distancesTo, type Distances } from "../topology/cost.ts";
import type { Domain, TopologyTree } from "../topology/tree.ts";
import type { CellPlan } from "./plans.ts";
import { Judge, type Refusal } from "./judge.ts";
import { ourPod, questionOf, unknown, type OurPod } from "./question.ts";
import type { ClusterView } from "./view.ts";

export interface Filtered {
  /** In the order asked. */
  readonly fit: readonly string[];
  /** The other nodes by what refuses them: of thousands, for few reasons. */
  readonly refused: ReadonlyMap<Refusal, readonly string[]>;
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
  const judge = new Judge(questionOf(pod, view));
  const fit: string[] = [];
  const refused = new Map<Refusal, string[]>();
  for (const name of nodeNames) {
    const refusal = judge.refusal(name);
    const names = refusal === undefined ? fit : refused.get(refusal);
    if (names !== undefined) names.push(name);
    else if (refusal !== undefined) refused.set(refusal, [name]);
  }
  return { fit, refused };
}

/**
 * The nodes that are planned for a pod of this role, or kept for this very pod, as far as they take it; undefined where
 * there are none, and all nodes are to be judged. kube-scheduler has found every node that it names feasible: of
 * thousands it would score each, to choose the planned one in the end (docs/adr/0010).
 */
export function shortlist(pod: Pod, nodeNames: readonly string[], view: ClusterView): readonly string[] | undefined {
  const ours = ourPod(pod, view);
  if (ours === undefined || ours.policy.mode === "off") return undefined;
  const planned = new Set(ours.own === undefined ? view.plans.of(ours.key)?.nodes.get(podRole(pod)) : [ours.own]);
  if (planned.size === 0) return undefined;
  const judge = new Judge(questionOf(pod, view));
  const fit = nodeNames.filter((name) => planned.has(name) && judge.refusal(name) === undefined);
  return fit.length > 0 ? fit : undefined;
}

/** What refuses each node, for whoever asks about few. */
export const refusalsByNode = ({ refused }: Filtered): ReadonlyMap<string, Refusal> =>
  new Map([...refused].flatMap(([refusal, names]) => names.map((name) => [name, refusal] as const)));

/**
 * A score for each node. Nodes that the planner has chosen for a pod of this role get 10; the others less the farther
 * they are from the cell's bound and planned pods, and a little more the fuller they would be.
 */
export function prioritizeNodes(pod: Pod, nodeNames: readonly string[], view: ClusterView): readonly Scored[] {
  const ours = ourPod(pod, view);
  if (ours === undefined || ours.policy.mode === "off") return nodeNames.map((host) => unranked(host, ours));
  // A pod with a node of its own needs no plan: its gang was planned when it was let go.
  const plan = ours.own === undefined ? view.plans.of(ours.key) : ownPlan(podRole(pod), ours.own);
  const planned = new Set(plan?.nodes.get(podRole(pod)));
  const around = [...ours.bound, ...ours.kept, ...(plan?.nodes.values() ?? [])].flat();
  const demand = view.cells.demand(pod);
  const resource = scarcest([demand]);
  const scale: Scale = {
    view,
    planned,
    why: plan?.why ?? "",
    around,
    amount: demand.get(resource) ?? 0,
    stocks: view.ledger.stocks(resource),
    distances: distancesTo(view.tree, around),
    weights: weightsOf(view.tree),
    holders: new Set([...around, ...planned]),
    places: new Map(),
  };
  return nodeNames.map((host) => scored(host, scale));
}

const ownPlan = (role: Role, node: string): CellPlan => ({
  nodes: new Map([[role, [node]]]),
  why: "kept for the pod since its gang was let go",
});

const unranked = (host: string, ours: OurPod | undefined): Scored => ({
  host,
  score: 0,
  verdict: ours === undefined ? FOREIGN : UNRANKED,
});

const FOREIGN = skipped("NotOurs", "not a pod of Tandem");
const UNRANKED = allowed("NodeFits", "topology is off");

interface Scale {
  readonly view: ClusterView;
  readonly planned: ReadonlySet<string>;
  readonly why: string;
  /** Nodes to be close to, one entry a pod. */
  readonly around: readonly string[];
  readonly amount: number;
  readonly distances: Distances;
  /** What one pod of the cell at each distance is worth, 0 to 1. */
  readonly weights: readonly number[];
  /** What is free of the scarcest resource. */
  readonly stocks: ReadonlyMap<string, Readonly<Stock>>;
  /** Nodes that hold one of them: all others of a leaf are equally far from everything. */
  readonly holders: ReadonlySet<string>;
  readonly places: Map<Domain, Place>;
}

/** What a node has in common with its leaf. */
interface Place {
  readonly path: string;
  /** Where its nodes lie and how far that is. */
  readonly verdict: Verdict;
  /** Mean steps to the pods of the cell. */
  readonly distance: number;
  /** 0 to 1. */
  readonly closeness: number;
}

/** Worked out once for a leaf. */
function placeOf(host: string, scale: Scale): Place {
  const { view, places } = scale;
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
    verdict: allowed("NodeFits", `${path}: ${far}`, { numbers: { distance } }),
    distance,
    closeness: around.length === 0 ? 0 : worth / around.length,
  };
}

/** Of the score of a node that is not planned: closeness makes 8, tightness 1. */
const CLOSENESS_POINTS = 8;

function scored(host: string, scale: Scale): Scored {
  const key = scale.view.nodes.get(host)?.metadata.name;
  if (key === undefined) return { host, score: 0, verdict: unknown(host) };
  // Nodes that hold pods of the cell, or are going to, are nearer than their leaf.
  const near = scale.holders.has(key);
  if (near && scale.planned.has(key)) return chosen(key, scale);
  const { verdict, closeness } = near ? placeAt(key, scale) : placeOf(key, scale);
  return { host, score: Math.round(CLOSENESS_POINTS * closeness + tightness(key, scale)), verdict };
}

function chosen(host: string, scale: Scale): Scored {
  const { path, distance } = placeAt(host, scale);
  const text = `${path}: planned for this role${scale.why === "" ? "" : `, ${scale.why}`}`;
  return { host, score: MAX_SCORE, verdict: allowed("NodeFits", text, { subject: host, numbers: { distance } }) };
}

/** How full the node would be. */
function tightness(host: string, { stocks, amount }: Scale): number {
  const stock = stocks.get(host);
  if (stock === undefined || stock.all === 0) return 0;
  return Math.min(1, Math.max(0, (stock.used + amount) / stock.all));
}

/** The same node counts a little more than the same leaf; each step beyond the leaf halves; the root is worth nothing. */
function weightsOf({ diameter }: TopologyTree): readonly number[] {
  const far = 0.5 ** (diameter - 1);
  return Array.from({ length: diameter + 1 }, (_, steps) => {
    if (steps === 0) return 1;
    return diameter === 1 ? 0 : (0.95 * (0.5 ** (steps - 1) - far)) / (1 - far);
  });
}
