/**
 * Where the pod templates of each kind stand, and the Pod that a template becomes.
 */
import { isObject, type KubeObject, type Pod, type PodTemplate, type Workload } from "../kinds/kube.ts";
import { isTemplate } from "./shape.ts";

export { isTemplate } from "./shape.ts";

/** Path of every pod template of a kind; the one that serves requests first. A Pod is its own template. */
const TEMPLATE_PATHS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  Deployment: [["spec", "template"]],
  StatefulSet: [["spec", "template"]],
  ReplicaSet: [["spec", "template"]],
  DaemonSet: [["spec", "template"]],
  LeaderWorkerSet: [
    ["spec", "leaderWorkerTemplate", "leaderTemplate"],
    ["spec", "leaderWorkerTemplate", "workerTemplate"],
  ],
  Pod: [[]],
};

/** The kinds whose templates admission writes to. */
export const ADMITTED_KINDS: readonly string[] = ["Deployment", "StatefulSet", "LeaderWorkerSet"];

const at = (object: unknown, path: readonly string[]): unknown =>
  path.reduce<unknown>((value, key) => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined), object);

export interface FoundTemplate {
  readonly path: readonly string[];
  readonly template: PodTemplate;
}

const pathsOf = (kind: string): readonly (readonly string[])[] =>
  Object.hasOwn(TEMPLATE_PATHS, kind) ? (TEMPLATE_PATHS[kind] ?? []) : [];

/** All pod templates of an object, the one that serves requests first; empty for kinds without. */
export const templatesOf = (object: KubeObject): readonly FoundTemplate[] =>
  pathsOf(object.kind).flatMap((path) => {
    const template = at(object, path);
    return isTemplate(template) ? [{ path, template }] : [];
  });

/** The pod template of an object that serves requests; undefined for kinds without, and for what is not a template. */
export const templateOf = (object: KubeObject): FoundTemplate | undefined => templatesOf(object)[0];

/** True for a place inside a pod template of some kind that admission writes to. */
export const isInTemplate = (kind: string, path: readonly unknown[]): boolean =>
  ADMITTED_KINDS.includes(kind) &&
  pathsOf(kind).some((start) => path.length > start.length && start.every((step, index) => path[index] === step));

/** The Pod that a workload's template becomes, before admission; the template that serves requests unless told otherwise. */
export function podFromTemplate(workload: Workload, name: string, found = templateOf(workload)): Pod {
  const template = found?.template ?? workload.spec.template;
  const { namespace } = workload.metadata;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...structuredClone(template.metadata ?? {}),
      name,
      ...(namespace === undefined ? {} : { namespace }),
    },
    spec: structuredClone(template.spec),
  };
}
