/**
 * The recorded plan: what admission injected into a workload, from which profiles, over which template.
 *
 * It stands in one annotation on the workload's own metadata, never in the template. Reading it is bounded and strict: a
 * record that is not ours in form is no record, and one can only ever reach into the pod template.
 */
import { hash } from "node:crypto";
import { annotationOf, isObject, type KubeObject, type StringMap } from "../kinds/kube.ts";
import { ANNOTATION, PREFIX, STATUS } from "../kinds/names.ts";
import { isRollout } from "../workload/creation.ts";
import { isInTemplate, templatesOf } from "../workload/template.ts";
import { revert, revertAll, type Change } from "./change.ts";
import { stillOurs } from "./ownership.ts";
import { canonical, replaceAt, valueAt, type Path } from "./value.ts";

/** Grows when stages inject something else for the same input. Recorded, so that `latest` can be told from `replayed`. */
export const PROFILE_VERSION = 1;

export interface PlanRecord {
  readonly version: number;
  /** Of the template and keys without our changes. */
  readonly hash: string;
  readonly changes: readonly Change[];
  /** True where the workload had no annotations before. */
  readonly bare: boolean;
}

const ANNOTATIONS: Path = ["metadata", "annotations"];
/** Where the record stands. */
export const RECORD_PATH: Path = [...ANNOTATIONS, STATUS.plan];

/** Our largest plan is near 3 KiB; the API server allows 256 KiB for all annotations together. */
const LONGEST = 32768;
const MOST_CHANGES = 64;

const isStep = (step: unknown): boolean =>
  typeof step === "string" || (isObject(step) && typeof step["name"] === "string");

/** Inside a pod template of the kind, or the steps of a Deployment's rolling update. */
const isPath = (path: unknown, kind: string): boolean =>
  Array.isArray(path) && (isInTemplate(kind, path) || (kind === "Deployment" && isRollout(path))) && path.every(isStep);

const SHAPES: Readonly<Record<string, (change: Record<string, unknown>) => boolean>> = {
  set: (change) => change["value"] !== undefined,
  item: (change) => typeof change["key"] === "string" && isObject(change["value"]),
  append: (change) => Array.isArray(change["values"]),
};

function isChange(value: unknown, of: string): value is Change {
  if (!isObject(value) || !isPath(value["path"], of) || !Number.isInteger(value["made"])) return false;
  const kind = String(value["kind"]);
  return Object.hasOwn(SHAPES, kind) && SHAPES[kind]?.(value) === true;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The record of an object; undefined where there is none, or none that is ours in form. */
export function recordOf(object: KubeObject): PlanRecord | undefined {
  const text = annotationOf(object, STATUS.plan);
  const value = typeof text === "string" && text.length <= LONGEST ? parse(text) : undefined;
  if (!isObject(value) || !Array.isArray(value["changes"]) || value["changes"].length > MOST_CHANGES) return undefined;
  const isOurs = (change: unknown): change is Change => isChange(change, object.kind);
  if (typeof value["hash"] !== "string" || !value["changes"].every(isOurs)) return undefined;
  return {
    version: Number(value["version"]),
    hash: value["hash"],
    changes: value["changes"],
    bare: value["bare"] === true,
  };
}

/** What the API server allows for all annotations of one object together: names and values, in bytes. */
const MOST_ANNOTATION_BYTES = 262144;

const bytesOf = (annotations: StringMap | undefined): number =>
  Object.entries(annotations ?? {}).reduce((sum, [key, value]) => sum + Buffer.byteLength(key + value), 0);

/** An object whose annotations the API server takes, on itself and on its template. */
export const isStorable = (object: KubeObject): boolean =>
  [object.metadata, ...templatesOf(object).map(({ template }) => template.metadata)].every(
    (metadata) => bytesOf(metadata?.annotations) <= MOST_ANNOTATION_BYTES,
  );

/** The object with the record written. */
export const withRecord = (object: KubeObject, record: PlanRecord): KubeObject =>
  replaceAt(object, RECORD_PATH, () => JSON.stringify(record)) as KubeObject;

/** Whether a record's annotation would be the first. */
export const isBare = (object: KubeObject): boolean => valueAt(object, ANNOTATIONS) === undefined;

/** The object as it was before a plan, without the record. */
export function unplan(object: KubeObject, record: PlanRecord): KubeObject {
  const text = annotationOf(object, STATUS.plan);
  const reverted = revertAll(object, stillOurs(object, record.changes));
  const made = record.bare ? 1 : 0;
  return text === undefined ? reverted : revert(reverted, { kind: "set", path: RECORD_PATH, value: text, made });
}

/** Keys of the user's contract that a plan depends on; `plan` only says when to plan. */
const contract = (map: StringMap | undefined): [string, unknown][] =>
  Object.entries(map ?? {}).filter(
    ([key]) => (key.startsWith(PREFIX) || key.startsWith("kueue.x-k8s.io/")) && key !== ANNOTATION.plan,
  );

/** Hash of what a plan is made from: the user's template, labels and `tandem.sh/` annotations. */
export function hashOf(stripped: KubeObject): string {
  const { labels, annotations } = stripped.metadata;
  const templates = templatesOf(stripped).map(({ template }) => template);
  const input = {
    // A second one stands beside the first, so that the hash of those with one template is as it always was.
    template: templates[0],
    ...(templates.length > 1 ? { further: templates.slice(1) } : {}),
    labels: Object.fromEntries(contract(labels)),
    annotations: Object.fromEntries(contract(annotations)),
  };
  return hash("sha256", canonical(input)).slice(0, 16);
}
