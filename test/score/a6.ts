import { setTimeout as sleep } from "node:timers/promises";
import type { JsonObject, KubeObject } from "../../src/kinds/kube.ts";
import { render, webhooksByUrl } from "../e2e/cluster/manifests.ts";
import { withCluster } from "./cluster.ts";
import type { ScoreRow } from "./row.ts";
import { freePorts } from "../support/ports.ts";

/** Until the API server has seen the webhook configurations. */
const SEEN_MS = 3000;

/** The Pod that a Deployment of the manifests would make. */
function podOf({ metadata, spec }: KubeObject & { spec?: unknown }): JsonObject {
  const { template } = spec as { template: { metadata?: { labels?: object }; spec: object } };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `${metadata.name ?? ""}-0`, labels: { ...template.metadata?.labels, "tandem.sh/model": "m" } },
    spec: template.spec,
  };
}

export const row: ScoreRow = {
  id: "A6",
  fault: "the cluster starts with the webhook configurations there, failurePolicy Fail, and nobody behind them",
  required: "Tandem's own Pods and those of kube-system can be created, whatever label they carry: all of them",
  run: () =>
    withCluster(async (cluster) => {
      const objects = await render("overlays/dev");
      await cluster.apply(objects.filter(({ kind }) => ["Namespace", "ServiceAccount"].includes(kind)));
      const [port = 0] = await freePorts(1);
      const webhooks = webhooksByUrl(objects, `https://127.0.0.1:${port}`).map((object) => ({
        ...object,
        webhooks: (object["webhooks"] as JsonObject[]).map((hook) => ({ ...hook, failurePolicy: "Fail" })),
      }));
      await cluster.apply(webhooks);
      await sleep(SEEN_MS);
      const pods = objects.filter(({ kind }) => kind === "Deployment").map((object) => podOf(object));
      const create = (namespace: string, pod: JsonObject): Promise<boolean> =>
        cluster.api.post(`/api/v1/namespaces/${namespace}/pods?dryRun=All`, pod).then(
          () => true,
          () => false,
        );
      const system = pods.map((pod) => ({ ...pod, spec: { containers: [{ name: "c", image: "c:1" }] } }));
      const created = [
        ...(await Promise.all(pods.map((pod) => create("tandem-system", pod)))),
        ...(await Promise.all(system.map((pod) => create("kube-system", pod)))),
      ];
      // Proves that the webhooks are in force: an ordinary labelled Pod is refused.
      const elsewhere = await Promise.all(system.map((pod) => create("default", pod)));
      const figures = {
        tried: created.length,
        created: created.filter(Boolean).length,
        elsewhereCreated: elsewhere.filter(Boolean).length,
      };
      return { figures, met: created.length > 0 && created.every(Boolean) && !elsewhere.some(Boolean) };
    }),
};
