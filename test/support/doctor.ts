/** A healthy cluster as `tandem doctor` sees it, for tests that break one thing of it. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../src/certs/issue.ts";
import { loadConfig } from "../../src/config/load.ts";
import { documentsOf, type SchedulerConfiguration, type VolcanoConfiguration } from "../../src/doctor/documents.ts";
import { objectsOf, type Facts } from "../../src/doctor/facts.ts";
import type { JsonObject, KubeObject } from "../../src/kinds/kube.ts";
import { deployment, fabric, pod } from "./placement.ts";

export const NOW = Date.parse("2026-06-01T12:00:00Z");
const COMPONENT = join(import.meta.dirname, "..", "..", "manifests", "components", "second-scheduler");

/** The configuration that the manifests ship. */
export const SHIPPED: SchedulerConfiguration = documentsOf(
  parse(readFileSync(join(COMPONENT, "scheduler-configuration.yaml"), "utf8")),
  "scheduler-configuration.yaml",
).schedulers[0]!;

export const SHIPPED_VOLCANO: VolcanoConfiguration = documentsOf(
  parse(readFileSync(join(COMPONENT, "..", "volcano-extender", "volcano-scheduler.conf"), "utf8")),
  "conf",
).volcano[0]!;

const context = { now: NOW, id: randomUUID };
export const authority = await issueAuthority(context);
const serving = await issueServing(context, authority, ["tandem-webhook.tandem-system.svc"]);
export const stranger = await issueAuthority(context);

export const base64 = (text: string): string => Buffer.from(text).toString("base64");

export const webhooks = (kind: "Mutating" | "Validating", bundle = authority.certificate): KubeObject => ({
  apiVersion: "admissionregistration.k8s.io/v1",
  kind: `${kind}WebhookConfiguration`,
  metadata: { name: "tandem" },
  webhooks: [
    {
      name: `${kind.toLowerCase()}.tandem.sh`,
      clientConfig: {
        service: { namespace: "tandem-system", name: "tandem-webhook" },
        caBundle: base64(bundle),
      },
    },
  ],
});

export const secret = ({ certificate }: KeyedCertificate = serving): KubeObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "tandem-webhook-tls", namespace: "tandem-system" },
  data: { "tls.crt": base64(certificate) },
});

export const podGroup = (spec: JsonObject): KubeObject => ({
  apiVersion: "scheduling.volcano.sh/v1beta1",
  kind: "PodGroup",
  metadata: { name: "tandem-m-0", namespace: "default" },
  spec,
});

export const queue = (name: string, state?: string): KubeObject => ({
  apiVersion: "scheduling.volcano.sh/v1beta1",
  kind: "Queue",
  metadata: { name },
  ...(state === undefined ? {} : { status: { state } }),
});

export const endpoints = (ready: boolean): KubeObject => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: {
    name: "tandem-webhook-x",
    namespace: "tandem-system",
    labels: { "kubernetes.io/service-name": "tandem-webhook" },
  },
  endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready } }],
});

const { nodes, hyperNodes } = fabric(2, 2);

export const HEALTHY: readonly KubeObject[] = [
  ...nodes,
  ...hyperNodes,
  pod("p-1"),
  deployment("p"),
  webhooks("Mutating"),
  webhooks("Validating"),
  secret(),
  endpoints(true),
  podGroup({
    minMember: 2,
    minTaskMember: { prefill: 1, decode: 1 },
    queue: "research",
    networkTopology: { mode: "soft" },
  }),
  queue("research", "Open"),
];

/** HEALTHY with the objects of the same kinds and names replaced, and further ones added. */
export function withObjects(...changed: readonly KubeObject[]): readonly KubeObject[] {
  const id = ({ kind, metadata }: KubeObject): string => `${kind}/${metadata.name ?? ""}`;
  const replaced = new Set(changed.map(id));
  return [...HEALTHY.filter((object) => !replaced.has(id(object))), ...changed];
}

export const without = (...kinds: readonly string[]): readonly KubeObject[] =>
  HEALTHY.filter(({ kind }) => !kinds.includes(kind));

export const factsOf = (objects: readonly KubeObject[], more: Partial<Facts> = {}): Facts => ({
  now: NOW,
  config: loadConfig(),
  objects: objectsOf(objects),
  volcano: { known: true, items: [SHIPPED_VOLCANO] },
  schedulers: { known: true, items: [SHIPPED] },
  reached: new Map(
    [SHIPPED.extenders[0]!.urlPrefix, SHIPPED_VOLCANO.extenders![0]!.urlPrefix].map((url) => [
      url,
      { ok: true, message: "answers 200" },
    ]),
  ),
  ...more,
});
