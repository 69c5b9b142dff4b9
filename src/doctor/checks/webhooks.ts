/** Webhooks: that they are registered, trust the certificate that is served, and that somebody answers. */
import type { X509Certificate } from "node:crypto";
import { isObject, labelOf, type JsonObject, type KubeObject } from "../../kinds/kube.ts";
import { denied, warned, type Verdict } from "../../kinds/verdict.ts";
import { certificateOf, servedCertificate, spent, vouchesFor } from "../certificates.ts";
import { good, idle, listed, worst, type Check, type Complaint } from "../check.ts";
import { itemsOf, type Facts } from "../facts.ts";

const KINDS = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] as const;

/** Where a webhook is called. */
interface Hook {
  readonly name: string;
  /** PEM. */
  readonly bundle: string;
  /** Absent where it is called by URL. */
  readonly service?: { readonly namespace: string; readonly name: string };
  readonly url?: string;
}

/** Configurations of ours, of both kinds. */
const ours = (facts: Facts): readonly KubeObject[] =>
  KINDS.flatMap((kind) => itemsOf(facts.objects[kind])).filter(
    ({ metadata }) => metadata.name === facts.config.controller.webhookConfiguration,
  );

/** Every webhook of ours. */
export const ourHooks = (facts: Facts): readonly Hook[] =>
  ours(facts).flatMap(({ webhooks }) => (Array.isArray(webhooks) ? webhooks.filter(isObject).map(hookOf) : []));

function hookOf(webhook: JsonObject): Hook {
  const client = isObject(webhook["clientConfig"]) ? webhook["clientConfig"] : {};
  const service = isObject(client["service"]) ? client["service"] : undefined;
  const url = client["url"];
  return {
    name: String(webhook["name"]),
    bundle: typeof client["caBundle"] === "string" ? Buffer.from(client["caBundle"], "base64").toString("utf8") : "",
    ...(service === undefined
      ? {}
      : { service: { namespace: String(service["namespace"]), name: String(service["name"]) } }),
    ...(typeof url === "string" ? { url } : {}),
  };
}

/** The certificate that Tandem serves, where its Secret is known. */
export function servingCertificate(facts: Facts): X509Certificate | undefined {
  const { config, objects } = facts;
  const name = config.admission.certificates.secret;
  const secret = itemsOf(objects.Secret).find(({ metadata }) => metadata.name === name);
  return certificateOf(servedCertificate(secret));
}

function registered(facts: Facts): Verdict {
  const name = facts.config.controller.webhookConfiguration;
  const missing = KINDS.filter((kind) => !ours(facts).some((object) => object.kind === kind));
  if (missing.length > 0) return denied("WebhooksAbsent", `there is no ${missing.join(" and no ")} ${name}`);
  return good(`${listed(ourHooks(facts).map((hook) => hook.name))} are registered`);
}

function trusted(facts: Facts): Verdict {
  const hooks = ourHooks(facts);
  const leaf = servingCertificate(facts);
  if (hooks.length === 0) return idle("no webhook of Tandem is registered");
  if (leaf === undefined)
    return denied(
      "CertificateUnusable",
      `Secret ${facts.config.admission.certificates.secret} has no readable tls.crt`,
    );
  const complaints = hooks.flatMap(({ name, bundle }): Complaint[] =>
    vouchesFor(bundle, leaf)
      ? []
      : [
          {
            reason: "WebhookUntrusted",
            message: `caBundle of ${name} ${bundle === "" ? "is empty" : "did not sign the certificate served"}`,
          },
        ],
  );
  return worst(complaints, "caBundle is the authority of the certificate served");
}

/** The controller renews after two thirds of a certificate's life; so far behind, it is not at work. */
const OVERDUE = 0.8;

function dated(facts: Facts): Verdict {
  const leaf = servingCertificate(facts);
  if (leaf === undefined)
    return denied(
      "CertificateUnusable",
      `Secret ${facts.config.admission.certificates.secret} has no readable tls.crt`,
    );
  const share = spent(leaf, facts.now);
  if (share >= 1) return denied("CertificateUnusable", `expired at ${leaf.validTo}`);
  if (share < 0) return denied("CertificateUnusable", `begins only at ${leaf.validFrom}`);
  const unnamed = serviceNames(facts).filter((name) => leaf.checkHost(name) === undefined);
  if (unnamed.length > 0) return denied("CertificateUnusable", `does not carry the name ${listed(unnamed)}`);
  return share > OVERDUE
    ? warned("CertificateOverdue", `${Math.floor(share * 100)} % of its life are over, until ${leaf.validTo}`)
    : good(`valid until ${leaf.validTo}`);
}

/** The DNS names under which the API server calls. */
const serviceNames = (facts: Facts): readonly string[] => [
  ...new Set(
    ourHooks(facts).flatMap(({ service }) =>
      service === undefined ? [] : [`${service.name}.${service.namespace}.svc`],
    ),
  ),
];

function answering(facts: Facts): Verdict {
  const hooks = ourHooks(facts);
  if (hooks.length === 0) return idle("no webhook of Tandem is registered");
  const judged = hooks.map((hook) => silence(hook, facts));
  if (judged.every((complaint) => complaint === "unknown"))
    return idle("no EndpointSlice is known, and nothing was called");
  const complaints = judged.filter((complaint) => typeof complaint === "object");
  return worst(complaints, "somebody answers");
}

/** What is wrong with whoever should answer; `unknown` where it cannot be told. */
function silence(hook: Hook, { objects, reached }: Facts): Complaint | "unknown" | undefined {
  const { name, service, url } = hook;
  if (url !== undefined) {
    const found = reached.get(url);
    if (found === undefined) return "unknown";
    return found.ok ? undefined : { reason: "WebhookSilent", message: `${name}: ${url}: ${found.message}` };
  }
  if (service === undefined || !objects.EndpointSlice.known) return "unknown";
  const ready = objects.EndpointSlice.items
    .filter((slice) => isSliceOf(slice, service))
    .flatMap(({ endpoints }) => (Array.isArray(endpoints) ? (endpoints as unknown[]).filter(isReady) : []));
  if (ready.length > 0) return undefined;
  return { reason: "WebhookSilent", message: `Service ${service.namespace}/${service.name} has no ready endpoint` };
}

const isSliceOf = (slice: KubeObject, service: { namespace: string; name: string }): boolean =>
  labelOf(slice, "kubernetes.io/service-name") === service.name && slice.metadata.namespace === service.namespace;

/** Ready unless told otherwise, says discovery.k8s.io/v1. */
const isReady = (endpoint: unknown): boolean =>
  isObject(endpoint) && !(isObject(endpoint["conditions"]) && endpoint["conditions"]["ready"] === false);

export const WEBHOOK_CHECKS: readonly Check[] = [
  { name: "webhooks", needs: KINDS, judge: registered },
  { name: "webhook-trust", needs: [...KINDS, "Secret"], judge: trusted },
  { name: "certificate", needs: ["Secret"], judge: dated },
  { name: "webhook-endpoints", needs: KINDS, judge: answering },
];
