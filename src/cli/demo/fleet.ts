/** Simulated engines for the pods of the local cluster, each on a loopback port of its own. */
import type { Connector, Endpoint } from "../../kinds/endpoint.ts";
import type { Pod } from "../../kinds/kube.ts";
import { startEngine, type RunningEngine } from "../../simulator/engine/server.ts";
import type { LocalCluster } from "../../simulator/cluster.ts";
import type { PairConnector } from "../../simulator/engine/transfer.ts";
import { endpointsOf } from "../../workload/endpoint.ts";
import type { RolePorts } from "../roles/ports.ts";

export interface PodEngine {
  readonly pod: Pod;
  readonly endpoint: Endpoint;
  readonly engine: RunningEngine;
}

/** Kubelet's part: an address and readiness, so that the real discovery finds the pod. */
const started = (pod: Pod): Pod => ({
  ...pod,
  status: { ...pod.status, phase: "Running", podIP: "127.0.0.1", conditions: [{ type: "Ready", status: "True" }] },
});

/** Starts an engine for every endpoint of every placed pod, and marks the pods as running. */
export async function startFleet(cluster: LocalCluster, ports: RolePorts): Promise<PodEngine[]> {
  const fleet: PodEngine[] = [];
  for (const waiting of cluster.snapshot().pods.filter((pod) => pod.spec.nodeName !== undefined)) {
    const pod = started(waiting);
    cluster.updatePod(pod);
    for (const endpoint of endpointsOf(pod)) fleet.push(await startOne(pod, endpoint, ports));
  }
  return fleet;
}

async function startOne(pod: Pod, endpoint: Endpoint, ports: RolePorts): Promise<PodEngine> {
  const { connector, engine: engineName, tensorParallel, blockSize } = endpoint.compatibility;
  const engine = await startEngine(
    {
      host: "127.0.0.1",
      port: 0,
      models: endpoint.models,
      connector: spoken(connector, engineName),
      role: endpoint.role,
      ...(tensorParallel === undefined ? {} : { tensorParallel }),
      ...(blockSize === undefined ? {} : { blockSize }),
      ...(endpoint.events === undefined ? {} : { events: { format: engineName === "sglang" ? "sglang" : "vllm-map" } }),
    },
    ports,
  );
  return { pod, endpoint: { ...endpoint, ...portsOf(engine) }, engine };
}

/** All pods share one loopback address here, so the ports tell them apart. */
const portsOf = ({ address, bootstrapPort, events }: RunningEngine): Partial<Endpoint> => ({
  address,
  ...(bootstrapPort === 0 ? {} : { kvPort: bootstrapPort }),
  ...(events === undefined ? {} : { events: { ...events, ranks: 1 } }),
});

/** What an engine of the demo speaks: its Pod's connector, and NIXL's where that has none. */
function spoken(connector: Connector, engine: string): PairConnector {
  if (connector === "none") return "nixl";
  return connector === "mooncake" && engine === "vllm" ? "mooncake-bootstrap" : connector;
}

export const stopFleet = async (fleet: readonly PodEngine[]): Promise<void> => {
  await Promise.all(fleet.map(({ engine }) => engine.stop()));
};

/** Every engine forgets its prefix cache, so that two policies start alike. */
export const resetCaches = async (fleet: readonly PodEngine[]): Promise<void> => {
  await Promise.all(
    fleet.map(({ engine }) => fetch(`http://${engine.address}/reset_prefix_cache`, { method: "POST" })),
  );
};
