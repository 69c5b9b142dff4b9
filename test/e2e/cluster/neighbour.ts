/** Other people's mutating webhooks, as small as they can be: each changes Pods at their creation in its own way. */
import { randomUUID } from "node:crypto";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { issueAuthority, issueServing } from "../../../src/certs/issue.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import type { Cluster } from "./control-plane.ts";
import { eventually } from "./process.ts";

type Patch = readonly object[];

export interface Neighbour {
  /** Of its configuration: webhooks are called in the order of these. */
  readonly name: string;
  readonly patch: (pod: Pod) => Patch;
}

/** Takes over pods of its devices. */
export const HAMI = (name: string): Neighbour => ({
  name,
  patch: ({ spec }) =>
    spec.schedulerName === "hami-scheduler"
      ? []
      : [{ op: "add", path: "/spec/schedulerName", value: "hami-scheduler" }],
});

/** A sidecar in front of the others, with its volume. */
export const ISTIO = (name: string): Neighbour => ({
  name,
  patch: ({ spec }) =>
    spec.containers.some((container) => container.name === "istio-proxy")
      ? []
      : [
          { op: "add", path: "/spec/containers/0", value: { name: "istio-proxy", image: "istio/proxyv2:1.27.0" } },
          ...(spec.volumes === undefined ? [{ op: "add", path: "/spec/volumes", value: [] }] : []),
          { op: "add", path: "/spec/volumes/-", value: { name: "istio-envoy", emptyDir: {} } },
        ],
});

/** Holds pods until their quota is there. */
export const KUEUE = (name: string): Neighbour => ({
  name,
  patch: ({ spec }) =>
    spec.schedulingGates?.some((gate) => gate.name === "kueue.x-k8s.io/admission") === true
      ? []
      : [
          ...(spec.schedulingGates === undefined ? [{ op: "add", path: "/spec/schedulingGates", value: [] }] : []),
          { op: "add", path: "/spec/schedulingGates/-", value: { name: "kueue.x-k8s.io/admission" } },
        ],
});

/** Registers them for Pods of one namespace. Resolves to what ends them. */
export async function startNeighbours(
  cluster: Cluster,
  namespace: string,
  neighbours: readonly Neighbour[],
): Promise<() => Promise<void>> {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, ["127.0.0.1"]);
  const server = createServer({ cert: serving.certificate, key: serving.key }, (request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    request.once("end", () => {
      const { uid, object } = (JSON.parse(text) as { request: { uid: string; object: Pod } }).request;
      // The API server adds its timeout as a query.
      const { pathname } = new URL(request.url ?? "", "https://neighbour");
      const patch = neighbours.find(({ name }) => pathname === `/${name}`)?.patch(object) ?? [];
      const encoded = Buffer.from(JSON.stringify(patch)).toString("base64");
      const change = patch.length === 0 ? {} : { patchType: "JSONPatch", patch: encoded };
      const review = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview" };
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ ...review, response: { uid, allowed: true, ...change } }));
    });
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const caBundle = Buffer.from(authority.certificate).toString("base64");
  await cluster.apply(
    neighbours.map(({ name }) => ({
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name },
      webhooks: [
        {
          name: `${name}.example.com`,
          admissionReviewVersions: ["v1"],
          clientConfig: { url: `https://127.0.0.1:${port}/${name}`, caBundle },
          sideEffects: "None",
          reinvocationPolicy: "IfNeeded",
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
          rules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
        },
      ],
    })),
  );
  await eventually("the neighbours are called", () => called(cluster, namespace, neighbours));
  return async () => {
    for (const { name } of neighbours)
      await cluster.api.remove(`/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${name}`);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
}

/** The API server follows webhook configurations by a watch. */
async function called(
  cluster: Cluster,
  namespace: string,
  neighbours: readonly Neighbour[],
): Promise<true | undefined> {
  const pod = await cluster.api.post(`/api/v1/namespaces/${namespace}/pods?dryRun=All`, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "called" },
    spec: { containers: [{ name: "c", image: "c:1" }] },
  });
  return neighbours.every(({ patch }) => patch(pod as Pod).length === 0) ? true : undefined;
}
