/**
 * Keys of the contract that nothing reads: misspelt, on the pod template alone, without effect in the workload's mode, or
 * on a workload that lacks `tandem.sh/model` and so is nobody's. Each is a warning that names the key and its place.
 */
import { entry, type KubeObject, type StringMap } from "../kinds/kube.ts";
import { nearest } from "../kinds/nearest.ts";
import { AUTOSCALING_PREFIX, AUTOSCALING_STATUS, LABEL, PREFIX } from "../kinds/names.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
import { ALL_KEYS, KEYS, type Key } from "./keys.ts";
import { ADMITTED_KINDS, templatesOf, type FoundTemplate } from "./template.ts";

type Where = Key<unknown>["where"];

/** Written by Tandem, on Pods and on workloads, and no mistake there. */
const OURS: readonly string[] = [LABEL.instance, LABEL.nodeRank, LABEL.entry, ...Object.values(AUTOSCALING_STATUS)];

const isOurs = (key: string): boolean => key.startsWith(PREFIX) || key.startsWith(AUTOSCALING_PREFIX);

const ourKeys = (map: StringMap | undefined): readonly string[] =>
  Object.keys(map ?? {}).filter((key) => isOurs(key) && !OURS.includes(key));

/** Of equally near keys the one that stands in the same place. */
const namesFor = (where: Where): readonly string[] =>
  ALL_KEYS.toSorted((a, b) => Number(b.where === where) - Number(a.where === where)).map(({ key }) => key);
const NAMES: Readonly<Record<Where, readonly string[]>> = {
  label: namesFor("label"),
  annotation: namesFor("annotation"),
};

/** Most keys to report of one map. */
const MOST = 8;

/** Warnings for `tandem.sh/` keys that are unknown or stand in the wrong map. `of`: whose map, for messages. */
export function unknownKeys(map: StringMap | undefined, where: Where, of = ""): Verdict[] {
  const strange = ourKeys(map).filter((key) => !ALL_KEYS.some((known) => known.key === key && known.where === where));
  return strange.slice(0, MOST).flatMap((key) => {
    const known = ALL_KEYS.find((candidate) => candidate.key === key);
    if (known !== undefined) return [unknown(key, `${key}${of} is read as ${known.where}, not as ${where}`)];
    const near = namesake(key) ?? nearestKey(key, where);
    return [unknown(key, `${where} ${key}${of} is unknown${near === undefined ? "" : `, did you mean ${near}?`}`)];
  });
}

const nameOf = (key: string): string => key.slice(key.indexOf("/") + 1);

/** The key of the same name under the other prefix: `autoscaling.tandem.sh/group` is the label `tandem.sh/group`. */
function namesake(key: string): string | undefined {
  const found = ALL_KEYS.find((known) => nameOf(known.key) === nameOf(key));
  return found === undefined ? undefined : `the ${found.where} ${found.key}`;
}

/** A long prefix would make every name under it look near. */
function nearestKey(key: string, where: Where): string | undefined {
  if (!key.startsWith(AUTOSCALING_PREFIX)) return nearest(key, NAMES[where]);
  const names = NAMES.annotation.filter((known) => known.startsWith(AUTOSCALING_PREFIX)).map(nameOf);
  const near = nearest(nameOf(key), names);
  return near === undefined ? undefined : `${AUTOSCALING_PREFIX}${near}`;
}

const unknown = (subject: string, message: string): Verdict => warned("UnknownKey", message, { subject });
const misplaced = (subject: string, message: string): Verdict => warned("KeyMisplaced", message, { subject });

/**
 * Warnings for keys beside those that `workloadSpec` reads: in the templates, and on objects without a model.
 * `podsAlone`: Pods are admitted by what stands on them, so that a template may say what its workload does not.
 */
export function strayKeys(object: KubeObject, podsAlone = false): Verdict[] {
  const own = entry(object.metadata.labels, KEYS.model.key) === undefined ? unowned(object) : [];
  if (!ADMITTED_KINDS.includes(object.kind)) return own;
  return [...own, ...templatesOf(object).flatMap((found) => inTemplate(object, found, podsAlone))];
}

function unowned({ kind, metadata: { labels, annotations } }: KubeObject): Verdict[] {
  const known = [...knownKeys(labels, "label"), ...knownKeys(annotations, "annotation")];
  return [
    ...unknownKeys(labels, "label"),
    ...unknownKeys(annotations, "annotation"),
    ...known.map((key) => misplaced(key, `${key} is not read: the ${kind} has no label ${LABEL.model}`)),
  ];
}

function inTemplate({ kind, metadata }: KubeObject, { path, template }: FoundTemplate, podsAlone: boolean): Verdict[] {
  const of = ` of ${path.join(".")}`;
  const { labels, annotations } = template.metadata ?? {};
  const lone = [
    ...knownKeys(labels, "label").filter((key) => entry(labels, key) !== serviceLabel(metadata.labels, key)),
    ...knownKeys(annotations, "annotation").filter(
      (key) => entry(annotations, key) !== entry(metadata.annotations, key),
    ),
  ];
  return [
    ...unknownKeys(labels, "label", of),
    ...unknownKeys(annotations, "annotation", of),
    ...(podsAlone ? [] : lone).map((key) =>
      misplaced(key, `${key}${of} is not read for the ${kind}: put it on the ${kind} itself`),
    ),
  ];
}

/** A warning for keys of the workload's own that its mode `route` does not read. */
export function unusedKeys({ kind, metadata: { annotations } }: KubeObject): Verdict[] {
  const unused = ALL_KEYS.filter(({ key, manageOnly }) => manageOnly === true && entry(annotations, key) !== undefined)
    .map(({ key }) => key)
    // It is that of the group, whose pods have ranks of their own.
    .filter((key) => kind !== "LeaderWorkerSet" || key !== KEYS.nodesPerInstance.key);
  if (unused.length === 0) return [];
  return [warned("KeyUnused", `mode route does not read ${unused.join(", ")}; only mode manage acts on that`)];
}

const knownKeys = (map: StringMap | undefined, where: Where): readonly string[] =>
  ourKeys(map).filter((key) => ALL_KEYS.some((one) => one.key === key && one.where === where));

/** A label of the workload, with what it is where it is left out. */
function serviceLabel(labels: StringMap | undefined, key: string): string | undefined {
  const model = entry(labels, LABEL.model);
  const fallback = model === undefined ? {} : { [LABEL.group]: model, [LABEL.cell]: "0" };
  return entry(labels, key) ?? entry(fallback, key);
}
