/**
 * Which instances go when there are to be fewer: those that Kubernetes would delete anyway first, then those that drain
 * already, then those with the least work. Whole instances always; never more than asked for, and never more that serve
 * than a PodDisruptionBudget allows.
 */
import type { Role } from "../../kinds/endpoint.ts";
import type { Pod } from "../../kinds/kube.ts";
import type { Instance } from "./instances.ts";
import { deletedBefore } from "./order.ts";

export interface Wanted {
  readonly role: Role;
  /** Those that may be chosen. */
  readonly instances: readonly Instance[];
  /** How many are to go. */
  readonly count: number;
  /** How many of those that serve may go, by budgets. */
  readonly allowed: number;
  /** Where the workload numbers its instances, Kubernetes deletes the highest; those from here on are to go. */
  readonly fromIndex?: number;
}

export interface Victims {
  /** In the order in which they go. */
  readonly victims: readonly Instance[];
  /** So many more would go, did budgets allow it. */
  readonly spared: number;
}

export function victimsOf(wanted: Wanted): Victims {
  const due = wanted.fromIndex === undefined ? byLeastLoss(wanted) : fromTheTop(wanted, wanted.fromIndex);
  const victims = withinBudget(due, wanted);
  return { victims, spared: due.length - victims.length };
}

/** Without a number it is no pod that counts: the StatefulSet did not make it. */
const fromTheTop = ({ instances }: Wanted, from: number): readonly Instance[] =>
  instances
    .filter(({ index }) => index !== undefined && index >= from)
    .toSorted((a, b) => (b.index ?? 0) - (a.index ?? 0));

const byLeastLoss = ({ instances, count, role }: Wanted): readonly Instance[] =>
  instances.toSorted((a, b) => compare(a, b, role)).slice(0, Math.max(0, count));

function compare(a: Instance, b: Instance, role: Role): number {
  if (a.ready !== b.ready) return a.ready ? 1 : -1;
  if (!a.ready) return deletedBefore(firstOf(a), firstOf(b)) || age(a, b);
  if (a.draining !== b.draining) return a.draining ? -1 : 1;
  return lossOf(a, role) - lossOf(b, role) || age(a, b);
}

/** The pod of an instance that Kubernetes would take first: its others follow it. */
const firstOf = ({ pods }: Instance): Pod => pods.reduce((first, pod) => (deletedBefore(pod, first) < 0 ? pod : first));

/**
 * What is lost, or waited for, when it goes. Of prefill the work in its queue; of decode what it holds, in requests first:
 * each still has to be answered to its end. One that tells nothing may hold any amount.
 */
function lossOf({ engine }: Instance, role: Role): number {
  if (engine === undefined) return Number.MAX_SAFE_INTEGER;
  const { running, waiting, kvUsage, kvCapacityTokens = 0 } = engine;
  if (role === "prefill") return waiting + running;
  return (running + waiting) * Math.max(1, kvUsage * kvCapacityTokens);
}

/** The youngest first, as Kubernetes does. */
const age = (a: Instance, b: Instance): number => bornAt(b) - bornAt(a) || (a.id < b.id ? -1 : 1);
const bornAt = ({ pods }: Instance): number => Date.parse(pods[0]?.metadata.creationTimestamp ?? "") || 0;

/** What has begun goes on: only further ones are not taken. */
function withinBudget(due: readonly Instance[], { allowed, fromIndex }: Wanted): readonly Instance[] {
  let left = allowed - due.filter(({ ready, draining }) => ready && draining).length;
  const taken: Instance[] = [];
  for (const instance of due) {
    const free = !instance.ready || instance.draining;
    if (!free && left <= 0 && fromIndex !== undefined) break;
    if (free || left > 0) taken.push(instance);
    if (!free) left -= 1;
  }
  return taken;
}
