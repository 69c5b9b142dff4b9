/**
 * What `kubectl apply` does to a stored object: a three-way merge of the manifest applied last, the manifest applied now
 * and the live object. Lists of built-in types with a merge key are merged by it, all others are replaced; of a custom
 * resource, whose lists kubectl does not know, all are.
 */
import { isObject, type JsonObject, type KubeObject } from "../../src/kinds/kube.ts";

/** `patchMergeKey` of the lists in a Deployment (kubernetes/api: core/v1/types.go). */
type MergeKeys = Readonly<Record<string, string>>;
const MERGE_KEYS: MergeKeys = {
  containers: "name",
  initContainers: "name",
  env: "name",
  volumes: "name",
  volumeMounts: "mountPath",
  ports: "containerPort",
};

const find = (list: unknown, key: string, value: unknown): unknown =>
  Array.isArray(list) ? list.find((item) => isObject(item) && item[key] === value) : undefined;

class Merge {
  readonly #keys: MergeKeys;

  constructor(keys: MergeKeys) {
    this.#keys = keys;
  }

  of(name: string, before: unknown, now: unknown, live: unknown): unknown {
    if (Array.isArray(now)) return this.#lists(name, before, now, live);
    return isObject(now) && isObject(live) ? this.#maps(before, now, live) : now;
  }

  #lists(name: string, before: unknown, now: readonly unknown[], live: unknown): unknown {
    const key = Object.hasOwn(this.#keys, name) ? this.#keys[name] : undefined;
    if (key === undefined || !Array.isArray(live)) return now;
    const keyOf = (item: unknown): unknown => (isObject(item) ? item[key] : undefined);
    const mergedOf = (item: unknown): unknown =>
      this.of(name, find(before, key, keyOf(item)), item, find(live, key, keyOf(item)));
    const given = (item: unknown): unknown => find(now, key, keyOf(item));
    // What is live keeps its place among what others added, as long as the manifest does not want another order.
    const kept = (live as unknown[]).filter(
      (item) => given(item) !== undefined || find(before, key, keyOf(item)) === undefined,
    );
    const added = now.filter((item) => find(live, key, keyOf(item)) === undefined);
    const inPlace = [...kept, ...added].map((item) => (given(item) === undefined ? item : mergedOf(given(item))));
    const order = inPlace.filter((item) => given(item) !== undefined).map(keyOf);
    if (order.every((value, index) => value === keyOf(now[index]))) return inPlace;
    return [...now.map(mergedOf), ...kept.filter((item) => given(item) === undefined)];
  }

  #maps(before: unknown, now: JsonObject, live: JsonObject): JsonObject {
    const gone = isObject(before) ? Object.keys(before).filter((key) => !Object.hasOwn(now, key)) : [];
    const result: JsonObject = Object.fromEntries(Object.entries(live).filter(([key]) => !gone.includes(key)));
    for (const [key, value] of Object.entries(now))
      result[key] = this.of(key, own(before, key), value, own(result, key));
    return result;
  }
}

const own = (map: unknown, key: string): unknown => (isObject(map) && Object.hasOwn(map, key) ? map[key] : undefined);

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
  new Merge(now.apiVersion === "apps/v1" ? MERGE_KEYS : {}).of("", applied(before), applied(now), live) as KubeObject;
