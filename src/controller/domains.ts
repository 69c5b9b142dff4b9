/**
 * Where the pods of a model with prefill engines lie in the topology, written to each as an annotation: the router tells
 * distances by it, and so needs neither Nodes nor HyperNodes. Decided from the pods' nodes and the tree; nothing is moved
 * or placed.
 */
import { isBound } from "../gang/devices.ts";
import { annotationOf, keyOf, labelOf, type Pod } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { changed } from "../kinds/verdict.ts";
import type { Domain, TopologyTree } from "../topology/tree.ts";
import type { Action } from "./action.ts";
import type { Acts } from "./contracts.ts";

/** One patch for each pod whose annotation is not what the tree says; `tree` is asked for only where a pod needs it. */
export function domainActions(pods: readonly Pod[], tree: () => TopologyTree, acts: Acts): readonly Action[] {
  const live = pods.filter((pod) => isOurs(pod) && acts(pod.metadata.namespace ?? ""));
  const split = new Set(live.filter((pod) => labelOf(pod, LABEL.role) === "prefill").map(modelOf));
  const placed = live.filter((pod) => split.has(modelOf(pod)));
  if (placed.length === 0) return [];
  const known = tree();
  return placed.flatMap((pod) => {
    const path = pathOf(known.leafOf(pod.spec.nodeName ?? ""));
    return path === annotationOf(pod, STATUS.domains) ? [] : [annotate(pod, path)];
  });
}

/** Where nobody prefills for others, nothing travels. */
const modelOf = (pod: Pod): string => `${pod.metadata.namespace ?? ""}/${labelOf(pod, LABEL.model) ?? ""}`;

const isOurs = (pod: Pod): boolean =>
  isBound(pod) && labelOf(pod, LABEL.model) !== undefined && pod.metadata.deletionTimestamp === undefined;

/** Names of the domains that the node lies in, the widest first, without the root; undefined where there are none. */
function pathOf(leaf: Domain): string | undefined {
  const names: string[] = [];
  for (let at = leaf; at.parent !== undefined; at = at.parent) names.unshift(at.name);
  return names.length === 0 ? undefined : names.join("/");
}

function annotate(pod: Pod, path: string | undefined): Action {
  const message = `pod ${keyOf(pod)} lies in ${path ?? "no domain"}`;
  return {
    do: "patch",
    key: `domains/${keyOf(pod)}`,
    verdict: changed("PodLocated", message, { subject: keyOf(pod) }),
    about: [],
    kind: "Pod",
    ref: refOf(pod),
    type: "merge",
    // The uid makes the patch of a pod that was replaced meanwhile a conflict.
    body: { metadata: { uid: pod.metadata.uid, annotations: { [STATUS.domains]: path ?? null } } },
  };
}
