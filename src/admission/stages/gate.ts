/**
 * Stage gang on the Pod: the gate behind which it waits until there is room for its whole gang; and once the cell stands,
 * no gate, but the cell's domain.
 *
 * The controller lifts the gate. A pod that nobody would make anew gets none: it could not be given back. Pods of a cell
 * that stands must not wait for a controller, which may be away while the cell serves. They name the record they went by:
 * of a cell that falls in that moment the controller knows them by it.
 */
import { controllerOf, isObject, labelOf, type KubeObject } from "../../kinds/kube.ts";
import { GATE, OWNERSHIP, STATUS, VOLCANO } from "../../kinds/names.ts";
import { changed } from "../../kinds/verdict.ts";
import { waitsForGang } from "../../gang/waiting.ts";
import { confined } from "../../topology/confine.ts";
import { readExpression, type DomainExpression } from "../../topology/expression.ts";
import { cellOf, standingName } from "../../workload/cell.ts";
import { force, item, set } from "../change.ts";
import { at, nothing, type StageContext, type StageResult } from "../stage.ts";
import { effectiveScheduler } from "./gang.ts";

export function gate(context: StageContext): StageResult {
  const scheduler = effectiveScheduler(context);
  if (context.settings.gates === "off") return nothing("admission.gates is off");
  if (!waitsForGang(context.spec, scheduler)) return nothing(`no gang to wait for under ${scheduler}`);
  if (controllerOf(context.object) === undefined && context.sample !== true)
    return nothing("nobody would make this pod anew");
  // Its PodGroup is named by the controller, whether the cell stands or not.
  const record = scheduler === VOLCANO.schedulerName ? undefined : recordOf(context);
  if (record !== undefined) return follow(context, record);
  return {
    changes: [item(at(context, "spec", "schedulingGates"), { name: GATE.gang })],
    verdict: changed("GangInjected", `waits behind ${GATE.gang} until its gang has room`),
  };
}

/** The record of the controller that the cell stands. */
const recordOf = ({ spec, snapshot }: StageContext): KubeObject | undefined =>
  snapshot.configMaps.find(
    (found) =>
      found.metadata.name === standingName(cellOf(spec)) &&
      found.metadata.namespace === spec.namespace &&
      labelOf(found, OWNERSHIP.label) === OWNERSHIP.value,
  );

function follow(context: StageContext, record: KubeObject): StageResult {
  const expression = domainOf(record);
  const { topology, skip } = context.spec;
  const follows = set(at(context, "metadata", "annotations", STATUS.follows), record.metadata.uid ?? "");
  if (expression === undefined || topology === "off" || skip.includes("topology"))
    return { changes: [follows], verdict: changed("GangInjected", "the cell stands") };
  const affinity = confined(context.template.spec.affinity, expression, topology === "required");
  return {
    changes: [follows, force(at(context, "spec", "affinity"), affinity)],
    verdict: changed(
      "GangInjected",
      `the cell stands; ${topology} in ${expression.key} ${expression.values.join(", ")}`,
    ),
  };
}

function domainOf(record: KubeObject): DomainExpression | undefined {
  const data = record["data"];
  return isObject(data) ? readExpression(data["in"]) : undefined;
}
