/**
 * The local cluster of `tandem demo` and `tandem place`: objects from files, and what Kubernetes would make of them.
 *
 * Pure state, no server. Workloads and Pods pass the real admission; Pods are made as the deployment controller makes
 * them; a node is found as kube-scheduler finds one: its own filters, then Tandem's filter and prioritize, pod by pod,
 * each bound before the next is looked at. It runs nothing: addresses and readiness are the caller's to set.
 */
import { admitObject, admitPod } from "../admission/admit.ts";
import { admissionSettings, type Settings } from "../admission/stage.ts";
import type { Config } from "../config/schema.ts";
import { filterNodes, MAX_SCORE, prioritizeNodes, refusalsByNode, type Scored } from "../extender/decide.ts";
import { ExtenderMemo, type ClusterView } from "../extender/view.ts";
import { isBound, hasEnded, scarcest } from "../gang/devices.ts";
import { nodeVerdict } from "../gang/fit.ts";
import {
  keyOf,
  type HyperNode,
  type KubeObject,
  type Namespace,
  type Node,
  type Pod,
  type Workload,
} from "../kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../kinds/snapshot.ts";
import { allowed, denied, isDenied, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { byText, type TopologyTree } from "../topology/tree.ts";
import { SCALER_KINDS } from "../workload/scalers.ts";
import { ADMITTED_KINDS, isTemplate, templateOf } from "../workload/template.ts";
import { withGates } from "./gates.ts";
import { withInstances } from "./instances.ts";
import { podsOf, uidOf } from "./pods.ts";

export { topologyPicture } from "../topology/picture.ts";

export type LocalConfig = Pick<Config, "admission" | "topology">;

/** An object before and after admission. */
export interface Admitted {
  readonly before: KubeObject;
  readonly after: KubeObject;
  readonly verdicts: readonly Verdict[];
  /** Denied objects are not stored. */
  readonly stored: boolean;
}

/** What became of one pod in the scheduler. */
export interface Scheduled {
  /** With `spec.nodeName` where a node was found. */
  readonly pod: Pod;
  readonly node: string | null;
  /** Why this node, or why none. */
  readonly verdict: Verdict;
  /** Every node that was refused, by the scheduler's own filters or by Tandem's. */
  readonly refused: readonly Verdict[];
}

export class LocalCluster {
  readonly #config: LocalConfig;
  readonly #memo: ExtenderMemo;
  #snapshot: ClusterSnapshot;

  /** Nodes, HyperNodes, Namespaces, existing Pods and workloads, as given; kinds it does not know are left out. */
  constructor(objects: readonly KubeObject[], config: LocalConfig) {
    this.#config = config;
    this.#memo = new ExtenderMemo({ topology: config.topology, devices: configuredDevices(config.admission) });
    this.#snapshot = snapshotOfObjects(objects);
  }

  snapshot(): ClusterSnapshot {
    return this.#snapshot;
  }

  tree(): TopologyTree {
    return this.#view().tree;
  }

  /** Admits every workload and stores what comes of it; a denied one is dropped. In the order given. */
  admitWorkloads(): readonly Admitted[] {
    const admitted = this.#snapshot.workloads.map((before) =>
      // The objects are all there are: whoever lacks a partner is told.
      this.#admitted(before, admitObject(before, { ...this.#context(), settled: true })),
    );
    const workloads = admitted.filter(({ stored }) => stored).map(({ after }) => after as Workload);
    this.#snapshot = { ...this.#snapshot, workloads };
    return admitted;
  }

  /** Makes and admits the pods that are missing to the workloads' replicas. */
  createPods(): readonly Admitted[] {
    const admitted: Admitted[] = [];
    for (const workload of this.#snapshot.workloads)
      for (const before of podsOf(workload, this.#snapshot.pods)) {
        const one = this.#admitted(before, admitPod(before, this.#context()));
        admitted.push(one);
        if (one.stored) this.#put(one.after as Pod);
      }
    return admitted;
  }

  /** Schedules every pod that waits, in the order of their creation; pods of an instance once all of them are there. */
  schedule(): readonly Scheduled[] {
    const { snapshot, told } = withGates(withInstances(this.#snapshot, this.#config), this.#config);
    this.#snapshot = snapshot;
    const waiting = this.#snapshot.pods.filter((pod) => !isBound(pod) && !hasEnded(pod));
    return waiting.map((pod) => held(pod, told(pod)) ?? this.#schedule(pod));
  }

  /** Replaces a pod, as kubelet does when it writes status. */
  updatePod(pod: Pod): void {
    this.#put(pod);
  }

  #admitted(before: KubeObject, result: { object: KubeObject; verdicts: readonly Verdict[] }): Admitted {
    const stored = !result.verdicts.some(isDenied);
    return { before, after: result.object, verdicts: result.verdicts, stored };
  }

  #context(): { snapshot: ClusterSnapshot; settings: Settings } {
    return { snapshot: this.#snapshot, settings: admissionSettings(this.#config) };
  }

  #view(): ClusterView {
    return this.#memo.view(this.#snapshot);
  }

  #put(pod: Pod): void {
    const { pods } = this.#snapshot;
    const at = pods.findIndex((other) => keyOf(other) === keyOf(pod));
    this.#snapshot = { ...this.#snapshot, pods: at === -1 ? [...pods, pod] : pods.with(at, pod) };
  }

  #schedule(pod: Pod): Scheduled {
    const view = this.#view();
    const own = [...view.nodes.values()].map((node) => nodeVerdict(pod, node, view.cells.demand(pod), view.ledger));
    const open = own.filter((verdict) => !isDenied(verdict)).map(({ subject }) => subject ?? "");
    const filtered = filterNodes(pod, open, view);
    const { fit } = filtered;
    const refused = [...refusalsByNode(filtered)].map(([subject, { verdict }]) => ({ ...verdict, subject }));
    const all = [...own.filter(isDenied), ...refused];
    const best = this.#best(pod, fit, view);
    if (best === undefined) return waits(pod, nowhere(all, own.length), all);
    const bound = { ...pod, spec: { ...pod.spec, nodeName: best.host } };
    this.#put(bound);
    const score = `score ${best.score} of ${MAX_SCORE}, ${fit.length} of ${own.length} nodes fit`;
    const verdict = allowed("Placed", `${best.verdict.message}; ${score}`, rest(best));
    return { pod: bound, node: best.host, verdict, refused: all };
  }

  /** Highest score; among equals the emptiest node, as kube-scheduler's default scoring spreads. */
  #best(pod: Pod, names: readonly string[], view: ClusterView): Scored | undefined {
    const resource = scarcest([view.cells.demand(pod)]);
    const free = (host: string): number => view.ledger.free(host, resource);
    return prioritizeNodes(pod, names, view).toSorted(
      (a, b) => b.score - a.score || free(b.host) - free(a.host) || byText(a.host, b.host),
    )[0];
  }
}

