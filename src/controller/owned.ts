/** Objects that the controller makes for a cell: how they are marked, who owns them, and when they must be written. */
import { createHash } from "node:crypto";
import { annotationOf, isObject, type KubeObject, type ObjectMeta, type OwnerReference } from "../kinds/kube.ts";
import { LABEL, OWNERSHIP, STATUS } from "../kinds/names.ts";
import { cellOf } from "../workload/cell.ts";
import type { Contract } from "./contracts.ts";

/**
 * One reference for each workload, so that the object goes when the last of them does. No controller flag: there are
 * several. No `blockOwnerDeletion`: deleting a workload must not wait for us.
 */
const ownersOf = (contracts: readonly Contract[]): OwnerReference[] =>
  contracts.map(({ workload: { apiVersion, kind, metadata } }) => ({
    apiVersion,
    kind,
    name: metadata.name ?? "",
    uid: metadata.uid ?? "",
  }));

/** Metadata of an object of the cell that these workloads own. */
export function ownedMeta(name: string, owners: readonly [Contract, ...Contract[]]): ObjectMeta {
  const { namespace, model, group, cell } = cellOf(owners[0].spec);
  return {
    name,
    namespace,
    labels: { [OWNERSHIP.label]: OWNERSHIP.value, [LABEL.model]: model, [LABEL.group]: group, [LABEL.cell]: cell },
    ownerReferences: ownersOf(owners),
  };
}

/** The object with the hash of itself: what is applied. */
export function sealed(object: KubeObject): KubeObject {
  const hash = createHash("sha256").update(JSON.stringify(object)).digest("hex").slice(0, 16);
  const annotations = { ...object.metadata.annotations, [STATUS.applied]: hash };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

/**
 * True where the stored object is what would be applied: the same was applied last, and nobody changed any of it since.
 * Fields that the server defaults, the status, and owners that others added belong to others and do not count.
 */
export function isApplied(stored: KubeObject | undefined, wanted: KubeObject): boolean {
  if (stored === undefined || annotationOf(stored, STATUS.applied) !== annotationOf(wanted, STATUS.applied))
    return false;
  const { ownerReferences: owners = [], ...metadata } = wanted.metadata;
  const found = stored.metadata.ownerReferences ?? [];
  return (
    contains(stored, { ...wanted, metadata }) &&
    owners.every((owner) => found.some((one) => one.uid === owner.uid && contains(one, owner)))
  );
}

/** Every field of `part` is in `whole` with the same value. Lists must be of one length, in one order. */
function contains(whole: unknown, part: unknown): boolean {
  if (Array.isArray(part))
    return (
      Array.isArray(whole) && whole.length === part.length && part.every((item, index) => contains(whole[index], item))
    );
  if (!isObject(part)) return whole === part;
  return isObject(whole) && Object.entries(part).every(([key, value]) => contains(whole[key], value));
}
