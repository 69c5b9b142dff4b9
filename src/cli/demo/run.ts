/** The demo's traffic: engines, router and gateway are started, the requests sent twice, once for each policy. */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { createEngineClient } from "../../router/disagg/client.ts";
import { startExtProcServer } from "../../router/extproc/server.ts";
import type { LocalCluster } from "../../simulator/cluster.ts";
import { startFrontend, type Frontend } from "../../simulator/gateway/frontend.ts";
import { startPageServer } from "../../telemetry/server.ts";
import { processEnvironment } from "../input.ts";
import type { RolePorts } from "../roles/ports.ts";
import { startRouterRole } from "../roles/router.ts";
import { roundRobinRouter } from "./baseline.ts";
import type { DemoOutcome } from "./check.ts";
import { resetCaches, startFleet, stopFleet, type PodEngine } from "./fleet.ts";
import { manifestPath } from "./manifests.ts";
import { heading, resultHeader, resultLine, type Print } from "./report.ts";
import { demoRequests, sendAll, sendChat, warmUpRequests, type DemoRequest, type DemoResult } from "./traffic.ts";

export interface RunOptions {
  readonly cluster: LocalCluster;
  readonly ports: RolePorts;
  readonly print: Print;
  /** Called with the outcome while all still runs. */
  readonly whileRunning: (outcome: DemoOutcome, at: DemoUrls, example: DemoRequest) => Promise<void>;
}

/** Where requests go, and where the router says why they went on from there. */
export interface DemoUrls {
  readonly requests: string;
  readonly admin: string;
}

const REQUESTS = 20;

export async function runTraffic({ cluster, ports, print, whileRunning }: RunOptions): Promise<DemoOutcome> {
  const fleet = await startFleet(cluster, ports);
  const endpoints = fleet.map(({ endpoint }) => endpoint);
  const router = await startRouterRole(ports, { endpoints: () => endpoints, synced: () => true });
  await router.scraper.pollNow();
  const admin = await startPageServer({ host: "127.0.0.1", port: 0 }, router.pages ?? {});
  const frontend = await frontendOf(router.address, endpoints);
  const model = endpoints[0]?.models[0] ?? "";
  const requests = demoRequests(model, REQUESTS);
  print(heading(3, `Routing: ${REQUESTS} requests through ${frontend.name}`));
  print(resultHeader());
  const send = (request: DemoRequest): Promise<DemoResult> => sendChat(frontend.url, request, ports.clock);
  await sendAll(warmUpRequests(model), send);
  const results = await sendAll(requests, send, (result) => print(resultLine(result, fleet)));
  const baseline = await roundRobin(fleet, requests, ports);
  const outcome = { fleet, results, baseline, frontend: frontend.name };
  const [example] = requests;
  const at = { requests: frontend.url, admin: `http://${admin.address}` };
  if (example !== undefined) await whileRunning(outcome, at, example);
  await frontend.stop();
  await admin.stop();
  await router.stop();
  await stopFleet(fleet);
  return outcome;
}

/** The same requests by turns, through the same gateway and ext_proc server; engines start with empty caches again. */
async function roundRobin(
  fleet: readonly PodEngine[],
  requests: readonly DemoRequest[],
  { config, log, metrics, clock, timers }: RolePorts,
): Promise<DemoResult[]> {
  await resetCaches(fleet);
  const endpoints = fleet.map(({ endpoint }) => endpoint);
  const client = createEngineClient();
  const router = roundRobinRouter(endpoints, client);
  const { maxStreams, maxBufferedBytes } = config.router;
  const options = { router, maxStreams, maxBufferedBytes, clock, timers, log, metrics };
  const server = await startExtProcServer({ host: "127.0.0.1", port: 0 }, options);
  const frontend = await frontendOf(server.address, endpoints);
  const send = (request: DemoRequest): Promise<DemoResult> => sendChat(frontend.url, request, clock);
  await sendAll(warmUpRequests(endpoints[0]?.models[0] ?? ""), send);
  const results = await sendAll(requests, send);
  await frontend.stop();
  await server.stop(0);
  await client.close();
  return results;
}

const frontendOf = (router: string, endpoints: readonly Endpoint[]): Promise<Frontend> =>
  startFrontend({
    router,
    decode: endpoints.filter(({ role }) => role !== "prefill").map(({ address }) => address),
    environment: processEnvironment(),
    shippedConfig: manifestPath("envoy", "light.yaml"),
  });
