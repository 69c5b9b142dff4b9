/**
 * The other workloads of the snapshot, decoded without what Tandem injected.
 *
 * Objects of a snapshot never change, so each is decoded once and kept by its identity: decoding 302 workloads
 * took 59 ms, which every review would otherwise pay. A changed object is another object, and what is forgotten is
 * collected.
 */
import { annotationOf, labelOf, type Namespace, type Workload } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Devices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { recordOf, unplan } from "./record.ts";

interface Peer {
  readonly devices: Devices;
  readonly namespace: Namespace | undefined;
  readonly spec: WorkloadSpec | undefined;
}

const peers = new WeakMap<Workload, Peer>();

/** The spec of a workload of the snapshot; undefined where it is not ours, off, or wrong. */
export function peerSpec(
  workload: Workload,
  devices: Devices,
  namespace: Namespace | undefined,
): WorkloadSpec | undefined {
  const known = peers.get(workload);
  if (known?.devices === devices && known.namespace === namespace) return known.spec;
  const { spec } = workloadSpec(clean(workload), { devices, namespace });
  peers.set(workload, { devices, namespace, spec });
  return spec;
}

/** True for every workload but the one of this contract. */
export const isOther = (workload: Workload, spec: WorkloadSpec): boolean =>
  workload.kind !== spec.kind ||
  workload.metadata.name !== spec.name ||
  (workload.metadata.namespace ?? "default") !== spec.namespace;

function clean(workload: Workload): Workload {
  const record = annotationOf(workload, STATUS.plan) === undefined ? undefined : recordOf(workload);
  return record === undefined ? workload : (unplan(workload, record) as Workload);
}

interface Index {
  readonly devices: Devices;
  readonly namespaces: readonly Namespace[];
  readonly byName: ReadonlyMap<string, readonly WorkloadSpec[]>;
}

const indexes = new WeakMap<readonly Workload[], Index>();

/** The workloads of the whole snapshot by the model names that they serve. */
export function byServedName({ workloads, namespaces }: ClusterSnapshot, devices: Devices): Index["byName"] {
  const known = indexes.get(workloads);
  if (known?.devices === devices && known.namespaces === namespaces) return known.byName;
  const named = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  const pairs = workloads.flatMap((workload) => {
    const spec = peerSpec(workload, devices, named.get(workload.metadata.namespace ?? "default"));
    return spec?.served.map((name) => [name, spec] as const) ?? [];
  });
  const byName = grouped(pairs);
  indexes.set(workloads, { devices, namespaces, byName });
  return byName;
}

const services = new WeakMap<readonly Workload[], ReadonlyMap<string, readonly Workload[]>>();

/** The workloads of one namespace that carry the same label `tandem.sh/model`. */
export function ofService({ workloads }: ClusterSnapshot, namespace: string, model: string): readonly Workload[] {
  const known =
    services.get(workloads) ?? grouped(workloads.map((workload) => [serviceOf(workload), workload] as const));
  services.set(workloads, known);
  return known.get(`${namespace}/${model}`) ?? [];
}

const serviceOf = (workload: Workload): string =>
  `${workload.metadata.namespace ?? "default"}/${labelOf(workload, LABEL.model) ?? ""}`;

function grouped<T>(pairs: readonly (readonly [string, T])[]): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const [key, value] of pairs) {
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return groups;
}
