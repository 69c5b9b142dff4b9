/** The Pods that Kubernetes' controllers make of a workload: names, owner, labels. Before admission. */
import { createHash } from "node:crypto";
import { labelOf, type OwnerReference, type Pod, type Workload } from "../kinds/kube.ts";
import { LWS } from "../kinds/names.ts";
import { hasEnded } from "../gang/devices.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { groupSize } from "../workload/instance.ts";
import { groupPod } from "../workload/sample.ts";
import { podFromTemplate } from "../workload/template.ts";

const TEMPLATE_HASH = "pod-template-hash";

/** Kubernetes' alphabet of generated names: no vowels, and nothing that looks like another letter. */
const ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

/** Letters of that alphabet, always the same for the same text. */
function letters(text: string, length: number): string {
  const digest = createHash("sha256").update(text).digest();
  return Array.from({ length }, (_, index) => ALPHABET[(digest[index] ?? 0) % ALPHABET.length] ?? "").join("");
}

/** A uid in the form of the API server's, always the same for the same text. */
export function uidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
}

/** The pods that are missing to the replicas of a workload, beside those that exist. */
export function podsOf(workload: Workload, existing: readonly Pod[]): readonly Pod[] {
  const own = existing.filter((pod) => isOwn(workload, pod));
  const missing = Math.max(0, (workload.spec.replicas ?? 1) * podsOfReplica(workload) - own.length);
  const taken = new Set(own.map(({ metadata }) => metadata.name));
  const make = MAKERS[workload.kind] ?? replica;
  const pods: Pod[] = [];
  for (let index = 0; pods.length < missing; index++) {
    const pod = make(workload, index);
    if (!taken.has(pod.metadata.name)) pods.push(pod);
  }
  return pods;
}

/** A replica of a LeaderWorkerSet is a group. */
const podsOfReplica = (workload: Workload): number =>
  workload.kind === "LeaderWorkerSet" ? (groupSize(workload) ?? 1) : 1;

function isOwn({ metadata, spec }: Workload, pod: Pod): boolean {
  const { selector } = spec;
  const sameNamespace = (pod.metadata.namespace ?? "default") === (metadata.namespace ?? "default");
  const group = labelOf(pod, LWS.name);
  if (group !== undefined) return sameNamespace && !hasEnded(pod) && group === metadata.name;
  return sameNamespace && !hasEnded(pod) && selector !== undefined && selectorMatches(selector, pod.metadata.labels);
}

/** A pod of a Deployment, owned by the ReplicaSet of its template. */
function replica(workload: Workload, index: number): Pod {
  const hash = letters(JSON.stringify(workload.spec.template), 10);
  const set = `${workload.metadata.name ?? ""}-${hash}`;
  const pod = owned(workload, `${set}-${letters(`${set}/${index}`, 5)}`, { kind: "ReplicaSet", name: set });
  pod.metadata.labels = { ...pod.metadata.labels, [TEMPLATE_HASH]: hash };
  return pod;
}

/** A pod of a StatefulSet. */
function ordinal(workload: Workload, index: number): Pod {
  const name = workload.metadata.name ?? "";
  return owned(workload, `${name}-${index}`, { kind: "StatefulSet", name });
}

/** A pod of a LeaderWorkerSet: leaders are pods of its own StatefulSet, workers of one for each group. */
function member(workload: Workload, index: number): Pod {
  const size = podsOfReplica(workload);
  const pod = groupPod(workload, Math.floor(index / size), index % size);
  const set = (pod.metadata.name ?? "").replace(/-\d+$/, "");
  return owned(workload, pod.metadata.name ?? "", { kind: "StatefulSet", name: set }, pod);
}

const MAKERS: Readonly<Record<string, (workload: Workload, index: number) => Pod>> = {
  StatefulSet: ordinal,
  LeaderWorkerSet: member,
};

function owned(
  workload: Workload,
  name: string,
  owner: Pick<OwnerReference, "kind" | "name">,
  pod = podFromTemplate(workload, name),
): Pod {
  const namespace = workload.metadata.namespace ?? "default";
  const reference = { apiVersion: "apps/v1", ...owner, uid: uidOf(`${owner.kind}/${namespace}/${owner.name}`) };
  pod.metadata.namespace = namespace;
  pod.metadata.uid = uidOf(`Pod/${namespace}/${name}`);
  pod.metadata.ownerReferences = [{ ...reference, controller: true }];
  return { ...pod, status: { phase: "Pending" } };
}
