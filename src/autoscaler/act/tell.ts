/**
 * What people are told: annotations on the workload, and the words of an Event. The annotations say numbers of instances
 * and codes of reasons, and none of the figures behind them, which change with every look: those are on the metrics.
 */
import { annotationOf, type Workload } from "../../kinds/kube.ts";
import { AUTOSCALING_STATUS } from "../../kinds/names.ts";
import { changed, type Verdict } from "../../kinds/verdict.ts";
import type { Annotations } from "../../workload/draining.ts";
import type { WorkloadDecision, WorkloadSeen } from "../group.ts";
import { reasonOf } from "../reason.ts";

/** A number that goes to and fro must not make a write of every look. */
const AGAIN_MS = 30_000;

/** The annotations as they should be; null for none. */
export function answersOf(
  { scaling }: WorkloadSeen,
  decision: WorkloadDecision,
  { draining, verdicts }: { readonly draining: number; readonly verdicts: readonly Verdict[] },
): Annotations {
  if (scaling.mode === "off") return { [AUTOSCALING_STATUS.recommendation]: null, [AUTOSCALING_STATUS.status]: null };
  const why = verdicts.at(-1)?.reason ?? reasonOf(decision);
  const status = {
    mode: scaling.mode,
    desired: decision.to,
    ...(why === undefined ? {} : { why }),
    ...(decision.frozen === undefined ? {} : { frozen: decision.frozen }),
    ...(draining === 0 ? {} : { draining }),
  };
  return {
    [AUTOSCALING_STATUS.recommendation]: String(decision.recommended),
    [AUTOSCALING_STATUS.status]: JSON.stringify(status),
  };
}

/** Those of the annotations that are not as they should be; undefined where all are, or were written a moment ago. */
export function untold(
  workload: Workload,
  answers: Annotations,
  { toldAt, now }: { readonly toldAt: number | undefined; readonly now: number },
): Annotations | undefined {
  const different = Object.entries(answers).filter(([key, value]) => (annotationOf(workload, key) ?? null) !== value);
  if (different.length === 0 || (toldAt !== undefined && now - toldAt < AGAIN_MS)) return undefined;
  return Object.fromEntries(different);
}

interface Change {
  readonly from: number;
  readonly to: number;
  readonly ends: readonly string[];
}

/** For the Event of a change: from the demand to the number. */
export function changeVerdict(decision: WorkloadDecision, { from, to, ends }: Change): Verdict {
  const late = ends.filter((end) => end === "late").length;
  const cut = late === 0 ? "" : `; ${late} had requests left when the time to drain was over`;
  const chain = decision.chain.map(({ message }) => message).join(" -> ");
  const message = `${from} to ${to} instances${chain === "" ? "" : `: ${chain}`}${cut}`;
  const rest = { subject: decision.workload, numbers: { from, to } };
  return to > from ? changed("ScaledOut", message, rest) : changed("ScaledIn", message, rest);
}
