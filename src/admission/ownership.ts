/**
 * Whose a value is when the user writes exactly what admission had injected: then it is the user's, and stays.
 *
 * A stored object alone cannot tell. `kubectl apply` leaves the manifest in an annotation, server-side apply names every
 * field it was given in `managedFields`; what admission adds stands in neither. Other writers leave no trace, and a value
 * equal to an injected one then counts as injected.
 */
import { annotationOf, isObject, type KubeObject } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { revert, type Change } from "./change.ts";
import { equal, valueAt, type Path, type Step } from "./value.ts";

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

type Owns = (change: Change) => boolean;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The manifest of `kubectl apply`. One that carries a recorded plan is admission's own output, and proves nothing. */
function manifestOf(object: KubeObject): unknown {
  const manifest = parse(annotationOf(object, LAST_APPLIED) ?? "");
  return valueAt(manifest, ["metadata", "annotations", STATUS.plan]) === undefined ? manifest : undefined;
}

/** In the manifest as it was injected: taking it out of the manifest would change the manifest. */
const inManifest =
  (manifest: unknown): Owns =>
  (change) =>
    isObject(manifest) && !equal(revert(manifest, { ...change, made: 0 }), manifest);

/** The key of a step in FieldsV1: `f:name` for a key, `k:{"name":"..."}` for an item of a keyed list. */
const fieldKey = (step: Step): string => (typeof step === "string" ? `f:${step}` : `k:${JSON.stringify(step)}`);

const fieldsOf = (path: Path): Path => path.map(fieldKey);

/** Named by a server-side apply. Lists that are replaced whole are named whole, so that only single values can be told. */
function inManagedFields(object: KubeObject): Owns {
  const entries = object.metadata["managedFields"];
  const applied = (Array.isArray(entries) ? entries : []).filter(
    (entry) => isObject(entry) && entry["operation"] === "Apply",
  );
  return (change) =>
    change.kind === "set" &&
    applied.some((entry: unknown) => valueAt(entry, ["fieldsV1", ...fieldsOf(change.path)]) !== undefined);
}

/** Those of the changes that are still admission's in this object. */
export function stillOurs(object: KubeObject, changes: readonly Change[]): readonly Change[] {
  const owners = [inManifest(manifestOf(object)), inManagedFields(object)];
  return changes.filter((change) => !owners.some((owns) => owns(change)));
}
