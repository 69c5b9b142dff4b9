/** What roles share of the API server: one client, one set of watches for the kinds that the running roles read. */
import { createKubeClient, type KubeClient } from "../../cluster/client.ts";
import {
  startCluster,
  watchCertificates,
  type Cluster,
  type SourceName,
  type Watching,
} from "../../cluster/sources.ts";
import type { Config } from "../../config/schema.ts";
import type { KubeObject } from "../../kinds/kube.ts";
import { poolRef } from "./discovery.ts";
import { roleNames, type RoleName } from "./names.ts";
import type { RolePorts } from "./ports.ts";

export interface ClusterAccess {
  readonly client: KubeClient;
  readonly cluster: Cluster;
  /** The Secret of the certificates, watched on its own. */
  readonly certificates: () => Watching<KubeObject>;
  /** Everything was listed, and the server was heard of every kind of late: what is decided is decided on news. */
  readonly fresh: () => boolean;
  readonly stop: () => Promise<void>;
}

/** A watch is begun anew every 30 s, or after 45 s of silence; what does not come back then is not ready within a minute. */
export const FRESH_MS = 55_000;

/** What any decision about workloads is made from. */
const WORKLOADS = [
  ...(["deployments", "statefulSets", "leaderWorkerSets"] as const),
  ...(["namespaces", "hyperNodes", "nodes", "configMaps"] as const),
];
const SCALERS = ["horizontalPodAutoscalers", "scaledObjects", "podAutoscalers", "variantAutoscalings"] as const;

/** The kinds each role reads. The router reads labelled pods alone: a cluster-wide watch would stall its event loop. */
const KINDS: Readonly<Record<RoleName, readonly SourceName[]>> = {
  admission: [...WORKLOADS, ...SCALERS],
  extender: [...WORKLOADS, "pods"],
  controller: [...WORKLOADS, ...SCALERS, "pods", "podGroups", "podGroupDefinitions", "services", "budgets"],
  router: ["pods"],
  autoscaler: [
    ...(["deployments", "statefulSets", "leaderWorkerSets", "namespaces"] as const),
    ...SCALERS,
    ...(["pods", "budgets"] as const),
  ],
};

function kindsOf(roles: ReadonlySet<RoleName>, { admission, router }: Config): readonly SourceName[] {
  const kinds = new Set(roleNames.filter((role) => roles.has(role)).flatMap((role) => KINDS[role]));
  // Their labels say which of them are routed to.
  if (roles.has("router") && admission.optIn !== "") kinds.add("namespaces");
  if (roles.has("router") && router.inferencePool !== "") kinds.add("inferencePools");
  return [...kinds];
}

export async function connectCluster(ports: RolePorts, roles: ReadonlySet<RoleName>): Promise<ClusterAccess> {
  const { config, clock, timers, random, log, metrics } = ports;
  const client = await createKubeClient(config.cluster, { clock });
  const reflector = { transport: client.transport, clock, timers, random, log, metrics };
  const kinds = kindsOf(roles, config);
  // The extender counts foreign pods, which hold devices too; the controller labels pods that have no label yet.
  const few = !roles.has("extender") && !roles.has("controller");
  const pool = roles.has("router") ? poolRef(config.router.inferencePool) : undefined;
  const pods = pool === undefined ? { labelledPods: few } : { pool, ...(few ? { podsOf: pool.namespace } : {}) };
  const cluster = startCluster({ ...reflector, config: config.cluster, kinds, ...pods });
  const watchings: Watching<KubeObject>[] = [];
  return {
    client,
    cluster,
    certificates: () => {
      const watching = watchCertificates(reflector, config);
      watchings.push(watching);
      return watching;
    },
    fresh: () => cluster.synced() && cluster.ageMs() <= FRESH_MS,
    stop: async () => {
      await Promise.all([cluster.stop(), ...watchings.map((watching) => watching.stop())]);
      client.close();
    },
  };
}