const rest = ({ host, verdict }: Scored): { subject: string; numbers: Readonly<Record<string, number>> } => ({
  subject: host,
  numbers: verdict.numbers ?? {},
});

/** A pod behind gates, with what is said of its gang. */
function held(pod: Pod, why: Verdict | undefined): Scheduled | undefined {
  const gates = (pod.spec.schedulingGates ?? []).map(({ name }) => name);
  if (gates.length === 0) return undefined;
  const about = why === undefined ? "" : `: ${why.message}`;
  return waits(pod, denied("GangIncomplete", `held by ${gates.join(", ")}${about}`), []);
}

const waits = (pod: Pod, verdict: Verdict, refused: readonly Verdict[]): Scheduled => ({
  pod,
  node: null,
  verdict,
  refused,
});

/** `0 of 16 nodes fit: 12 NodeLacksDevices (needs 8 nvidia.com/gpu, 4 of 8 free), 4 NodeOutsideDomain (...)` */
function nowhere(refused: readonly Verdict[], nodes: number): Verdict {
  const groups = [...Map.groupBy(refused, ({ reason }) => reason)].sort(([, a], [, b]) => b.length - a.length);
  const reasons = groups.map(([reason, verdicts]) => `${verdicts.length} ${reason} (${verdicts[0]?.message ?? ""})`);
  return denied(groups[0]?.[0] ?? "NodeUnknown", `0 of ${nodes} nodes fit: ${reasons.join(", ") || "there are none"}`);
}

/**
 * A snapshot of objects from files; workloads and Pods without named containers are left out. Objects get the identity
 * that the API server would give them.
 */
export function snapshotOfObjects(objects: readonly KubeObject[]): ClusterSnapshot {
  const stored = objects.map(withIdentity);
  const of = <T extends KubeObject>(kind: string): T[] => stored.filter((object) => object.kind === kind) as T[];
  const hyperNodes = of<HyperNode>("HyperNode");
  return {
    ...EMPTY_SNAPSHOT,
    workloads: stored.filter(isWorkload),
    pods: of<Pod>("Pod").filter(isTemplate),
    nodes: of<Node>("Node"),
    hyperNodes,
    namespaces: of<Namespace>("Namespace"),
    podGroups: of("PodGroup"),
    configMaps: of("ConfigMap"),
    services: of("Service"),
    autoscalers: stored.filter(({ kind }) => SCALER_KINDS.includes(kind)),
    budgets: of("PodDisruptionBudget"),
    apis: { podGroups: false, hyperNodes: hyperNodes.length > 0 },
  };
}

const isWorkload = (object: KubeObject): object is Workload =>
  ADMITTED_KINDS.includes(object.kind) && templateOf(object) !== undefined;

const CLUSTER_SCOPED: ReadonlySet<string> = new Set(["Node", "HyperNode", "Namespace"]);

function withIdentity(object: KubeObject): KubeObject {
  const { metadata, kind } = object;
  const namespace = CLUSTER_SCOPED.has(kind) ? {} : { namespace: metadata.namespace ?? "default" };
  const uid = metadata.uid ?? uidOf(`${kind}/${namespace.namespace ?? ""}/${metadata.name ?? ""}`);
  return { ...object, metadata: { ...metadata, ...namespace, uid } };
}
