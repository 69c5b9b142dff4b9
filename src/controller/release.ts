/**
 * Letting go: what `tandem release` does, decided from the objects as they are. Afterwards workloads are as they were
 * applied, and their pods run without Tandem.
 *
 * Our own webhook must not undo it, so the order is:
 * 1. The namespaces are taken out of the webhooks' namespaceSelector. This one switch holds for everything that follows:
 *    our updates, the pods that roll because of them, a GitOps tool that applies the workload again a minute later, and
 *    the controller, which acts only where its webhook reaches (`reach.ts`). Applying the manifests turns it on again.
 * 2. API servers follow webhook configurations by a watch, so there is a pause before the rest.
 * 3. Workloads are stripped under the field manager `tandem-release`. Admission leaves updates of this manager as they
 *    are, so a webhook that an API server still calls changes nothing. Pods bring their contract along in what was
 *    injected into the template, so a stripped workload makes plain pods even then.
 * 4. Labels come off live pods of `route` workloads, gates off pods that wait, drains of the autoscaler off pods that it
 *    would give up, its answers off workloads; PodGroups, ConfigMaps and Services of ours are deleted.
 *
 * Field ownership that these patches create is given back: a later server-side apply by the user must not conflict with
 * a manager that is gone.
 */
import jsonpatch from "fast-json-patch";
import { annotationOf, keyOf, type KubeObject, type Pod, type Workload } from "../kinds/kube.ts";
import { AUTOSCALING_STATUS, FIELD_MANAGER, GATE, STATUS } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { changed, warned, type Verdict } from "../kinds/verdict.ts";
import { drainingOf, releaseAnnotations, type Annotations } from "../workload/draining.ts";
import type { Action } from "./action.ts";
import { unlabelPod } from "./labels.ts";
import { hooksOf, NAMESPACE_LABEL } from "./reach.ts";

export interface ReleaseFacts {
  /** The namespace to let go of; undefined: all. */
  readonly namespace: string | undefined;
  /** Mutating and validating webhook configurations of ours, where they exist. */
  readonly webhooks: readonly KubeObject[];
  readonly workloads: readonly Workload[];
  readonly pods: readonly Pod[];
  /** PodGroups, ConfigMaps and Services with our ownership label. */
  readonly owned: readonly KubeObject[];
  /** Admission's own: the object as it was before Tandem. */
  readonly strip: (object: KubeObject) => KubeObject;
}

export interface ReleasePlan {
  /** First, and before a pause. */
  readonly webhooks: readonly Action[];
  readonly rest: readonly Action[];
  /** What people should know besides. */
  readonly notes: readonly Verdict[];
}

export function releasePlan(facts: ReleaseFacts): ReleasePlan {
  const workloads = facts.workloads.flatMap((workload) => releaseWorkload(workload, facts));
  return {
    webhooks: facts.webhooks.flatMap((configuration) => leaveNamespaces(configuration, facts.namespace)),
    rest: [
      ...workloads.flatMap(({ actions }) => actions),
      ...facts.pods.flatMap(unlabelPod),
      ...facts.pods.flatMap(liftGates),
      ...facts.pods.flatMap(takeBackDrain),
      ...facts.workloads.flatMap(forgetAnswers),
      ...facts.owned.map(drop),
    ],
    notes: workloads.flatMap(({ notes }) => notes),
  };
}

interface ReleasedWorkload {
  readonly actions: readonly Action[];
  readonly notes: readonly Verdict[];
}

function releaseWorkload(workload: Workload, { strip, pods }: ReleaseFacts): ReleasedWorkload[] {
  const bare = strip(workload);
  const operations = jsonpatch.compare(workload, bare);
  const rolls = operations.some(({ path }) => path.startsWith("/spec/"));
  if (rolls) return [{ actions: [stripAction(workload, operations, podsOf(workload, pods).length)], notes: [] }];
  const notes = podsOf(workload, pods).filter(wasAdmitted).length > 0 ? [keepsPods(workload)] : [];
  if (operations.length === 0) return notes.length === 0 ? [] : [{ actions: [], notes }];
  return [{ actions: [stripAction(workload, operations, 0)], notes }];
}

const podsOf = (workload: Workload, pods: readonly Pod[]): readonly Pod[] =>
  pods.filter(
    (pod) =>
      pod.metadata.namespace === workload.metadata.namespace &&
      workload.spec.selector !== undefined &&
      selectorMatches(workload.spec.selector, pod.metadata.labels),
  );

/** Changed at its creation: admission wrote the endpoint's facts, and the controller did not. */
const wasAdmitted = (pod: Pod): boolean =>
  annotationOf(pod, STATUS.endpoint) !== undefined && annotationOf(pod, STATUS.labels) === undefined;

/** With `admission.target: pod` nothing in the template changes, so nothing rolls by itself. */
function keepsPods(workload: Workload): Verdict {
  const name = `${workload.kind.toLowerCase()}/${workload.metadata.name ?? ""}`;
  const command = `kubectl -n ${workload.metadata.namespace ?? "default"} rollout restart ${name}`;
  return warned("Released", `its pods were changed at creation and stay until they are replaced: ${command}`, {
    subject: keyOf(workload),
  });
}

