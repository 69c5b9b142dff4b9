/**
 * What admission did with an object, stage by stage: the rows of `tandem admit -o explain`, and the same in one line for
 * an Event and for the audit log. Stages that had no say are named, too, with the reason why.
 */
import { annotationOf, type KubeObject } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { allowed, isDenied, isWarned, kept, skipped, type Outcome, type Verdict } from "../kinds/verdict.ts";
import type { AdmitResult } from "./result.ts";
import { STAGES } from "./stages.ts";

/** The verdicts of an admission, completed by those stages of its mounting point that none of them speaks of. */
export function explain({ object, verdicts }: AdmitResult): readonly Verdict[] {
  if (!verdicts.some(({ reason }) => reason === "Decoded")) return verdicts;
  const told = new Set(verdicts.map(({ subject }) => subject));
  const silent = STAGES.filter(
    ({ name }, index) => !told.has(name) && STAGES.findIndex((stage) => stage.name === name) === index,
  );
  return [...verdicts, ...silent.map((stage) => ({ ...why(stage, object, verdicts), subject: stage.name }))];
}

type Stage = (typeof STAGES)[number];

/** The first of these that holds: denied, nothing injected at all, replayed, or the other mounting point's part. */
function why(stage: Stage, { kind }: KubeObject, verdicts: readonly Verdict[]): Verdict {
  const has = (reason: Verdict["reason"]): boolean => verdicts.some((verdict) => verdict.reason === reason);
  if (verdicts.some(isDenied)) return skipped("StageNothingToDo", "not run: the object is denied");
  if (has("ModeRoute")) return skipped("ModeRoute", "nothing is injected in this mode");
  const here = kind === "Pod" ? stage.pod : stage.workload;
  if (here === undefined)
    return skipped("StageNothingToDo", kind === "Pod" ? "done on the workload" : "done on its Pods, at their creation");
  if (has("PlanReplayed")) return kept("PlanReplayed", "as the recorded plan has it");
  return skipped("StageNothingToDo", "not run here");
}

const OUTCOMES: readonly Outcome[] = ["changed", "kept", "skipped"];

const stageNames: ReadonlySet<string> = new Set(STAGES.map(({ name }) => name));

/** One line: which stages did what, and what there is to complain of. */
export function summary(result: AdmitResult): Verdict {
  const rows = explain(result);
  const stages = OUTCOMES.flatMap((outcome) => {
    const those = rows.filter((row) => row.outcome === outcome && stageNames.has(row.subject ?? ""));
    const names = [...new Set(those.map(({ subject }) => subject ?? ""))];
    return names.length === 0 ? [] : [`${outcome}: ${names.join(", ")}`];
  });
  const complaints = [...new Set(rows.filter((row) => isDenied(row) || isWarned(row)).map(({ reason }) => reason))];
  const all = complaints.length === 0 ? stages : [...stages, `complaints: ${complaints.join(", ")}`];
  return allowed("Admitted", all.join("; ") || "nothing to do");
}

/** Longest value of an audit annotation; the audit log keeps every request. */
const LONGEST = 1024;

/**
 * `auditAnnotations` of an AdmissionReview: `reasons`, each as outcome/code, and `plan`, hash and profile version of the
 * recorded plan. The API server puts the webhook's name before the keys.
 */
export function auditAnnotations({ object, verdicts }: AdmitResult): Readonly<Record<string, string>> {
  const reasons = [...new Set(verdicts.map(({ outcome, reason }) => `${outcome}/${reason}`))].join(",");
  // Read off the beginning of the record: parsing it again would double the work of a review.
  const [, version, hash] = PLAN.exec(annotationOf(object, STATUS.plan) ?? "") ?? [];
  return {
    ...(reasons === "" ? {} : { reasons: reasons.slice(0, LONGEST) }),
    ...(hash === undefined ? {} : { plan: `${hash} v${version ?? ""}` }),
  };
}

/** How `record.ts` writes a plan. */
const PLAN = /^\{"version":(\d{1,9}),"hash":"([0-9a-f]{16})"/;
