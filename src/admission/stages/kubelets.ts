/** What every kubelet of the cluster can do, by the oldest of them: pods may come to any node. */
import type { Node } from "../../kinds/kube.ts";

/** Release of Kubernetes 1.x. */
const minorOf = ({ status }: Node): number | undefined => {
  const minor = /^v?1\.(\d{1,3})\./.exec(status?.nodeInfo?.kubeletVersion ?? "")?.[1];
  return minor === undefined ? undefined : Number(minor);
};

/** Snapshots are many, lists of nodes few: a list that changed is another list. */
const oldest = new WeakMap<readonly Node[], number>();

function oldestOf(nodes: readonly Node[]): number {
  const known = oldest.get(nodes);
  if (known !== undefined) return known;
  const found = nodes.reduce((least, node) => Math.min(least, minorOf(node) ?? Infinity), Infinity);
  oldest.set(nodes, found);
  return found;
}

/** `preStop.sleep` is on from here on (KEP 3960: alpha and off in 1.29, stable in 1.34); before, the API server drops it. */
const SLEEP_SINCE = 30;

/**
 * True where `preStop.sleep` is accepted and obeyed. No kubelet is newer than its API server, so that the oldest tells of
 * both; with no version known, as offline, the cluster counts as new enough.
 */
export const kubeletsSleep = (nodes: readonly Node[]): boolean => oldestOf(nodes) >= SLEEP_SINCE;
