import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { render, webhooksByUrl } from "../e2e/cluster/manifests.ts";
import { labelledDeployment } from "../e2e/cluster/load.ts";
import { withCluster } from "./cluster.ts";
import type { ScoreRow } from "./row.ts";
import { freePorts } from "../support/ports.ts";

const MOST_MS = 2100;
const WRITES = 10;
/** Until the API server has seen the webhook configurations. */
const SEEN_MS = 3000;

/** Takes connections and never says a word. */
async function startSilence(): Promise<{ port: number; calls: () => number; stop: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  let calls = 0;
  const server: Server = createServer((socket) => {
    calls++;
    sockets.add(socket.on("error", () => undefined).on("close", () => sockets.delete(socket)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    calls: () => calls,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function pointAt(cluster: Cluster, port: number): Promise<void> {
  await cluster.apply(webhooksByUrl(await render("overlays/dev"), `https://127.0.0.1:${port}`));
  await sleep(SEEN_MS);
}

const pathOf = (namespace: string, resource = "deployments"): string =>
  resource === "deployments"
    ? `/apis/apps/v1/namespaces/${namespace}/deployments?dryRun=All`
    : `/api/v1/namespaces/${namespace}/${resource}?dryRun=All`;

/** As strict as the namespace of Tandem wants its Pods. */
const CONFINED = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  runAsNonRoot: true,
  seccompProfile: { type: "RuntimeDefault" },
};

const podOf = (name: string): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" } },
  spec: { containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", securityContext: CONFINED }] },
});

/** The slowest of some labelled writes, ms. Every one must succeed: the policy is Ignore. */
async function slowest({ api }: Cluster): Promise<number> {
  let worst = 0;
  for (let count = 0; count < WRITES; count++) {
    const begun = performance.now();
    if (count % 2 === 0) await api.post(pathOf("default"), labelledDeployment(`late-${count}`));
    else await api.post(pathOf("default", "pods"), podOf(`late-${count}`));
    worst = Math.max(worst, performance.now() - begun);
  }
  return Math.round(worst);
}

/** What must never wait for Tandem: the control plane, Tandem's own, leases, and whatever carries no label. */
async function excluded({ api }: Cluster): Promise<void> {
  for (const namespace of ["kube-system", "kube-node-lease", "tandem-system"]) {
    await api.post(pathOf(namespace), labelledDeployment("excluded"));
    await api.post(pathOf(namespace, "pods"), podOf("excluded"));
  }
  const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "l" }, spec: {} };
  await api.post("/apis/coordination.k8s.io/v1/namespaces/default/leases?dryRun=All", lease);
  const plain = { ...podOf("plain"), metadata: { name: "plain" } };
  await api.post(pathOf("default", "pods"), plain);
}

export const row: ScoreRow = {
  id: "A5",
  fault: `both webhooks hang, then refuse connections, at failurePolicy Ignore: ${WRITES} labelled writes each`,
  required: `no write later than ${MOST_MS} ms; 0 calls for excluded namespaces, leases and unlabelled Pods`,
  run: (progress) =>
    withCluster(async (cluster) => {
      await cluster.apply((await render("overlays/dev")).filter(({ kind }) => kind === "Namespace"));
      const silence = await startSilence();
      try {
        await pointAt(cluster, silence.port);
        await excluded(cluster);
        const callsForExcluded = silence.calls();
        progress("excluded objects written");
        const hangingWorstMs = await slowest(cluster);
        const callsForLabelled = silence.calls() - callsForExcluded;
        progress("labelled objects written while the webhooks hang");
        const [port = 0] = await freePorts(1);
        await pointAt(cluster, port);
        const refusingWorstMs = await slowest(cluster);
        const figures = { callsForExcluded, callsForLabelled, hangingWorstMs, refusingWorstMs };
        const met =
          callsForExcluded === 0 && callsForLabelled >= WRITES && Math.max(hangingWorstMs, refusingWorstMs) <= MOST_MS;
        return { figures, met };
      } finally {
        await silence.stop();
      }
    }),
};
