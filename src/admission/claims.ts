/**
 * Everything that a workload asks for, as claims that the policy judges: the workload itself, and each Pod that its
 * templates make. Those bring keys, labels and requests of their own, and nobody judges them again: a Pod of a known
 * workload that its controller creates is never denied.
 */
import type { KubeObject, Pod, Workload } from "../kinds/kube.ts";
import { LABEL, LWS } from "../kinds/names.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import { groupSize } from "../workload/instance.ts";
import { podFromTemplate, templateOf, templatesOf, type FoundTemplate } from "../workload/template.ts";
import type { Claim } from "./asks.ts";
import { checkPolicy } from "./policy.ts";
import type { Planning } from "./stages.ts";

/** Denials of what a workload or its Pods may not ask for, each once. `stripped` is without what Tandem injected. */
export function policyDenials(stripped: KubeObject, planning: Planning): readonly Verdict[] {
  const own = templateOf(stripped);
  if (planning.settings.policy.length === 0 || own === undefined) return [];
  const pods = templatesOf(stripped).flatMap((found) => podClaim(stripped, found, planning));
  const denials = [{ ...planning, object: stripped, template: own.template }, ...pods].flatMap(checkPolicy);
  return [...new Map(denials.map((denial) => [denial.message, denial])).values()];
}

/** The Pod as its template makes it; none where it would not be Tandem's. */
function podClaim(workload: KubeObject, found: FoundTemplate, planning: Planning): Claim[] {
  const pod = labelled(podFromTemplate(workload as Workload, workload.metadata.name ?? "", found), workload);
  const { spec } = workloadSpec(pod, {
    devices: configuredDevices(planning.settings),
    // As its workload: without an intent it would count as only routed to, which asks for nothing.
    managePods: true,
    namespace: planning.namespace,
    inherited: workload.metadata.annotations,
  });
  return spec === undefined ? [] : [{ ...planning, spec, object: pod, template: pod, workload }];
}

const SERVICE = [LABEL.model, LABEL.role, LABEL.group, LABEL.cell];

/** With the labels of the service, which admission copies, and the size of the group, which LeaderWorkerSet writes. */
function labelled(pod: Pod, workload: KubeObject): Pod {
  const { labels, annotations } = pod.metadata;
  const service = Object.entries(workload.metadata.labels ?? {}).filter(([key]) => SERVICE.some((one) => one === key));
  const size = groupSize(workload);
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      labels: { ...Object.fromEntries(service), ...labels },
      annotations: { ...annotations, ...(size === undefined ? {} : { [LWS.size]: String(size) }) },
    },
  };
}
