/**
 * Live pods of `route` workloads: the labels that discovery looks for, without a rollout. Pods alone are patched.
 *
 * The keys written are named in an annotation of the pod, so that exactly these go again when the workload no longer
 * wants them. A label that the pod brought along is never changed.
 */
import { annotationOf, entry, keyOf, labelOf, type Pod, type Workload } from "../kinds/kube.ts";
import { ANNOTATION, LABEL, STATUS } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { changed, warned } from "../kinds/verdict.ts";
import { endpointFacts } from "../workload/endpoint.ts";
import { livePlace, spansPods, type Place } from "../workload/instance.ts";
import { made } from "../workload/owner.ts";
import { everyNodeServes, isEntry } from "../workload/serving.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Action } from "./action.ts";
import type { Acts, Contract, Contracts } from "./contracts.ts";

/** What is to be done about a pod of a managed workload; undefined where its labels are none of ours. */
export type Managed = (pod: Pod, owner: Contract) => readonly Action[] | undefined;

export function labelActions(
  pods: readonly Pod[],
  contracts: Contracts,
  acts: Acts,
  managed: Managed = () => undefined,
): readonly Action[] {
  const owners = Map.groupBy(contracts.all, ({ spec }) => spec.namespace);
  const decide = (pod: Pod, namespace: string): readonly Action[] => {
    const owner = owners.get(namespace)?.find((contract) => selects(contract, pod));
    if (owner !== undefined) return ownedActions(pod, owner, managed);
    return contracts.unclear.has(namespace) ? [] : unlabelPod(pod);
  };
  const actions = pods.flatMap((pod) => {
    const namespace = pod.metadata.namespace ?? "";
    if (pod.metadata.deletionTimestamp !== undefined || !acts(namespace)) return [];
    return contracts.guard("labels", pod, () => decide(pod, namespace));
  });
  // What is told of a workload is the same for all its pods.
  return [...new Map(actions.map((action) => [action.key, action])).values()];
}

/**
 * A pod of a time when its workload was only routed to keeps its labels: it serves until the rollout that manages the
 * workload has another one ready in its place. One that is only observed is not routed to.
 */
function ownedActions(pod: Pod, owner: Contract, managed: Managed): readonly Action[] {
  const { mode } = owner.spec;
  if (mode === "route") return [...labelPod(pod, owner), ...rankTold(pod, owner)];
  return mode === "observe" ? unlabelPod(pod) : (managed(pod, owner) ?? []);
}

/**
 * The workload selects the pod, and made it: selectors of two workloads may overlap, and a job's or anybody's pod may
 * carry the same labels. A workload without a selector would match every pod of its namespace.
 */
export const selects = ({ workload }: Contract, pod: Pod): boolean => hasSelected(workload, pod) && made(workload, pod);

/** A LeaderWorkerSet has no selector: it is known by the label it puts on its pods. */
const hasSelected = ({ kind, spec: { selector } }: Workload, pod: Pod): boolean =>
  kind === "LeaderWorkerSet" || (selector !== undefined && selectorMatches(selector, pod.metadata.labels));

/** The keys we wrote, as the pod's annotation tells. */
export const writtenLabels = (pod: Pod): readonly string[] =>
  (annotationOf(pod, STATUS.labels) ?? "").split(",").filter((key) => key !== "");

/**
 * The contract as far as this pod is known to fulfil it: one that may be any rank of an engine with one API server is
 * taken for one without. Requests to a rank that does not listen would fail; a request that goes elsewhere does not.
 */
const known = (spec: WorkloadSpec, place: Place | undefined): WorkloadSpec =>
  place === undefined && !everyNodeServes(spec) ? { ...spec, headless: true } : spec;

