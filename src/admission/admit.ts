/**
 * Admission: `inject(strip(object, recorded plan))`.
 *
 * From one workload or Pod, its older self and a snapshot of the cluster it decides what the object becomes and why. It
 * never calls anything, never reads a clock, and gives the same answer for a dry run. What the user wrote wins; what it
 * added is recorded on workloads, replayed while the user's part is unchanged, and can be taken out again.
 */
import { controllerOf, entry, type KubeObject, type Namespace, type Pod, type Workload } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { changed, isDenied, kept, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { workloadSpec, type Decoded } from "../workload/decode.ts";
import { readIntent } from "../workload/intent.ts";
import { ADMITTED_KINDS, templateOf } from "../workload/template.ts";
import { applyAll, type Change } from "./change.ts";
import { checkObject } from "./checks.ts";
import { checkGroup } from "./group.ts";
import {
  hashOf,
  isBare,
  isStorable,
  PROFILE_VERSION,
  RECORD_PATH,
  recordOf,
  unplan,
  withRecord,
  type PlanRecord,
} from "./record.ts";
import type { Settings } from "./stage.ts";
import { replicasOf, runStages, type Planning } from "./stages.ts";
import type { Path } from "./value.ts";

export interface AdmitContext {
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
  /** The object as it is stored, on an update. */
  readonly previous?: KubeObject;
}

export interface AdmitResult {
  /** What is to be stored; the object itself where it is denied. */
  readonly object: KubeObject;
  readonly verdicts: readonly Verdict[];
  /** Every place that may differ from the object given. */
  readonly touched: readonly Path[];
}

/** Where the objects of one admission stand. */
interface Case {
  readonly object: KubeObject;
  readonly stripped: KubeObject;
  readonly hash: string;
  /** The plan that the stored object carries: the only one that may be replayed. */
  readonly recorded: PlanRecord | undefined;
  /** The user's part is as stored, so that an old mistake must not stop the system's own updates. */
  readonly unchanged: boolean;
  readonly touched: readonly Path[];
}

const without = (object: KubeObject, records: readonly (PlanRecord | undefined)[]): KubeObject =>
  records.reduce<KubeObject>((all, record) => (record === undefined ? all : unplan(all, record)), object);

/** The object as it was before Tandem, by the plan it carries. Without one it is returned as it is. */
export const strip = (object: KubeObject): KubeObject => without(object, [recordOf(object)]);

function caseOf(object: KubeObject, previous: KubeObject | undefined): Case {
  const recorded = previous === undefined ? undefined : recordOf(previous);
  // A replaced object may have lost its own record, an edited one may carry another: both are taken out.
  const records = [recordOf(object), recorded];
  const stripped = without(object, records);
  const hash = hashOf(stripped);
  return {
    object,
    stripped,
    hash,
    recorded,
    unchanged: previous !== undefined && isUnchanged(previous, { object, hash }),
    touched: [RECORD_PATH, ...records.flatMap((record) => record?.changes.map(({ path }) => path) ?? [])],
  };
}

const isUnchanged = (previous: KubeObject, now: { object: KubeObject; hash: string }): boolean =>
  hashOf(strip(previous)) === now.hash && replicasOf(now.object) <= replicasOf(previous);

const namespaceOf = (object: KubeObject, snapshot: ClusterSnapshot): Namespace | undefined =>
  snapshot.namespaces.find(({ metadata }) => metadata.name === (object.metadata.namespace ?? "default"));

const leave = (object: KubeObject, verdicts: readonly Verdict[], touched: readonly Path[] = []): AdmitResult => ({
  object,
  verdicts,
  touched,
});

/** Admits a Deployment or StatefulSet; other kinds pass as they are. */
export function admitObject(object: KubeObject, context: AdmitContext): AdmitResult {
  if (!ADMITTED_KINDS.includes(object.kind))
    return leave(object, [skipped("NotOurs", `${object.kind} is not changed by admission`)]);
  if ((object.metadata.deletionTimestamp ?? undefined) !== undefined)
    return leave(object, [skipped("NotOurs", "the object is being deleted")]);
  const at = caseOf(object, context.previous);
  const namespace = namespaceOf(object, context.snapshot);
  const decoded = workloadSpec(at.stripped, {
    devices: configuredDevices(context.settings),
    namespace,
  });
  return decoded.spec === undefined
    ? undecoded(at, decoded)
    : planned(at, { ...context, spec: decoded.spec, namespace }, decoded.verdicts);
}

/** Denied, or not ours: then nothing of ours may stay. */
function undecoded(at: Case, { verdicts }: Decoded): AdmitResult {
  if (verdicts.some(isDenied)) return refused(at, verdicts);
  if (at.stripped === at.object) return leave(at.object, verdicts);
  return leave(at.stripped, [changed("Stripped", "what Tandem injected was taken out"), ...verdicts], at.touched);
}

/** A denial; over an unchanged object a warning, so that controllers can go on writing what is stored already. */
function refused(at: Case, verdicts: readonly Verdict[]): AdmitResult {
  if (!at.unchanged) return leave(at.object, verdicts);
  return replayed(at, verdicts.map(asWarning));
}

const asWarning = (verdict: Verdict): Verdict => (isDenied(verdict) ? { ...verdict, outcome: "warned" } : verdict);

function planned(at: Case, planning: Planning, decoded: readonly Verdict[]): AdmitResult {
  const { spec } = planning;
  const found = templateOf(at.stripped);
  const checks =
    spec.mode === "route" || found === undefined
      ? []
      : checkObject(spec, found.template, configuredDevices(planning.settings));
  const verdicts = [...decoded, ...checks, ...(spec.mode === "route" ? [] : checkGroup(planning))];
  if (spec.mode !== "manage") return observed(at, planning, verdicts);
  if (verdicts.some(isDenied)) return refused(at, verdicts);
  if (at.recorded?.hash === at.hash && !spec.planLatest) return replayed(at, verdicts);
  return injected(at, planning, verdicts);
}

/** Modes that inject nothing: `observe` says what `manage` would have done, and denies nothing. */
function observed(at: Case, planning: Planning, verdicts: readonly Verdict[]): AdmitResult {
  const { mode } = planning.spec;
  const would = mode === "observe" ? runStages(at.stripped, "workload", planning).verdicts : [];
  const told = [skipped("ModeRoute", `mode ${mode}: nothing is injected`), ...verdicts.map(asWarning), ...would];
  return leave(at.stripped, told, at.touched);
}

function replayed(at: Case, verdicts: readonly Verdict[]): AdmitResult {
  if (at.recorded === undefined) return leave(at.stripped, verdicts, at.touched);
  const object = recorded(at.stripped, at.hash, at.recorded.changes, at.recorded.version);
  return leave(object, [kept("PlanReplayed", "the user's part is unchanged"), ...verdicts], at.touched);
}

function injected(at: Case, planning: Planning, verdicts: readonly Verdict[]): AdmitResult {
  if (planning.settings.target === "pod")
    return leave(at.stripped, [...verdicts, ...podTarget(at.stripped)], at.touched);
  const run = runStages(at.stripped, "workload", planning);
  const object = recorded(at.stripped, at.hash, run.changes, PROFILE_VERSION);
  if (!isKept(object)) return leave(at.stripped, [...verdicts, full], at.touched);
  return leave(object, [...verdicts, ...run.verdicts], [...at.touched, ...run.changes.map(({ path }) => path)]);
}

/** What admission adds must never make a legal object one that is refused, nor one whose plan cannot be read again. */
const isKept = (object: KubeObject): boolean =>
  isStorable(object) &&
  (entry(object.metadata.annotations, STATUS.plan) === undefined || recordOf(object) !== undefined);

const full = warned("AnnotationsFull", "there is no room for Tandem's annotations; nothing is injected");

/** The stripped object with changes done and recorded; without any, nothing is written at all. */
function recorded(stripped: KubeObject, hash: string, changes: readonly Change[], version: number): KubeObject {
  if (changes.length === 0) return stripped;
  return withRecord(applyAll(stripped, changes), { version, hash, bare: isBare(stripped), changes });
}

/** Pods are found by the labels of the template, and with this target nobody but the user writes there. */
function podTarget(object: KubeObject): Verdict[] {
  const labels = templateOf(object)?.template.metadata?.labels;
  const absent = [LABEL.model, LABEL.role].filter((key) => entry(labels, key) === undefined);
  const note = skipped("StageNothingToDo", "admission.target is pod: everything happens when Pods are created");
  if (absent.length === 0) return [note];
  return [note, warned("InvalidLabel", `admission.target is pod: the pod template must carry ${absent.join(" and ")}`)];
}

/** The workload that made a Pod, by its controller's name and the labels: a ReplicaSet is called after its Deployment. */
function ownerOf(pod: KubeObject, { workloads }: ClusterSnapshot): Workload | undefined {
  const owner = controllerOf(pod);
  const namespace = pod.metadata.namespace ?? "default";
  const model = entry(pod.metadata.labels, LABEL.model);
  const isOwner = ({ kind, metadata }: Workload): boolean => {
    const name = metadata.name ?? "";
    if (owner?.kind === "ReplicaSet")
      return kind === "Deployment" && owner.name.slice(0, owner.name.lastIndexOf("-")) === name;
    return owner?.kind === kind && owner.name === name;
  };
  return workloads.find(
    (one) =>
      isOwner(one) &&
      (one.metadata.namespace ?? "default") === namespace &&
      entry(one.metadata.labels, LABEL.model) === model,
  );
}

/**
 * Admits a Pod at its creation. The Pod brings its contract along: labels and the carried intent of its template. The
 * owner in the snapshot adds what rolls nothing; an empty snapshot is enough. A Pod that a controller made is never
 * denied: it then runs as its template says, and the verdict is a warning.
 */
export function admitPod(pod: Pod, context: AdmitContext): AdmitResult {
  const namespace = namespaceOf(pod, context.snapshot);
  const owner = ownerOf(pod, context.snapshot);
  const alone = context.settings.target === "pod";
  const { spec, verdicts } = workloadSpec(pod, {
    devices: configuredDevices(context.settings),
    managePods: alone,
    namespace,
    inherited: owner?.metadata.annotations,
  });
  if (spec === undefined) return leave(pod, mild(pod, verdicts));
  if (spec.mode !== "manage")
    return leave(pod, [skipped("ModeRoute", `mode ${spec.mode}: nothing is injected`), ...verdicts]);
  const all = [...verdicts, ...checkObject(spec, pod, configuredDevices(context.settings))];
  if (all.some(isDenied)) return leave(pod, mild(pod, all));
  const mount = alone && !carries(pod) ? "pod-alone" : "pod";
  const run = runStages(pod, mount, { ...context, spec, namespace });
  if (!isStorable(run.object)) return leave(pod, [...all, full]);
  return leave(
    run.object,
    [...all, ...run.verdicts],
    run.changes.map(({ path }) => path),
  );
}

/** Its workload's template was admitted: the workload's part is done. */
const carries = (pod: Pod): boolean => readIntent(entry(pod.metadata.annotations, STATUS.intent)) !== undefined;

const mild = (pod: Pod, verdicts: readonly Verdict[]): readonly Verdict[] =>
  controllerOf(pod) === undefined ? verdicts : verdicts.map(asWarning);
