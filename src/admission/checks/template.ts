/** Checks of the pod template itself against the labels and the scheduler that the workload declares. */
import { labelOf } from "../../kinds/kube.ts";
import { ANNOTATION } from "../../kinds/names.ts";
import { denied, warned } from "../../kinds/verdict.ts";
import { serviceLabels } from "../stages/scheduling.ts";
import type { Check } from "./check.ts";

/** Labels that the user wrote into the template select pods already: they cannot mean something else. */
const templateLabels: Check = ({ spec, template }) =>
  Object.entries(serviceLabels(spec)).flatMap(([key, value]) => {
    const found = labelOf(template, key);
    if (found === undefined || found === value) return [];
    return [
      denied("InvalidLabel", `the pod template has ${key}: "${found}", the workload "${value}"`, { subject: key }),
    ];
  });

const scheduler: Check = ({ spec, template }) => {
  const name = template.spec.schedulerName ?? "default-scheduler";
  const wanted = { keep: name, volcano: "volcano", default: "default-scheduler" }[spec.scheduler];
  if (name === wanted || name === "default-scheduler") return [];
  return [
    warned(
      "SchedulerContradict",
      `${ANNOTATION.scheduler} is ${spec.scheduler}, but the template names ${name}, which stands`,
    ),
  ];
};

export const TEMPLATE_CHECKS: readonly Check[] = [templateLabels, scheduler];
