/**
 * Admission: `inject(strip(object, recorded plan))`.
 *
 * From one workload or Pod, its older self and a snapshot of the cluster it decides what the object becomes and why. It
 * never calls anything, never reads a clock, and gives the same answer for a dry run. What the user wrote wins; what it
 * added is recorded on workloads, replayed while the user's part is unchanged, and can be taken out again.
 */
import { entry, type KubeObject, type Namespace, type StringMap } from "../kinds/kube.ts";
import { AUTOSCALING, LABEL, STATUS } from "../kinds/names.ts";
import { changed, isDenied, kept, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { isRollout, leavesRollout } from "../workload/creation.ts";
import { workloadSpec } from "../workload/decode.ts";
import { scalingOf } from "../workload/scaling-decode.ts";
import type { ScalingSpec } from "../workload/scaling.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { strayKeys, unusedKeys } from "../workload/stray.ts";
import { ADMITTED_KINDS, templateOf } from "../workload/template.ts";
import { applyAll, type Change } from "./change.ts";
import { checkObject } from "./checks.ts";
import { policyDenials } from "./claims.ts";
import { foreignOnWorkload } from "./foreign.ts";
import { checkGroup, partners } from "./group.ts";
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
import {
  annotationsFull,
  asWarning,
  leave,
  namespaceOf,
  notOptedIn,
  type AdmitContext,
  type AdmitResult,
} from "./result.ts";
import { liveReplicas, REPLICAS_PATH, replicasKept, replicasOf, withReplicas } from "./replicas.ts";
import { checkScaling } from "./scaling.ts";
import { runStages, type Planning } from "./stages.ts";
import { equal, type Path } from "./value.ts";

export { admitPod } from "./pod.ts";
export type { AdmitContext, AdmitResult } from "./result.ts";

/** Where the objects of one admission stand. */
interface Case {
  readonly object: KubeObject;
  readonly stripped: KubeObject;
  readonly hash: string;
  /** The plan that the stored object carries: the only one that may be replayed. */
  readonly recorded: PlanRecord | undefined;
  readonly previous: KubeObject | undefined;
  readonly touched: readonly Path[];
}

const without = (object: KubeObject, records: readonly (PlanRecord | undefined)[]): KubeObject =>
  records.reduce<KubeObject>((all, record) => (record === undefined ? all : unplan(all, record)), object);

/** The object as it was before Tandem, by the plan it carries. Without one it is returned as it is. */
export const strip = (object: KubeObject): KubeObject => without(object, [recordOf(object)]);

function caseOf(object: KubeObject, previous: KubeObject | undefined): Case {
  const recorded = previous === undefined ? undefined : recordOf(previous);
  // A replaced object may have lost its own record, an edited one may carry another: both are taken out. Nearly always
  // they are one and the same, and reverting it twice would cost as much again.
  const same = previous !== undefined && planTextOf(previous) === planTextOf(object);
  const records = same ? [recorded] : [recordOf(object), recorded];
  const stripped = without(object, records);
  const hash = hashOf(stripped);
  return {
    object,
    stripped,
    hash,
    recorded,
    previous,
    touched: [RECORD_PATH, ...records.flatMap((record) => record?.changes.map(({ path }) => path) ?? [])],
  };
}

/**
 * True where a write only takes out what Tandem injected. Whoever may write the object can call himself by any field
 * manager, so the name alone lets nothing through.
 */
export const letsGo = (object: KubeObject, previous: KubeObject | undefined): boolean =>
  previous !== undefined &&
  planTextOf(object) === undefined &&
  hashOf(object) === hashOf(strip(previous)) &&
  replicasOf(object) <= replicasOf(previous);

const planTextOf = (object: KubeObject): string | undefined => entry(object.metadata.annotations, STATUS.plan);

/** The user's part is as stored, so that an old mistake must not stop the system's own updates. */
const isUnchanged = ({ stripped, hash, previous }: Case): boolean =>
  previous !== undefined &&
  hashOf(strip(previous)) === hash &&
  replicasOf(stripped) <= replicasOf(previous) &&
  equal(scalingKeys(previous), scalingKeys(stripped));

/** No part of the hash: what is said of replicas changes no plan. */
const scalingKeys = ({ metadata: { annotations } }: KubeObject): StringMap =>
  Object.fromEntries(Object.values(AUTOSCALING).map((key) => [key, entry(annotations, key) ?? ""]));

/** Admits a Deployment or StatefulSet; other kinds pass as they are. */
export function admitObject(object: KubeObject, context: AdmitContext): AdmitResult {
  const result = admitted(object, context);
  if (entry(object.metadata.labels, LABEL.model) === undefined) return result;
  const foreign = foreignOnWorkload(object, context.previous, result.object);
  return foreign.length === 0 ? result : { ...result, verdicts: [...result.verdicts, ...foreign] };
}

function admitted(object: KubeObject, context: AdmitContext): AdmitResult {
  if (!ADMITTED_KINDS.includes(object.kind))
    return leave(object, [skipped("NotOurs", `${object.kind} is not changed by admission`)]);
  if ((object.metadata.deletionTimestamp ?? undefined) !== undefined)
    return leave(object, [skipped("NotOurs", "the object is being deleted")]);
  const namespace = namespaceOf(object, context.snapshot);
  const closed = notOptedIn(object, context, namespace);
  if (closed !== undefined) return leave(object, [closed]);
  const { at, spec, scaling, verdicts } = withLiveReplicas(caseOf(object, context.previous), context, namespace);
  return spec === undefined || scaling === undefined
    ? undecoded(at, verdicts)
    : planned(at, { ...context, spec, scaling, namespace }, verdicts);
}

/** What the keys of an object come to. */
interface Contract {
  readonly spec?: WorkloadSpec;
  readonly scaling?: ScalingSpec;
  readonly verdicts: readonly Verdict[];
}

function contractOf(stripped: KubeObject, { settings }: AdmitContext, namespace: Namespace | undefined): Contract {
  const { spec, verdicts } = workloadSpec(stripped, { devices: configuredDevices(settings), namespace });
  const { scaling, verdicts: told } = spec === undefined ? { verdicts: [] } : scalingOf(stripped, spec, namespace);
  return {
    ...(spec === undefined ? {} : { spec }),
    ...(scaling === undefined ? {} : { scaling }),
    verdicts: [...verdicts, ...told, ...strayKeys(stripped, settings.target === "pod")],
  };
}

/** The case with its contract; where autoscaling sets replicas, with those that live, as far as an update brings others. */
function withLiveReplicas(
  at: Case,
  context: AdmitContext,
  namespace: Namespace | undefined,
): Contract & { readonly at: Case } {
  const contract = contractOf(at.stripped, context, namespace);
  const { spec, scaling } = contract;
  if (spec === undefined || scaling === undefined) return { at, ...contract };
  const live = liveReplicas(at.stripped, at.previous, { spec, scaling });
  if (live === undefined) return { at, ...contract };
  const stripped = withReplicas(at.stripped, live);
  const { verdicts, ...rest } = contractOf(stripped, context, namespace);
  return {
    at: { ...at, stripped, touched: [...at.touched, REPLICAS_PATH] },
    ...rest,
    verdicts: [...verdicts, replicasKept(at.stripped, live, scaling)],
  };
}

/** Denied, or not ours: then nothing of ours may stay. */
function undecoded(at: Case, verdicts: readonly Verdict[]): AdmitResult {
  if (verdicts.some(isDenied)) return refused(at, verdicts);
  if (at.stripped === at.object) return leave(at.object, verdicts);
  return leave(at.stripped, [changed("Stripped", "what Tandem injected was taken out"), ...verdicts], at.touched);
}

/** A denial; over an unchanged object a warning, so that controllers can go on writing what is stored already. */
function refused(at: Case, verdicts: readonly Verdict[]): AdmitResult {
  if (!isUnchanged(at)) return leave(at.object, verdicts);
  return replayed(at, verdicts.map(asWarning));
}

function planned(at: Case, planning: Planning, decoded: readonly Verdict[]): AdmitResult {
  const { spec } = planning;
  const policy = policyDenials(at.stripped, planning);
  const verdicts = [...decoded, ...policy, ...objections(at, planning)];
  if (policy.length > 0) return refused(at, verdicts);
  if (spec.mode !== "manage") return observed(at, planning, verdicts);
  if (verdicts.some(isDenied)) return refused(at, verdicts);
  if (at.recorded?.hash === at.hash && !spec.planLatest) return replayed(at, verdicts);
  return injected(at, planning, verdicts);
}

/** What speaks against the object itself, and against it beside the others of its group. */
function objections(at: Case, planning: Planning): readonly Verdict[] {
  if (planning.spec.mode === "route") return [...unusedKeys(at.stripped), ...checkScaling(at.stripped, planning)];
  const others = partners(planning);
  return [...checkObject(at.stripped, planning, others), ...checkGroup(at.stripped, planning, others)];
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
  // Steps that the user gave meanwhile, or another strategy, are no part of the hash, and not ours to complete.
  const changes = leavesRollout(at.stripped)
    ? at.recorded.changes
    : at.recorded.changes.filter(({ path }) => !isRollout(path));
  const object = recorded(at.stripped, at.hash, changes, at.recorded.version);
  return leave(object, [kept("PlanReplayed", "the user's part is unchanged"), ...verdicts], at.touched);
}

function injected(at: Case, planning: Planning, verdicts: readonly Verdict[]): AdmitResult {
  if (planning.settings.target === "pod")
    return leave(at.stripped, [...verdicts, ...podTarget(at.stripped)], at.touched);
  const run = runStages(at.stripped, "workload", planning);
  const object = recorded(at.stripped, at.hash, run.changes, PROFILE_VERSION);
  if (!isKept(object)) return leave(at.stripped, [...verdicts, annotationsFull], at.touched);
  return leave(object, [...verdicts, ...run.verdicts], [...at.touched, ...run.changes.map(({ path }) => path)]);
}

/** What admission adds must never make a legal object one that is refused, nor one whose plan cannot be read again. */
const isKept = (object: KubeObject): boolean =>
  isStorable(object) &&
  (entry(object.metadata.annotations, STATUS.plan) === undefined || recordOf(object) !== undefined);

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
