/**
 * Live pods that admission missed: their template was admitted, they themselves were not, because the webhook was away
 * when they were created. They run as their template says, and nobody deletes them.
 *
 * Repaired without a restart: labels and facts for discovery are written to the live pod, so that it is routed to. What
 * admission would have put into its containers is missing, KV transfer above all: the facts say so, and such an endpoint
 * prefills for itself.
 */
import { annotationOf, keyOf, labelOf, type Pod } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import { warned } from "../kinds/verdict.ts";
import type { Devices } from "../profiles/devices.ts";
import { infer } from "../workload/infer.ts";
import { isTemplate } from "../workload/template.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Action } from "./action.ts";
import type { Contract } from "./contracts.ts";
import { labelPod, writtenLabels } from "./labels.ts";

/** How a pod is known to come from an admitted template. */
export interface MissedFacts {
  /** Everything is injected at creation, so that the labels of the user's template are all there is to know it by. */
  readonly podTarget: boolean;
  readonly devices: Devices;
}

/** Never admitted, or repaired by us since. Pods from before their workload was labelled have neither mark. */
function isMissed(pod: Pod, { podTarget }: MissedFacts): boolean {
  const admitted = annotationOf(pod, STATUS.endpoint) !== undefined && annotationOf(pod, STATUS.labels) === undefined;
  if (admitted) return false;
  const brought = labelOf(pod, LABEL.model) !== undefined && !writtenLabels(pod).includes(LABEL.model);
  return brought && (podTarget || annotationOf(pod, STATUS.intent) !== undefined);
}

/** The contract as the pod runs it: what its own arguments do not say was never said to the engine. */
function nativeSpec(spec: WorkloadSpec, pod: Pod, devices: Devices): WorkloadSpec {
  const inferred = isTemplate(pod)
    ? infer(pod, { container: spec.container, engine: spec.engine, devices })
    : undefined;
  return inferred?.transfer === undefined ? { ...spec, connector: "none" } : spec;
}

/** Nothing for one that has its labels already; undefined for a pod that admission did not miss. */
export function missedActions(
  pod: Pod,
  { spec, workload }: Contract,
  facts: MissedFacts,
): readonly Action[] | undefined {
  if (!isMissed(pod, facts)) return undefined;
  const message = `pod ${keyOf(pod)} was created while no webhook answered; it is routed to, and serves as its template says`;
  const verdict = warned("PodMissed", message, { subject: keyOf(pod) });
  return labelPod(pod, { workload, spec: nativeSpec(spec, pod, facts.devices) }).map((action) => ({
    ...action,
    verdict,
    about: [workload],
  }));
}