function stripAction(workload: Workload, operations: readonly object[], rolling: number): Action {
  const message = rolling > 0 ? `stripped; ${rolling} pods roll` : "stripped; nothing rolls";
  const guard = { op: "replace", path: "/metadata/resourceVersion", value: workload.metadata.resourceVersion };
  return {
    do: "patch",
    key: `${workload.kind.toLowerCase()}/${keyOf(workload)}`,
    verdict: changed("Released", message, { subject: keyOf(workload), numbers: { pods: rolling } }),
    about: [],
    kind: workload.kind,
    ref: refOf(workload),
    type: "json",
    body: [guard, ...operations],
  };
}

const OURS: ReadonlySet<string> = new Set(Object.values(GATE));

/**
 * A pod that waits for the controller would wait for ever. Let go without a place it fails at once, and says so; its
 * owner replaces it by one that was never ours as soon as its template is.
 */
function liftGates(pod: Pod): Action[] {
  const gates = pod.spec.schedulingGates ?? [];
  const others = gates.filter(({ name }) => !OURS.has(name));
  if (others.length === gates.length || pod.metadata.deletionTimestamp !== undefined) return [];
  const { uid, resourceVersion } = pod.metadata;
  return [
    {
      do: "patch",
      key: `gate/${keyOf(pod)}`,
      verdict: changed("Released", "its gate was lifted", { subject: keyOf(pod) }),
      about: [],
      kind: "Pod",
      ref: refOf(pod),
      type: "merge",
      body: { metadata: { uid, resourceVersion }, spec: { schedulingGates: others } },
    },
  ];
}

/** A pod that nobody gives up any more gets work again, and is deleted first no longer. */
const takeBackDrain = (pod: Pod): Action[] =>
  drainingOf(pod) === undefined ? [] : [annotate(pod, releaseAnnotations(pod), "its drain was taken back")];

/** The autoscaler's word on a workload; its replicas stay as they are. */
function forgetAnswers(workload: Workload): Action[] {
  const told = Object.values(AUTOSCALING_STATUS).filter((key) => annotationOf(workload, key) !== undefined);
  const gone = Object.fromEntries(told.map((key) => [key, null]));
  return told.length === 0 ? [] : [annotate(workload, gone, "what the autoscaler said was taken off")];
}

const annotate = (object: KubeObject, annotations: Annotations, message: string): Action => ({
  do: "patch",
  key: `scaling/${object.kind.toLowerCase()}/${keyOf(object)}`,
  verdict: changed("Released", message, { subject: keyOf(object) }),
  about: [],
  kind: object.kind,
  ref: refOf(object),
  type: "merge",
  body: { metadata: { uid: object.metadata.uid, annotations } },
});

const drop = (object: KubeObject): Action => ({
  do: "remove",
  key: `${object.kind.toLowerCase()}/${keyOf(object)}`,
  verdict: changed("Released", "deleted", { subject: keyOf(object) }),
  about: [],
  kind: object.kind,
  ref: refOf(object),
  uid: object.metadata.uid,
});

/** Takes a namespace, or every one, out of all webhooks of a configuration; nothing where that is so already. */
function leaveNamespaces(configuration: KubeObject, namespace: string | undefined): Action[] {
  const expression =
    namespace === undefined
      ? { key: NAMESPACE_LABEL, operator: "DoesNotExist" }
      : { key: NAMESPACE_LABEL, operator: "NotIn", values: [namespace] };
  const body = hooksOf(configuration).flatMap((hook, index) => leaveOperations(hook, index, expression));
  if (body.length === 0) return [];
  const where = namespace === undefined ? "every namespace" : `namespace ${namespace}`;
  return [
    {
      do: "patch",
      key: `${configuration.kind.toLowerCase()}/${keyOf(configuration)}`,
      verdict: changed("Released", `reaches ${where} no more`, { subject: keyOf(configuration) }),
      about: [],
      kind: configuration.kind,
      ref: refOf(configuration),
      type: "json",
      body,
    },
  ];
}

interface Expression {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

function leaveOperations(hook: Readonly<Record<string, unknown>>, index: number, expression: Expression): object[] {
  const selector = (hook["namespaceSelector"] ?? {}) as { matchExpressions?: readonly Expression[] };
  const present = selector.matchExpressions ?? [];
  if (present.some((one) => JSON.stringify(one) === JSON.stringify(expression))) return [];
  return [
    { op: "test", path: `/webhooks/${index}/name`, value: hook["name"] },
    {
      op: "add",
      path: `/webhooks/${index}/namespaceSelector`,
      value: { ...selector, matchExpressions: [...present, expression] },
    },
  ];
}

/** Gives back the field ownership that a patch of ours left on an object; undefined where it left none. */
export function disownOperations(object: KubeObject): readonly object[] | undefined {
  const entries = object.metadata["managedFields"];
  if (!Array.isArray(entries)) return undefined;
  const at = (entries as { manager?: unknown }[]).findIndex(({ manager }) => manager === FIELD_MANAGER.release);
  if (at === -1) return undefined;
  return [
    { op: "replace", path: "/metadata/resourceVersion", value: object.metadata.resourceVersion },
    { op: "remove", path: `/metadata/managedFields/${at}` },
  ];
}
