/** Two gangs and room for one of them: who gets it, and what the other holds, seen from the first pod to the last. */
import { annotationOf, type KubeObject } from "../../../src/kinds/kube.ts";
import { STATUS, VOLCANO } from "../../../src/kinds/names.ts";
import type { Cluster } from "./control-plane.ts";
import { createGangs, isWhole, removeGang, standing, type GangShape, type Standing } from "./gangs.ts";
import { eventually } from "./process.ts";

export interface ContestOptions {
  readonly namespace: string;
  /** Number of the run: names of its own for each. */
  readonly run: number;
  /** Who holds the gangs together: gates under kube-scheduler, or Volcano by its PodGroups. */
  readonly path: "gates" | "volcano";
}

export interface Contest {
  readonly winner: string;
  /** Most pods of the loser that were ever seen bound. */
  readonly loserBound: number;
  /** Pods of the loser beyond its first: what was given back. */
  readonly loserRemade: number;
  readonly wonAfterMs: number;
}

/** Prefill of one pod and decode of two, each a whole node: three nodes are room for exactly one. */
export const CONTEST_NODES = 3;
const shapeOf = ({ run, path }: ContestOptions, name: string): GangShape => ({
  name: `${name}-${run}`,
  prefill: 1,
  decode: 2,
  ...(path === "volcano" ? { annotations: { "tandem.sh/scheduler": "volcano" } } : {}),
});

/** Runs one contest on an otherwise idle cluster, and clears up. */
export async function contest(cluster: Cluster, options: ContestOptions): Promise<Contest> {
  const { namespace } = options;
  const gangs = ["one", "other"].map((name) => shapeOf(options, name));
  const begun = performance.now();
  const bound = new Map<string, number>();
  const remade = new Map<string, Set<string>>();
  const look = async (): Promise<readonly Standing[]> => {
    const seen = await Promise.all(gangs.map(({ name }) => standing(cluster, namespace, name)));
    for (const [index, { name }] of gangs.entries()) {
      bound.set(name, Math.max(bound.get(name) ?? 0, seen[index]?.bound.length ?? 0));
      const uids = remade.get(name) ?? new Set<string>();
      for (const pod of seen[index]?.pods ?? []) uids.add(pod.metadata.uid ?? "");
      remade.set(name, uids);
    }
    return seen;
  };
  await createGangs(cluster, namespace, gangs);
  const winner = await eventually("one of two gangs runs whole", async () => {
    const seen = await look();
    const at = seen.findIndex((one, index) => isWhole(one, gangs[index] as GangShape));
    if (at < 0) throw new Error(seen.map(({ bound, pods }) => `${bound.length} of ${pods.length} bound`).join(", "));
    return at;
  });
  const wonAfterMs = Math.round(performance.now() - begun);
  const [won, lost] = [gangs[winner] as GangShape, gangs[1 - winner] as GangShape];
  await eventually(`${lost.name} was looked at and refused`, async () => {
    const seen = (await look())[1 - winner] as Standing;
    return (await refused(cluster, options, lost, seen)) ? true : undefined;
  });
  await removeGang(cluster, namespace, lost.name);
  await removeGang(cluster, namespace, won.name);
  return {
    winner: won.name,
    loserBound: bound.get(lost.name) ?? 0,
    loserRemade: (remade.get(lost.name)?.size ?? 0) - lost.prefill - lost.decode,
    wonAfterMs,
  };
}

/** Whoever holds the gang has seen all of its pods and found no room: no more will come of it while nothing changes. */
async function refused(
  cluster: Cluster,
  { path, namespace }: ContestOptions,
  { prefill, decode }: GangShape,
  { pods }: Standing,
): Promise<boolean> {
  if (pods.length < prefill + decode) return false;
  if (path === "gates") return pods.every((pod) => annotationOf(pod, STATUS.waiting) !== undefined);
  const name = annotationOf(pods[0] as KubeObject, VOLCANO.groupName) ?? "";
  const group = await cluster.api.get(`/apis/${VOLCANO.podGroupApiVersion}/namespaces/${namespace}/podgroups/${name}`);
  const status = group["status"] as { conditions?: { type: string; status: string; reason: string }[] } | undefined;
  return (
    status?.conditions?.some(
      ({ type, status, reason }) => type === "Unschedulable" && status === "True" && reason === "NotEnoughResources",
    ) ?? false
  );
}

/**
 * The same two services as Volcano holds them by itself: a PodGroup for each ReplicaSet, nothing of Tandem's. Gives the
 * pods that each has bound once all room is taken.
 */
export async function nativeContest(
  cluster: Cluster,
  { namespace, run }: Omit<ContestOptions, "path">,
): Promise<number[]> {
  const gangs = ["one", "other"].map((name): GangShape => ({
    ...shapeOf({ namespace, run, path: "volcano" }, name),
    labelled: false,
    podSpec: { schedulerName: VOLCANO.schedulerName },
  }));
  await createGangs(cluster, namespace, gangs);
  const bound = await eventually(`${CONTEST_NODES} pods are bound`, async () => {
    const seen = await Promise.all(gangs.map(({ name }) => standing(cluster, namespace, name)));
    const counts = seen.map((one) => one.bound.length);
    return counts.reduce((sum, count) => sum + count, 0) === CONTEST_NODES ? counts : undefined;
  });
  for (const { name } of gangs.toReversed()) await removeGang(cluster, namespace, name);
  return bound;
}
