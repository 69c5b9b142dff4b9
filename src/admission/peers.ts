/**
 * The other workloads of the snapshot, decoded without what Tandem injected.
 *
 * Objects of a snapshot never change, so each is decoded once and kept by its identity: a group check of 300 workloads
 * would otherwise cost 50 ms for every review. A changed object is another object, and what is forgotten is collected.
 */
import { annotationOf, type Namespace, type Workload } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
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

function clean(workload: Workload): Workload {
  const record = annotationOf(workload, STATUS.plan) === undefined ? undefined : recordOf(workload);
  return record === undefined ? workload : (unplan(workload, record) as Workload);
}

type ByName = ReadonlyMap<string, readonly WorkloadSpec[]>;

interface Index {
  readonly devices: Devices;
  readonly namespaces: readonly Namespace[];
  readonly byName: ByName;
}

const indexes = new WeakMap<readonly Workload[], Index>();

/** The workloads of the whole snapshot by the model names that they serve. */
export function byServedName({ workloads, namespaces }: ClusterSnapshot, devices: Devices): ByName {
  const known = indexes.get(workloads);
  if (known?.devices === devices && known.namespaces === namespaces) return known.byName;
  const byName = indexed(workloads, namespaces, devices);
  indexes.set(workloads, { devices, namespaces, byName });
  return byName;
}

function indexed(workloads: readonly Workload[], namespaces: readonly Namespace[], devices: Devices): ByName {
  const named = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  const byName = new Map<string, WorkloadSpec[]>();
  for (const workload of workloads) {
    const spec = peerSpec(workload, devices, named.get(workload.metadata.namespace ?? "default"));
    if (spec === undefined) continue;
    for (const name of spec.served) byName.set(name, [...(byName.get(name) ?? []), spec]);
  }
  return byName;
}
