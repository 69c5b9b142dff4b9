/** All that the autoscaler reads, over loopback: an engine's page, Prometheus, and what becomes of both in one observation. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { startObserving, type Observing } from "../../src/cli/roles/observing.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Pod, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { GROUP_SCALING, SCALING } from "../../src/workload/scaling.ts";

const LABELS = { "tandem.sh/model": "m", "tandem.sh/role": "both" };
const READER = {
  scaling: () => ({ ...SCALING, mode: "auto" as const }),
  group: () => GROUP_SCALING,
  contestedBy: () => undefined,
  lastScaled: () => undefined,
  isDraining: () => false,
};

/** Answers every request with what `text` gives for it. */
async function serve(t: Test, text: (path: string, body: string) => string): Promise<number> {
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => response.end(text(request.url ?? "", body)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

function clusterOf(port: number): ClusterSnapshot {
  const container = {
    name: "engine",
    image: "vllm/vllm-openai:v0.11.0",
    args: ["--model", "m", "--port", String(port)],
  };
  const template = { metadata: { labels: LABELS }, spec: { containers: [container] } };
  const workload: Workload = {
    ...{ apiVersion: "apps/v1", kind: "Deployment", spec: { replicas: 1, template } },
    metadata: { name: "w", namespace: "n", uid: "w", labels: LABELS },
  };
  const pod: Pod = {
    ...{ apiVersion: "v1", kind: "Pod", spec: { nodeName: "a", containers: [container] } },
    metadata: {
      ...{ name: "p", namespace: "n", uid: "p", labels: LABELS, creationTimestamp: new Date(0).toISOString() },
      ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true }],
    },
    status: { phase: "Running", podIP: "127.0.0.1", conditions: [{ type: "Ready", status: "True" }] },
  };
  return { ...EMPTY_SNAPSHOT, workloads: [workload], pods: [pod] };
}

async function until(
  observing: Observing,
  wanted: (group: ReturnType<Observing["observe"]>[number]) => boolean,
): Promise<void> {
  for (let tries = 0; !observing.observe("n/m").some(wanted); tries++) {
    if (tries > 1000) throw new Error("never seen");
    await sleep(10);
  }
}

t.test("an engine's page and Prometheus come to one observation", async (t) => {
  const page =
    "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\nvllm:prompt_tokens_total 10\nvllm:generation_tokens_total 4\n";
  const asked: string[] = [];
  const engine = await serve(t, (path) => (path === "/metrics" ? page : '{"data":[]}'));
  const prometheus = await serve(t, (path, body) => {
    asked.push(`${path} ${decodeURIComponent(body)}`);
    return '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"7"]}]}}';
  });
  const queries = { requests: 'r{at="$namespace/$group"}' };
  const config = loadConfig({
    text: JSON.stringify({
      autoscaler: { scrapeIntervalMs: 1000, prometheus: { url: `http://127.0.0.1:${prometheus}/`, queries } },
    }),
  });
  const snapshot = clusterOf(engine);
  const cluster = { snapshot: () => snapshot, serverNow: () => undefined };
  const observing = await startObserving(createPorts(config, SILENT_LOG), cluster, READER);
  t.teardown(() => observing.stop());
  t.match(observing.observe(), [{ group: "n/m", observation: { instances: [{ id: "p", state: "ready" }] } }]);
  t.same(observing.observe("n/other"), []);
  await until(observing, ({ observation }) => observation.instances[0]?.engine !== undefined);
  await until(observing, ({ observation }) => observation.routers.length === 1);
  const [{ observation }] = observing.observe("n/m") as [ReturnType<Observing["observe"]>[number]];
  t.match(observation.instances, [{ engine: { running: 3, waiting: 1, promptTokens: 10, generatedTokens: 4 } }]);
  t.match(observation.routers, [{ id: "prometheus", requests: 7, promptTokens: 0 }]);
  t.equal(asked[0], '/api/v1/query query=r{at="n/m"}');
});

t.test("a configuration that cannot be is refused by its key", async (t) => {
  const config = loadConfig({ flags: { "autoscaler.prometheus.url": "http://prometheus:9090" } });
  const cluster = { snapshot: () => EMPTY_SNAPSHOT, serverNow: () => undefined };
  const starting = startObserving(createPorts(config, SILENT_LOG), cluster, READER);
  await t.rejects(starting, /autoscaler\.prometheus\.queries\.requests/);
});
