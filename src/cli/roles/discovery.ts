/** Where the router's endpoints come from in a cluster: labelled pods, or the members of one InferencePool. */
import type { ObjectRef } from "../../kinds/kube.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import { endpointsOfAll } from "../../workload/health.ts";
import { endpointsOfPool, inferencePool } from "../../workload/pool.ts";
import { routedNamespaces } from "../../workload/tenancy.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { RolePorts } from "./ports.ts";
import type { RouterRoleOptions } from "./router.ts";

/** `namespace/name` as the schema lets through; undefined where it is empty. */
export function poolRef(text: string): Required<Pick<ObjectRef, "namespace" | "name">> | undefined {
  const [namespace = "", name = ""] = text.split("/");
  return name === "" ? undefined : { namespace, name };
}

/** Old endpoints are better than none: a router goes on while the API server is silent, and its scraper finds the dead. */
export const discover = (access: ClusterAccess, config: RolePorts["config"]): RouterRoleOptions =>
  config.router.inferencePool === "" ? byLabel(access, config) : byPool(access);

/** Endpoints of the pods that may be routed to; decoded anew only when pods or namespaces changed. */
function byLabel({ cluster: { sources } }: ClusterAccess, config: RolePorts["config"]): RouterRoleOptions {
  const { pods, namespaces } = sources;
  const endpoints = remembered(
    () => [pods.snapshot().items, namespaces.snapshot().items] as const,
    ([pods, namespaces]) => {
      const routed = routedNamespaces({ optIn: config.admission.optIn, only: config.router.namespaces, namespaces });
      return endpointsOfAll(pods.filter(({ metadata }) => routed(metadata.namespace ?? "")));
    },
  );
  return { endpoints, synced: () => pods.synced() && namespaces.synced() };
}

/** Not ready while the pool does not exist: its gateway would send requests here that nobody can serve. */
function byPool({ cluster: { sources } }: ClusterAccess): RouterRoleOptions {
  const { pods, inferencePools } = sources;
  const endpoints = remembered(
    () => [pods.snapshot().items, inferencePools.snapshot().items] as const,
    ([pods, [object]]) => {
      const pool = object === undefined ? undefined : inferencePool(object);
      return pool === undefined ? [] : endpointsOfPool(pool, pods);
    },
  );
  const exists = (): boolean => inferencePools.synced() && inferencePools.snapshot().items.length > 0;
  return { endpoints, synced: () => pods.synced() && exists() };
}

/** The same list while the lists that it is made from are the same: readers compare. */
function remembered<S extends readonly unknown[]>(
  read: () => S,
  make: (from: S) => readonly Endpoint[],
): () => readonly Endpoint[] {
  let from: readonly unknown[] = [];
  let endpoints: readonly Endpoint[] = [];
  return () => {
    const now = read();
    if (now.every((list, index) => list === from[index])) return endpoints;
    from = now;
    endpoints = make(now);
    return endpoints;
  };
}
