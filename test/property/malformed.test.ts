/** No value in any place of a Deployment or a Pod makes admission throw: a 500 would be the user's, even under `Ignore`. */
import { readFileSync } from "node:fs";
import t from "tap";
import { review } from "../../src/admission/review.ts";
import { admitAll } from "../../src/cli/admit.ts";
import { parseObjects } from "../../src/cli/input.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isObject, type KubeObject, type Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { podFromTemplate } from "../../src/workload/template.ts";

const settings = loadConfig({}).admission;
const VALUES: readonly unknown[] = [null, 0, "x", [], {}, [null], [{}], { constructor: null }];

/** Every optional list and map that is read, on top of an example. */
function complete(object: KubeObject): Workload {
  const workload = structuredClone(object) as Workload;
  const { template } = workload.spec;
  workload.metadata.annotations = { "tandem.sh/topology": "required" };
  workload.metadata.ownerReferences = [{ apiVersion: "v1", kind: "X", name: "y-1", uid: "u", controller: true }];
  workload.metadata["managedFields"] = [{ operation: "Apply", fieldsV1: {} }];
  template.metadata = { ...template.metadata, annotations: { "status.tandem.sh/intent": "{}" } };
  const [container] = template.spec.containers;
  if (container !== undefined)
    template.spec.containers[0] = {
      ...container,
      env: [{ name: "A", value: "b" }],
      envFrom: [{}],
      volumeMounts: [{ name: "v", mountPath: "/x" }],
    };
  const affinity = { podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } };
  Object.assign(template.spec, { nodeSelector: { a: "b" }, volumes: [{ name: "v" }], affinity });
  return workload;
}

function podOf(workload: Workload): KubeObject {
  const pod = podFromTemplate(workload, "y-1-a");
  const { labels, ownerReferences = [] } = workload.metadata;
  return { ...pod, metadata: { ...pod.metadata, ownerReferences, labels: { ...labels } } };
}

type Place = readonly string[];
const placesOf = (value: unknown, place: Place = []): Place[] =>
  typeof value === "object" && value !== null
    ? Object.entries(value).flatMap(([key, inner]) => [[...place, key], ...placesOf(inner, [...place, key])])
    : [];

function withValue(object: KubeObject, place: Place, value: unknown): KubeObject {
  const copy = structuredClone(object);
  const parent = place.slice(0, -1).reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], copy);
  (parent as Record<string, unknown>)[place.at(-1) ?? ""] = value;
  return copy;
}

function admitEveryWay(given: KubeObject, object: KubeObject): void {
  const context = { settings, snapshot: { ...EMPTY_SNAPSHOT, workloads: [given as Workload] } };
  for (const webhook of ["mutate", "validate"] as const)
    for (const operation of ["CREATE", "UPDATE"]) {
      const request = { uid: "u", operation, kind: { kind: given.kind }, namespace: "n", object, oldObject: given };
      review({ apiVersion: "admission.k8s.io/v1", request }, webhook, context);
    }
  if (isObject(object.metadata)) admitAll([object], settings, true);
}

/** What admission throws for an object with `value` at `place`; undefined where it does not. */
function thrownFor(given: KubeObject, place: Place, value: unknown): string | undefined {
  try {
    admitEveryWay(given, withValue(given, place, value));
    return undefined;
  } catch (error) {
    return `${given.kind} ${place.join(".")} = ${JSON.stringify(value)}: ${String(error)}`;
  }
}

t.test("every place of an example with every odd value", (test) => {
  const file = new URL("../../manifests/examples/qwen3-32b-ascend-cce.yaml", import.meta.url);
  const workload = complete(parseObjects(readFileSync(file, "utf8"), "example")[0] as KubeObject);
  const tried = [workload, podOf(workload)].flatMap((given) =>
    placesOf(given).flatMap((place) => VALUES.map((value) => thrownFor(given, place, value))),
  );
  test.same(
    tried.filter((thrown) => thrown !== undefined),
    [],
  );
  test.ok(tried.length > 500, `${tried.length} values were tried`);
  test.end();
});
