/**
 * Which nodes are worth evicting pods for: kube-scheduler has chosen victims on some nodes, and asks before it evicts.
 *
 * Decided from the pod, the victims of each node and the view of one snapshot. A node stays where the pod would be let in
 * once its victims are gone: else they would be evicted for nothing. Of what remains kube-scheduler takes the node with
 * the fewest violations of disruption budgets, so a victim whose going breaks a gang that stands counts as one. It never
 * adds a victim or a node, and never spares one.
 */
import { isBound } from "../gang/devices.ts";
import { cellName, podCell, shortOf } from "../gang/members.ts";
import { minimumViableSet } from "../gang/podgroup.ts";
import type { Pod } from "../kinds/kube.ts";
import { allowed, warned, type Verdict } from "../kinds/verdict.ts";
import { cellKey } from "../workload/cell.ts";
import { objection, questionOf } from "./question.ts";
import type { ClusterView } from "./view.ts";

export interface Candidate {
  readonly node: string;
  /** The pods to be evicted there, by uid. */
  readonly victims: readonly string[];
  /** How many of them a disruption budget protects, by kube-scheduler's count. */
  readonly violations: number;
}

export interface Preempted {
  /** In the order asked. */
  readonly kept: readonly Candidate[];
  /** One for each node. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
}

export function preemptOn(pod: Pod, candidates: readonly Candidate[], view: ClusterView): Preempted {
  const question = questionOf(pod, view);
  const kept: Candidate[] = [];
  const verdicts = new Map<string, Verdict>();
  for (const candidate of candidates) {
    const { node, violations } = candidate;
    const victims = victimsOf(candidate, view);
    const refusal = objection(node, question, view.ledger.without(new Set(victims)));
    const broken = refusal === undefined ? brokenBy(victims, view) : [];
    verdicts.set(node, refusal ?? verdictOf(node, broken));
    const most = Math.max(violations, candidate.victims.length);
    if (refusal === undefined) kept.push({ ...candidate, violations: Math.min(most, violations + broken.length) });
  }
  return { kept, verdicts };
}

/** A victim that the store does not know yet holds nothing by its count either. */
const victimsOf = ({ node, victims }: Candidate, { cells }: ClusterView): readonly Pod[] =>
  victims.flatMap((uid) => {
    const pod = cells.byUid(uid);
    return pod !== undefined && isBound(pod) && pod.spec.nodeName === node ? [pod] : [];
  });

/** Victims of gangs that stand, and would not without them. */
function brokenBy(victims: readonly Pod[], { cells }: ClusterView): readonly Pod[] {
  return victims.filter((pod) => {
    const id = podCell(pod);
    if (id === undefined) return false;
    const key = cellKey(id);
    const minimum = minimumViableSet(cells.workloads(key).map(({ spec }) => spec));
    const bound = [...cells.pods(key)].filter(isBound);
    const left = bound.filter((member) => !victims.includes(member));
    return shortOf(minimum, bound) === undefined && shortOf(minimum, left) !== undefined;
  });
}

function verdictOf(node: string, broken: readonly Pod[]): Verdict {
  const numbers = { broken: broken.length };
  if (broken.length === 0) return allowed("NodeFits", "the pod fits without the victims", { subject: node, numbers });
  const names = [...new Set(broken.map((pod) => cellName(podCell(pod))))].sort().join(", ");
  const message = `${broken.length} victims take ${names} below its minimum viable set`;
  return warned("GangPreempted", message, { subject: node, numbers });
}
