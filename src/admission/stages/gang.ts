/**
 * Stage gang: the pods join the PodGroup of their cell, which the controller owns.
 *
 * Only where Volcano is the scheduler: nobody else reads these keys. The queue stands in the PodGroup, so that changing it
 * rolls nothing; only without a gang does Volcano take it from the pods, for the PodGroups it then makes itself.
 */
import { annotationOf } from "../../kinds/kube.ts";
import { VOLCANO } from "../../kinds/names.ts";
import { changed } from "../../kinds/verdict.ts";
import { holdsByInstance } from "../../gang/podgroup.ts";
import { cellObjectName, cellOf } from "../../workload/cell.ts";
import { set } from "../change.ts";
import { at, nothing, type StageContext, type StageResult } from "../stage.ts";
import { DEFAULT_SCHEDULER } from "./scheduling.ts";

/** The scheduler that the pods will have. */
export const effectiveScheduler = ({ template }: StageContext): string =>
  template.spec.schedulerName ?? DEFAULT_SCHEDULER;

export function gang(context: StageContext): StageResult {
  const scheduler = effectiveScheduler(context);
  if (scheduler !== VOLCANO.schedulerName) return nothing(`scheduler ${scheduler} reads no PodGroup of Volcano`);
  if (context.spec.gang.kind === "off") return alone(context);
  if (holdsByInstance(context.spec) && context.settings.gates === "off")
    return nothing("admission.gates is off: Volcano makes its own PodGroups");
  const name = cellObjectName(cellOf(context.spec));
  const other = annotationOf(context.template, VOLCANO.groupName);
  if (other !== undefined && other !== name) return nothing(`the template already joins PodGroup ${other}`);
  return {
    changes: [
      set(at(context, "metadata", "annotations", VOLCANO.groupName), name),
      set(at(context, "metadata", "annotations", VOLCANO.taskSpec), context.spec.role),
      // Label selectors of a PodGroup's subgroups read labels only.
      set(at(context, "metadata", "labels", VOLCANO.taskSpec), context.spec.role),
    ],
    verdict: changed("GangInjected", `pods join PodGroup ${name} as ${context.spec.role}`),
  };
}

/** No gang: Volcano makes a PodGroup for each ReplicaSet and reads its queue off the pods. */
function alone(context: StageContext): StageResult {
  const { queue } = context.spec;
  if (queue === "") return nothing("gang is off");
  return {
    changes: [set(at(context, "metadata", "annotations", VOLCANO.queueName), queue)],
    verdict: changed("GangInjected", `gang is off; Volcano's own PodGroups use queue ${queue}`),
  };
}
