/**
 * What `kubectl apply` does to a stored object: a three-way strategic merge of the manifest applied last, the manifest
 * applied now and the live object. Lists of the API types with a merge key are merged by it, all others are replaced.
 */
import { isObject, type JsonObject, type KubeObject } from "../../src/kinds/kube.ts";

/** `patchMergeKey` of the lists in a Deployment (kubernetes/api: core/v1/types.go). */
const MERGE_KEYS: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  env: "name",
  volumes: "name",
  volumeMounts: "mountPath",
  ports: "containerPort",
};

const find = (list: unknown, key: string, value: unknown): unknown =>
  Array.isArray(list) ? list.find((item) => isObject(item) && item[key] === value) : undefined;

function mergeLists(name: string, before: unknown, now: readonly unknown[], live: unknown): unknown {
  const key = MERGE_KEYS[name];
  if (key === undefined || !Array.isArray(live)) return now;
  const keyOf = (item: unknown): unknown => (isObject(item) ? item[key] : undefined);
  const merged = now.map((item) => merge(name, find(before, key, keyOf(item)), item, find(live, key, keyOf(item))));
  const foreign = (live as unknown[]).filter(
    (item) => find(now, key, keyOf(item)) === undefined && find(before, key, keyOf(item)) === undefined,
  );
  return [...merged, ...foreign];
}

function mergeMaps(before: unknown, now: JsonObject, live: JsonObject): JsonObject {
  const gone = isObject(before) ? Object.keys(before).filter((key) => !Object.hasOwn(now, key)) : [];
  const result: JsonObject = Object.fromEntries(Object.entries(live).filter(([key]) => !gone.includes(key)));
  for (const [key, value] of Object.entries(now))
    result[key] = merge(key, isObject(before) ? before[key] : undefined, value, result[key]);
  return result;
}

function merge(name: string, before: unknown, now: unknown, live: unknown): unknown {
  if (Array.isArray(now)) return mergeLists(name, before, now, live);
  return isObject(now) && isObject(live) ? mergeMaps(before, now, live) : now;
}

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** The manifest as `kubectl apply` sends it: with itself in an annotation. */
export const applied = (manifest: KubeObject): KubeObject => ({
  ...manifest,
  metadata: {
    ...manifest.metadata,
    annotations: { ...manifest.metadata.annotations, [LAST_APPLIED]: JSON.stringify(manifest) },
  },
});

/** The object that reaches admission when `now` is applied over `live`, which was made from `before`. */
export const kubectlApply = (before: KubeObject, now: KubeObject, live: KubeObject): KubeObject =>
  merge("", applied(before), applied(now), live) as KubeObject;
