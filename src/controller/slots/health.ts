/**
 * What becomes of an instance that has all its pods: out of routing while one of them is not ready, back when all are, and
 * broken for good where a rank was restarted under its peers, or does not come back.
 *
 * Out at once: requests fail meanwhile. In again once every pod is ready: readiness probes have their own thresholds, so
 * that this flaps no faster than they do.
 */
import { annotationOf, keyOf, type Pod } from "../../kinds/kube.ts";
import { STATUS } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { isReady } from "../../workload/endpoint.ts";
import { restarted, unreadySince } from "../../workload/health.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { Action } from "../action.ts";
import type { Contract } from "../contracts.ts";
import type { Slot } from "./record.ts";
import { drainAction, isDrained, isUnreadyDrain, resumeAction, servedAction } from "./writes.ts";

/** How long what may pass by itself is waited for. */
export interface Patience {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** One that never served is not replaced before: what fails at its start must not be replaced without end. */
  readonly minAgeMs: number;
  /** A member that was ready and has not been for so long does not come back. */
  readonly stalledMs: number;
}

/** Broken for good, and whether it is time to replace it. */
export interface Break {
  readonly why: string;
  readonly due: boolean;
}

/** Undefined for an instance that may go on, or come back by itself. One that never served may still load its model. */
export function breakOf(pods: readonly Pod[], patience: Patience | undefined): Break | undefined {
  const served = pods.some(hasServed);
  const again = restarted(pods);
  if (again !== undefined)
    return { why: `the engine of ${keyOf(again)} was restarted under its peers`, due: served || isOld(pods, patience) };
  const stalled = served ? pods.find((pod) => isStalled(pod, patience)) : undefined;
  return stalled === undefined ? undefined : { why: `${keyOf(stalled)} does not get ready again`, due: true };
}

const hasServed = (pod: Pod): boolean => annotationOf(pod, STATUS.served) !== undefined;

const isStalled = (pod: Pod, patience: Patience | undefined): boolean =>
  patience !== undefined && patience.now - (unreadySince(pod) ?? Infinity) >= patience.stalledMs;

const isOld = (pods: readonly Pod[], patience: Patience | undefined): boolean =>
  patience !== undefined &&
  pods.every(({ metadata }) => patience.now - Date.parse(metadata.creationTimestamp ?? "") >= patience.minAgeMs);

/** The pods of an instance with their ranks and the contract each was made with. */
export interface Rank {
  readonly pod: Pod;
  readonly rank: number;
  readonly spec: WorkloadSpec | undefined;
}

/** Out of routing, or in again. */
export function readinessActions(ranks: readonly Rank[], slot: Slot, contract: Contract): readonly Action[] {
  const pods = ranks.map(({ pod }) => pod);
  if (pods.every(isReady)) return [...firstTime(pods, slot), ...resume(ranks, slot, contract)];
  const ailing = pods.find((pod) => unreadySince(pod) !== undefined);
  // Before the first time no server of it is ready, or discovery sees to it: labels need not come and go.
  return ailing === undefined || !pods.some(hasServed) ? [] : suspend(ranks, slot, { contract, ailing });
}

const firstTime = (pods: readonly Pod[], { instance }: Slot): readonly Action[] =>
  pods[0] === undefined || pods.some(hasServed) ? [] : [servedAction(pods[0], instance)];

function suspend(
  ranks: readonly Rank[],
  slot: Slot,
  { contract, ailing }: { contract: Contract; ailing: Pod },
): readonly Action[] {
  const drains = ranks
    .filter(({ pod }) => !isDrained(pod))
    .map(({ pod }) => drainAction(pod, slot.instance, "instance-unready"));
  const message = `instance ${slot.instance} gets no new requests: ${keyOf(ailing)} is not ready`;
  const verdict = warned("InstanceUnready", message, { subject: contract.spec.name });
  return [
    { do: "tell", key: `unready/${slot.namespace}/${slot.instance}`, verdict, about: [contract.workload] },
    ...drains,
  ];
}

function resume(ranks: readonly Rank[], slot: Slot, contract: Contract): readonly Action[] {
  const held = ranks.filter(({ pod }) => isUnreadyDrain(pod));
  if (held.length === 0) return [];
  const message = `instance ${slot.instance} gets requests again: all its pods are ready`;
  const verdict = changed("InstanceReady", message, { subject: contract.spec.name });
  return [
    { do: "tell", key: `unready/${slot.namespace}/${slot.instance}`, verdict, about: [contract.workload] },
    ...held.map(({ pod, rank, spec }) => resumeAction(pod, slot.instance, { rank, spec })),
  ];
}