function rankTold(pod: Pod, { spec, workload }: Contract): Action[] {
  if (spec.headless === true || known(spec, livePlace(workload, spec, pod)).headless !== true) return [];
  const { name = "", uid = "" } = workload.metadata;
  const message =
    `only one of the pods that run one engine has an API server, and in mode route nobody says which of this ` +
    `${workload.kind}: none is routed to; give ${ANNOTATION.mode}=manage, or use a StatefulSet with ` +
    `${ANNOTATION.nodesPerInstance} or a LeaderWorkerSet`;
  const verdict = warned("RankUnknown", message, { subject: name });
  return [{ do: "tell", key: `rank-unknown/${uid}`, verdict, about: [workload] }];
}

const placeLabels = (spec: WorkloadSpec, place: Place | undefined): Readonly<Record<string, string>> => ({
  ...(place === undefined || place.instance === "" ? {} : { [LABEL.instance]: place.instance }),
  ...(place === undefined || !spansPods(spec) ? {} : { [LABEL.nodeRank]: String(place.rank) }),
});

const wantedLabels = (spec: WorkloadSpec, place: Place | undefined): Readonly<Record<string, string>> => ({
  [LABEL.model]: spec.model,
  [LABEL.role]: spec.role,
  [LABEL.group]: spec.group,
  [LABEL.cell]: spec.cell,
  ...(isEntry(spec, place?.rank ?? 0) ? { [LABEL.entry]: "true" } : {}),
  ...placeLabels(spec, place),
});

/** Writes what is missing or outdated; nothing where all is there. */
export function labelPod(pod: Pod, { workload, ...contract }: Contract): Action[] {
  const place = livePlace(workload, contract.spec, pod);
  const spec = known(contract.spec, place);
  const before = new Set(writtenLabels(pod));
  const wanted = wantedLabels(spec, place);
  const ours = Object.keys(wanted).filter((key) => before.has(key) || labelOf(pod, key) === undefined);
  const outdated = [...before].filter((key) => !Object.hasOwn(wanted, key) && isOurs(key));
  const labels: Record<string, string | null> = {
    ...Object.fromEntries(ours.map((key) => [key, wanted[key] ?? ""])),
    ...Object.fromEntries(outdated.map((key) => [key, null])),
  };
  const annotations = { [STATUS.labels]: ours.toSorted().join(","), [STATUS.endpoint]: endpointFacts(spec) };
  if (isAlready(pod, labels, annotations)) return [];
  return [patchPod(pod, { labels, annotations }, "PodLabelled")];
}

const isAlready = (
  pod: Pod,
  labels: Readonly<Record<string, string | null>>,
  annotations: Readonly<Record<string, string>>,
): boolean =>
  Object.entries(labels).every(([key, value]) => (entry(pod.metadata.labels, key) ?? null) === value) &&
  Object.entries(annotations).every(([key, value]) => annotationOf(pod, key) === value);

/** An annotation that somebody else wrote must not make us remove other labels than our own. */
const OURS: ReadonlySet<string> = new Set(Object.values(LABEL));
const isOurs = (key: string): boolean => OURS.has(key);

/** Takes off what was written to a pod; nothing where nothing was. */
export function unlabelPod(pod: Pod): Action[] {
  if (annotationOf(pod, STATUS.labels) === undefined) return [];
  const labels = Object.fromEntries(
    writtenLabels(pod)
      .filter(isOurs)
      .map((key) => [key, null]),
  );
  const annotations = { [STATUS.labels]: null, [STATUS.endpoint]: null, [STATUS.domains]: null };
  return [patchPod(pod, { labels, annotations }, "PodUnlabelled")];
}

function patchPod(pod: Pod, metadata: object, reason: "PodLabelled" | "PodUnlabelled"): Action {
  const what = reason === "PodLabelled" ? "labels for discovery were written" : "our labels were taken off";
  // The uid makes the patch of a pod that was replaced meanwhile a conflict.
  const body = { metadata: { ...metadata, ...(pod.metadata.uid === undefined ? {} : { uid: pod.metadata.uid }) } };
  const verdict = changed(reason, `pod ${keyOf(pod)}: ${what}`, { subject: keyOf(pod) });
  return {
    do: "patch",
    key: `labels/${keyOf(pod)}`,
    verdict,
    about: [],
    kind: "Pod",
    ref: refOf(pod),
    type: "merge",
    body,
  };
}
