/**
 * The record of an instance over several pods: a headless Service, whose annotation names the pods in the order of their
 * ranks. Written before the first of them starts, so that a controller that begins anew goes on where another stopped;
 * every pod carries a copy, from which a Service that somebody deleted is made again.
 */
import { createHash } from "node:crypto";
import { annotationOf, labelOf, type KubeObject, type Pod } from "../../kinds/kube.ts";
import { ENGINE_PORTS, LABEL, STATUS } from "../../kinds/names.ts";
import { slug } from "../../workload/cell.ts";
import { isGated } from "../../workload/instance.ts";
import type { Contract } from "../contracts.ts";
import { ownedMeta, sealed } from "../owned.ts";

export interface Slot {
  readonly namespace: string;
  /** `tandem.sh/instance`: new for each set of pods. */
  readonly instance: string;
  /** uids of the pods; the index is the node rank. */
  readonly members: readonly string[];
  /** First port of the block, for pods on the host's network. */
  readonly portBase?: number;
  /** The Service as it is stored. */
  readonly service?: KubeObject;
}

/** As `tandem.sh/nodes-per-instance` accepts; a uid has 36 characters. */
const MOST_MEMBERS = 256;
const LONGEST = MOST_MEMBERS * 64;

function membersOf(object: KubeObject): readonly string[] {
  const text = annotationOf(object, STATUS.members) ?? "";
  const members = text.length > LONGEST || text === "" ? [] : text.split(",");
  return members.length <= MOST_MEMBERS && new Set(members).size === members.length ? members : [];
}

function portOf(object: KubeObject): { portBase?: number } {
  const port = Number(annotationOf(object, STATUS.portBase) ?? "none");
  return Number.isInteger(port) && port > 0 && port < 65536 ? { portBase: port } : {};
}

/** The record on a Service of ours, or the copy on a pod; undefined where there is none. */
export function slotOf(object: KubeObject): Slot | undefined {
  const instance = labelOf(object, LABEL.instance);
  const members = membersOf(object);
  if (instance === undefined || members.length === 0) return undefined;
  return {
    namespace: object.metadata.namespace ?? "default",
    instance,
    members,
    ...portOf(object),
    ...(object.kind === "Service" ? { service: object } : {}),
  };
}

export const slotKey = ({ namespace, instance }: Pick<Slot, "namespace" | "instance">): string =>
  `${namespace}/${instance}`;

/** The identity of a set of pods: their uids are never used again, so neither is this. */
export const instanceId = (members: readonly string[]): string =>
  createHash("sha256").update(JSON.stringify(members)).digest("hex").slice(0, 12);

/** `tandem-<slug of the workload>-<instance>`; a name of DNS has 63 characters at most. */
export const serviceName = (contract: Contract, instance: string): string =>
  `tandem-${slug(contract.spec.name)}-${instance}`;

/** The name by which the members find rank 0; within the cluster's search domains. */
export const leaderName = (contract: Contract, { instance, namespace }: Slot): string =>
  `${serviceName(contract, instance)}.${namespace}.svc`;

/** Headless and with addresses that are not ready: peers must find a leader that is ready only once they have joined. */
export function serviceOf(contract: Contract, { instance, members, portBase }: Slot): KubeObject {
  const meta = ownedMeta(serviceName(contract, instance), [contract]);
  return sealed({
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      ...meta,
      labels: { ...meta.labels, [LABEL.instance]: instance },
      annotations: {
        [STATUS.members]: members.join(","),
        ...(portBase === undefined ? {} : { [STATUS.portBase]: String(portBase) }),
      },
    },
    spec: {
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: { [LABEL.instance]: instance, [LABEL.nodeRank]: "0" },
      ports: [{ name: "dp-rpc", port: portBase ?? ENGINE_PORTS.dpRpc, protocol: "TCP" }],
    },
  });
}

/** Written by us together with the lifting of the gate; what else stands on a pod came from its template. */
const carriesRecord = (pod: Pod): boolean => !isGated(pod) && membersOf(pod).includes(pod.metadata.uid ?? "");

/** Slots as Services record them, and those of which only pods still tell. */
export function slotsOf(services: readonly KubeObject[], pods: readonly Pod[]): readonly Slot[] {
  const slots = new Map<string, Slot>();
  for (const object of [...services, ...pods.filter(carriesRecord)]) {
    const slot = slotOf(object);
    if (slot !== undefined && !slots.has(slotKey(slot))) slots.set(slotKey(slot), slot);
  }
  return [...slots.values()];
}
