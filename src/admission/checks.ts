/**
 * Checks of one object: what the user wrote must not contradict itself. Each denies, and names the place, what stands
 * there and what is accepted. Each file of `checks/` holds those of one subject. Checks against other workloads are in
 * `group.ts`.
 */
import type { KubeObject } from "../kinds/kube.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { infer } from "../workload/infer.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { templatesOf, type FoundTemplate } from "../workload/template.ts";
import type { Check } from "./checks/check.ts";
import { DEVICE_CHECKS } from "./checks/devices.ts";
import { ENGINE_CHECKS } from "./checks/engine.ts";
import { GANG_CHECKS } from "./checks/gang.ts";
import { PROBE_CHECKS } from "./checks/probes.ts";
import { INSTANCE_CHECKS } from "./checks/instances.ts";
import { TEMPLATE_CHECKS } from "./checks/template.ts";
import { TRANSFER_CHECKS } from "./checks/transfer.ts";
import { specOf, type Planning } from "./stages.ts";

const CHECKS: readonly Check[] = [
  ...TEMPLATE_CHECKS,
  ...DEVICE_CHECKS,
  ...ENGINE_CHECKS,
  ...TRANSFER_CHECKS,
  ...PROBE_CHECKS,
  ...GANG_CHECKS,
  ...INSTANCE_CHECKS,
];

/**
 * Checks a decoded object, without what Tandem injected, knowing the other workloads of its group: each of its templates,
 * with what holds for all of them told once.
 */
export function checkObject(
  object: KubeObject,
  planning: Planning,
  others: readonly WorkloadSpec[] = [],
): readonly Verdict[] {
  const found = templatesOf(object).flatMap((template, index) =>
    checkTemplate(object, { ...planning, template, index }, others),
  );
  return [...new Map(found.map((verdict) => [verdict.message, verdict])).values()];
}

type Part = Planning & { readonly template: FoundTemplate; readonly index: number };

function checkTemplate(object: KubeObject, part: Part, others: readonly WorkloadSpec[]): readonly Verdict[] {
  const { snapshot, settings, scaling } = part;
  const { template } = part.template;
  const spec = part.index === 0 ? part.spec : specOf(object, part.template, part);
  const devices = configuredDevices(settings);
  const inferred = infer(template, { container: spec.container, engine: spec.engine, devices });
  if (inferred === undefined) return [];
  return CHECKS.flatMap((check) =>
    check({ spec, scaling, template, inferred, object, snapshot, others, target: settings.target }),
  );
}
