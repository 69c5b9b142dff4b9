/** Admission of a Pod at its creation: what belongs to one incarnation, or would be torn by `kubectl apply`. */
import { controllerOf, entry, type KubeObject, type Pod, type Workload } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { isDenied, skipped, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import { readIntent } from "../workload/intent.ts";
import { made } from "../workload/owner.ts";
import type { Mode } from "../workload/spec.ts";
import { strayKeys } from "../workload/stray.ts";
import { checkObject } from "./checks.ts";
import { cleanPod } from "./foreign.ts";
import { checkPolicy } from "./policy.ts";
import { isStorable } from "./record.ts";
import {
  annotationsFull,
  asWarning,
  leave,
  namespaceOf,
  notOptedIn,
  type AdmitContext,
  type AdmitResult,
} from "./result.ts";
import { runStages, type Planning } from "./stages.ts";

/** The workload that made a Pod, where both are of one service. */
function ownerOf(pod: KubeObject, { workloads }: ClusterSnapshot): Workload | undefined {
  const namespace = pod.metadata.namespace ?? "default";
  const model = entry(pod.metadata.labels, LABEL.model);
  return workloads.find(
    (one) =>
      made(one, pod) &&
      (one.metadata.namespace ?? "default") === namespace &&
      entry(one.metadata.labels, LABEL.model) === model,
  );
}

/**
 * Admits a Pod at its creation. The Pod brings its contract along: labels and the carried intent of its template. The
 * owner in the snapshot adds what rolls nothing; an empty snapshot is enough. A Pod that a controller made is never
 * denied: it then runs as its template says, and the verdict is a warning. The operator's policy alone denies one whose
 * workload is not known, or that a person made: nothing has been judged by it yet.
 */
export function admitPod(pod: Pod, context: AdmitContext): AdmitResult {
  const namespace = namespaceOf(pod, context.snapshot);
  const closed = notOptedIn(pod, context, namespace);
  if (closed !== undefined) return leave(pod, [closed]);
  const owner = ownerOf(pod, context.snapshot);
  const { spec, verdicts } = workloadSpec(pod, {
    devices: configuredDevices(context.settings),
    managePods: context.settings.target === "pod",
    namespace,
    inherited: owner?.metadata.annotations,
  });
  if (spec === undefined) return leave(pod, mild(pod, [...verdicts, ...strayKeys(pod)]));
  const planning: Planning = { ...context, spec, namespace };
  const policy = checkPolicy({ ...planning, object: pod, template: pod, workload: owner });
  // A reference to an owner is only a claim where a person writes it: it must not stand for the workload's judgement.
  const isJudged = owner !== undefined && context.byPerson !== true;
  const told = [...verdicts, ...(isJudged ? policy.map(asWarning) : policy)];
  if (told.some(isDenied)) return leave(pod, told);
  return spec.mode === "manage" ? managed(pod, planning, told) : unmanaged(pod, spec.mode, told);
}

function unmanaged(given: Pod, mode: Mode, told: readonly Verdict[]): AdmitResult {
  const { pod, verdicts, touched } = cleanPod(given, false);
  return leave(pod, [skipped("ModeRoute", `mode ${mode}: nothing is injected`), ...told, ...verdicts], touched);
}

function managed(given: Pod, planning: Planning, told: readonly Verdict[]): AdmitResult {
  const { pod, verdicts, touched } = cleanPod(given, true);
  const all = [...told, ...verdicts, ...checkObject(pod, planning)];
  if (all.some(isDenied)) return leave(given, mild(given, all));
  const mount = planning.settings.target === "pod" && !carries(pod) ? "pod-alone" : "pod";
  const run = runStages(pod, mount, planning);
  if (!isStorable(run.object)) return leave(given, [...all, annotationsFull]);
  return leave(run.object, [...all, ...run.verdicts], [...touched, ...run.changes.map(({ path }) => path)]);
}

/** Its workload's template was admitted: the workload's part is done. */
const carries = (pod: Pod): boolean => readIntent(entry(pod.metadata.annotations, STATUS.intent)) !== undefined;

const mild = (pod: Pod, verdicts: readonly Verdict[]): readonly Verdict[] =>
  controllerOf(pod) === undefined ? verdicts : verdicts.map(asWarning);
