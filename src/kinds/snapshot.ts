/**
 * What is known of the cluster at one moment: the only thing that decisions about it may read.
 *
 * In production the reflectors fill it; `tandem admit`, `tandem demo` and tests build it from files.
 */
import type { HyperNode, KubeObject, Namespace, Node, Pod, Workload } from "./kube.ts";

/** Which optional APIs the server has. */
export interface InstalledApis {
  /** Volcano's `scheduling.volcano.sh/v1beta1` PodGroup. */
  readonly podGroups: boolean;
  /**
   * Fields of its spec that the installed CRD has, as `networkTopology.highestTierName`; undefined where nobody looked.
   * The server drops fields that it does not know, without a word.
   */
  readonly podGroupFields?: ReadonlySet<string>;
  /** Volcano's `topology.volcano.sh/v1alpha1` HyperNode. */
  readonly hyperNodes: boolean;
}

export interface ClusterSnapshot {
  readonly workloads: readonly Workload[];
  readonly pods: readonly Pod[];
  readonly nodes: readonly Node[];
  readonly hyperNodes: readonly HyperNode[];
  readonly namespaces: readonly Namespace[];
  /** PodGroups of Volcano that we own. */
  readonly podGroups: readonly KubeObject[];
  /** ConfigMaps that we own. */
  readonly configMaps: readonly KubeObject[];
  /** Services that we own: each records an instance over several pods. */
  readonly services: readonly KubeObject[];
  /** HorizontalPodAutoscalers, ScaledObjects and other autoscalers that name workloads, where they are known. */
  readonly autoscalers?: readonly KubeObject[];
  /** PodDisruptionBudgets, whoever made them; undefined where they are not watched. */
  readonly budgets?: readonly KubeObject[];
  readonly apis: InstalledApis;
}

export const EMPTY_SNAPSHOT: ClusterSnapshot = {
  workloads: [],
  pods: [],
  nodes: [],
  hyperNodes: [],
  namespaces: [],
  podGroups: [],
  configMaps: [],
  services: [],
  apis: { podGroups: false, hyperNodes: false },
};
