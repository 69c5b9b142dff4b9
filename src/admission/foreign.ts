/**
 * `status.tandem.sh/*` that somebody else wrote: never believed, and reported.
 *
 * On a workload only the recorded plan means anything, and what it says is bounded by `record.ts`. Pods are believed by
 * discovery, so there such annotations are taken off before the Pod is stored: what admission writes is written again.
 */
import { annotationOf, type KubeObject, type Pod, type StringMap } from "../kinds/kube.ts";
import { AUTOSCALING_STATUS, STATUS, STATUS_PREFIX } from "../kinds/names.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
import { templatesOf, type FoundTemplate } from "../workload/template.ts";
import { recordOf } from "./record.ts";
import { equal, replaceAt, type Path } from "./value.ts";

const foreign = (key: string, what: string): Verdict => warned("StatusForeign", `${key} ${what}`, { subject: key });

/** Status annotations that are not as they were before. */
const written = (now: StringMap | undefined, before: StringMap | undefined): readonly string[] =>
  Object.entries(now ?? {})
    .filter(([key, value]) => key.startsWith(STATUS_PREFIX) && before?.[key] !== value)
    .map(([key]) => key);

/** Most keys to report of one object. */
const MOST = 8;

/**
 * Warnings for a workload, from what was given, what is stored and what will be. Only what this write brings is told, so
 * that the system's own updates stay silent.
 */
export function foreignOnWorkload(
  given: KubeObject,
  previous: KubeObject | undefined,
  answer: KubeObject,
): readonly Verdict[] {
  const own = written(given.metadata.annotations, previous?.metadata.annotations)
    .filter((key) => key !== STATUS.plan)
    .map((key) => foreign(key, "was not written by Tandem and means nothing"));
  const inTemplates = templatesOf(given)
    .flatMap((found) => written(annotationsOf(found), annotationsOf(sameIn(previous, found))))
    .filter((key) => key !== STATUS.intent || !isOurIntent(answer))
    .map((key) => foreign(key, "in the pod template was not written by Tandem and is not believed"));
  return [...own, ...inTemplates, ...planForged(given, previous)].slice(0, MOST);
}

const annotationsOf = (found: FoundTemplate | undefined): StringMap | undefined =>
  found?.template.metadata?.annotations;

/** The template that stands at the same place. */
const sameIn = (workload: KubeObject | undefined, { path }: FoundTemplate): FoundTemplate | undefined =>
  workload === undefined ? undefined : templatesOf(workload).find((one) => equal(one.path, path));

/** Admission writes it together with the plan; one that stays without a plan is somebody's own. */
const isOurIntent = (answer: KubeObject): boolean => annotationOf(answer, STATUS.plan) !== undefined;

/**
 * A plan that cannot be ours. One that has our form may be the first pass of this very admission, made old by another
 * webhook in between; it is replaced either way.
 */
function planForged(given: KubeObject, previous: KubeObject | undefined): Verdict[] {
  const plan = annotationOf(given, STATUS.plan);
  const known = previous === undefined ? undefined : annotationOf(previous, STATUS.plan);
  if (plan === undefined || plan === known || recordOf(given) !== undefined) return [];
  return [foreign(STATUS.plan, "is not a plan of Tandem's and was replaced")];
}

/** Never written when a Pod is created: by the controller on live Pods, or on other objects. */
const NOT_AT_CREATION: readonly string[] = [
  ...[STATUS.drain, STATUS.labels, STATUS.domains, STATUS.applied, STATUS.plan],
  AUTOSCALING_STATUS.draining,
];

export interface Cleaned {
  readonly pod: Pod;
  readonly verdicts: readonly Verdict[];
  readonly touched: readonly Path[];
}

/** A Pod without annotations that would be believed of it. In a managed Pod the endpoint is written anew anyway. */
export function cleanPod(pod: Pod, managed: boolean): Cleaned {
  const keys = [...NOT_AT_CREATION, ...(managed ? [] : [STATUS.endpoint])];
  const found = keys.filter((key) => annotationOf(pod, key) !== undefined);
  const touched = found.map((key): Path => ["metadata", "annotations", key]);
  return {
    pod: touched.reduce<Pod>((all, path) => replaceAt(all, path, () => undefined) as Pod, pod),
    verdicts: found.map((key) => foreign(key, "was not written by Tandem and was taken off")),
    touched,
  };
}
