/** ClusterSnapshot from the sources: the same object until one of them changed, so that readers may cache by identity. */
import { annotationOf, type KubeObject } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Snapshot } from "../ports.ts";
import { DEFINED_FIELDS } from "./slim.ts";
import type { ClusterSources } from "./sources.ts";

const SCALERS = ["horizontalPodAutoscalers", "scaledObjects", "podAutoscalers", "variantAutoscalings"] as const;

/** Gives the function that reads the present snapshot. Costs one comparison a source while nothing changed. */
export function snapshotOf(sources: ClusterSources): () => ClusterSnapshot {
  let parts: readonly unknown[] = [];
  let current: ClusterSnapshot | undefined;
  const [workloads, autoscalers] = [joined<ClusterSnapshot["workloads"][number]>(), joined<KubeObject>()];
  return () => {
    const next = readAll(sources);
    const flat = [...Object.values<unknown>(next.items), next.apis.podGroups, next.apis.hyperNodes];
    if (current === undefined || flat.some((part, index) => part !== parts[index])) {
      const { deployments, statefulSets, leaderWorkerSets, ...others } = next.items;
      current = {
        ...combine(next),
        workloads: workloads([deployments.items, statefulSets.items, leaderWorkerSets.items]),
        autoscalers: autoscalers(SCALERS.map((name) => others[name].items)),
      };
      parts = flat;
    }
    return current;
  };
}

/** Lists end to end: the same list while none of them changed, though a pod did. What hangs on it is not made anew. */
function joined<T>(): (lists: readonly (readonly T[])[]) => readonly T[] {
  let before: readonly (readonly T[])[] = [];
  let all: readonly T[] = [];
  return (lists) => {
    if (lists.length !== before.length || lists.some((list, index) => list !== before[index])) all = lists.flat();
    before = lists;
    return all;
  };
}

type Items = { readonly [N in keyof ClusterSources]: ReturnType<ClusterSources[N]["snapshot"]> };

interface Reading {
  /** Snapshots are the same object while their version is. */
  readonly items: Items;
  readonly apis: ClusterSnapshot["apis"];
}

const readAll = (sources: ClusterSources): Reading => ({
  items: Object.fromEntries(
    Object.entries(sources).map(([name, source]: [string, { snapshot(): Snapshot<unknown> }]) => [
      name,
      source.snapshot(),
    ]),
  ) as unknown as Items,
  apis: {
    podGroups: sources.podGroups.installed(),
    ...fieldsOf(sources.podGroupDefinitions.snapshot().items[0]),
    hyperNodes: sources.hyperNodes.installed(),
  },
});

const fieldsOf = (definition: KubeObject | undefined): { podGroupFields?: ReadonlySet<string> } =>
  definition === undefined
    ? {}
    : { podGroupFields: new Set((annotationOf(definition, DEFINED_FIELDS) ?? "").split(",")) };

const combine = ({ items, apis }: Reading): Omit<ClusterSnapshot, "workloads" | "autoscalers"> => ({
  pods: items.pods.items,
  nodes: items.nodes.items,
  hyperNodes: items.hyperNodes.items,
  namespaces: items.namespaces.items,
  podGroups: items.podGroups.items,
  configMaps: items.configMaps.items,
  services: items.services.items,
  budgets: items.budgets.items,
  apis,
});
