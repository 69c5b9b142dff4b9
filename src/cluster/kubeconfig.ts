/**
 * Which cluster, with which credentials: the Kubernetes client library's KubeConfig (files, contexts, service account,
 * exec and OIDC plug-ins, proxies). Loaded only when a cluster is used, and only its configuration: the whole library is 15 MB of models that nothing here reads.
 */
import { Agent, type RequestOptions } from "node:https";
import { Agent as PlainAgent } from "node:http";
import { KubeError } from "../kinds/kube-error.ts";
import type { Connection } from "./transport.ts";

export interface Kubeconfig {
  connect(): Promise<Connection>;
  close(): void;
}

/** Below the 60 s after which load balancers drop silent connections. */
const KEEP_ALIVE = { keepAlive: true, keepAliveMsecs: 30_000 };

/** Reads the kubeconfig at `path`, or where it usually lies. Throws a KubeError that says what is missing. */
export async function loadKubeconfig(path: string): Promise<Kubeconfig> {
  const { KubeConfig } = await import("@kubernetes/client-node/dist/config.js");
  const config = new KubeConfig();
  try {
    if (path === "") config.loadFromDefault();
    else config.loadFromFile(path);
  } catch (error) {
    throw unusable(`${path === "" ? "kubeconfig" : path}: ${(error as Error).message}`);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw unusable(`no cluster in context "${config.getCurrentContext()}"`);
  // The library answers "no configuration anywhere" with this context on http://localhost:8080.
  if (config.getCurrentContext() === "loaded-context")
    throw unusable(
      "no kubeconfig, no $KUBECONFIG and no service account were found; set cluster.kubeconfig, or, for a router alone, router.endpoints.static",
    );
  return connector(config, new URL(cluster.server), cluster.proxyUrl !== undefined);
}

interface Authenticated {
  applyToHTTPSOptions(options: RequestOptions): Promise<void>;
}

/** The library's own agent is kept only for proxies: it opens a new TLS connection for every call. */
function connector(config: Authenticated, server: URL, proxied: boolean): Kubeconfig {
  const agent = server.protocol === "http:" ? new PlainAgent(KEEP_ALIVE) : new Agent(KEEP_ALIVE);
  return {
    connect: async () => {
      const options: Connection["options"] = {};
      await config.applyToHTTPSOptions(options);
      return { server, options: proxied ? options : { ...options, agent } };
    },
    close: () => agent.destroy(),
  };
}

const unusable = (message: string): KubeError => new KubeError({ status: 0, reason: "Unreachable", message });
