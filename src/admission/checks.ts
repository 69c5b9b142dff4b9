/**
 * Checks of one object: what the user wrote must not contradict itself. Each denies, and names the place, what stands
 * there and what is accepted. Each file of `checks/` holds those of one subject. Checks against other workloads are in
 * `group.ts`.
 */
import type { PodTemplate } from "../kinds/kube.ts";
import type { Verdict } from "../kinds/verdict.ts";
import type { Devices } from "../profiles/devices.ts";
import { infer } from "../workload/infer.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Check } from "./checks/check.ts";
import { DEVICE_CHECKS } from "./checks/devices.ts";
import { ENGINE_CHECKS } from "./checks/engine.ts";
import { TEMPLATE_CHECKS } from "./checks/template.ts";

const CHECKS: readonly Check[] = [...TEMPLATE_CHECKS, ...DEVICE_CHECKS, ...ENGINE_CHECKS];

/** Checks a decoded object, without what Tandem injected. */
export function checkObject(spec: WorkloadSpec, template: PodTemplate, devices: Devices): readonly Verdict[] {
  const inferred = infer(template, { container: spec.container, engine: spec.engine, devices });
  return inferred === undefined ? [] : CHECKS.flatMap((check) => check({ spec, template, inferred }));
}
