/**
 * Carries the rotation plan out: Secrets first, then the bundle in the webhook configurations. One call is one pass; the
 * controller makes one at every round, so that a wall clock that jumped (sleep, suspend) is noticed within it.
 *
 * Every write of a Secret states the version it was decided on. Of two that decide at once one wins, the other gets a
 * conflict and decides again on what the winner wrote: never two authorities. The authority's Secret is written first; a
 * process that dies in between leaves a leaf that the next pass finds to be not the authority's, while the authority that
 * signed it is still trusted as the previous one.
 */
import { isDeepStrictEqual } from "node:util";
import { hasStatus } from "../kinds/kube-error.ts";
import { isObject, labelOf, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import { OWNERSHIP } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import type { Clock, KubeReader, KubeWriter, Random } from "../ports.ts";
import { changed, skipped, type Verdict } from "../kinds/verdict.ts";
import { issueAuthority, issueServing, type IssueContext } from "./issue.ts";
import {
  authorityData,
  authoritySecret,
  bundleOf,
  planCertificates,
  readSecrets,
  servingData,
  type CertificateSecrets,
  type CertificateState,
  type CertificateStep,
} from "./plan.ts";

export interface CertificateOptions {
  readonly reader: KubeReader;
  readonly writer: KubeWriter;
  readonly clock: Clock;
  readonly random: Random;
  /** Where the Secrets lie. */
  readonly namespace: string;
  /** What the webhooks read; the authority's key lies in `authoritySecret` of it. */
  readonly secret: string;
  /** DNS names and addresses of the webhooks: `serviceNames`, and what else they are reached by. */
  readonly names: readonly string[];
  /** Name of both webhook configurations; empty: none is kept. */
  readonly webhookConfiguration: string;
}

/** `svc`, `svc.ns`, `svc.ns.svc` and the cluster's long name: the API server asks for the third. */
export const serviceNames = (service: string, namespace: string): readonly string[] => [
  `${service}.${namespace}.svc`,
  `${service}.${namespace}.svc.cluster.local`,
  `${service}.${namespace}`,
  service,
];

/** One pass. Throws a KubeError where the API server does not do as told; the next pass goes on from there. */
export async function reconcileCertificates(options: CertificateOptions): Promise<readonly Verdict[]> {
  const { state, verdicts } = await reconcileSecrets(options, await readWebhooks(options), 2);
  return state === undefined ? verdicts : [...verdicts, ...(await publish(options, bundleOf(state)))];
}

interface Reconciled {
  /** Undefined: a Secret is somebody else's (cert-manager's, say), and so is the bundle. */
  readonly state: CertificateState | undefined;
  readonly verdicts: readonly Verdict[];
}

async function reconcileSecrets(
  options: CertificateOptions,
  webhooks: readonly KubeObject[],
  attempts: number,
): Promise<Reconciled> {
  const stored = await storedSecrets(options);
  const others = [stored.serving, stored.authority].find(isForeign);
  if (others !== undefined) return { state: undefined, verdicts: [foreign(others.metadata.name ?? "")] };
  const state = readSecrets(stored);
  const now = options.clock.now();
  const { names } = options;
  const step = planCertificates({ state, now, names, published: webhooks.flatMap(bundlesOf) });
  const next = await carryOut(step, state, { now, id: () => options.random.id() }, names);
  try {
    await writeSecrets(options, stored, next);
  } catch (error) {
    if (!hasStatus(error, 409) || attempts === 0) throw error;
    return reconcileSecrets(options, webhooks, attempts - 1);
  }
  if (step.do === "keep") return { state: next, verdicts: [] };
  const verdict = changed("CertificatesIssued", `${step.do}: ${step.why}`, { subject: options.secret });
  return { state: next, verdicts: [verdict] };
}

const isForeign = (secret: KubeObject | undefined): secret is KubeObject =>
  secret !== undefined && labelOf(secret, OWNERSHIP.label) !== OWNERSHIP.value;

const foreign = (secret: string): Verdict =>
  skipped("CertificatesForeign", `Secret ${secret} lacks the label ${OWNERSHIP.label} and is left alone`, {
    subject: secret,
  });

/** The state after a step, with the keys it needs made. */
async function carryOut(
  step: CertificateStep,
  state: CertificateState,
  context: IssueContext,
  names: readonly string[],
): Promise<CertificateState> {
  const since = context.now;
  switch (step.do) {
    case "keep":
      return state;
    case "begin": {
      const authority = await issueAuthority(context);
      return { authority, serving: await issueServing(context, authority, names), since };
    }
    case "renew":
      return { ...state, serving: await issueServing(context, step.authority, names) };
    case "introduce":
      return { ...state, next: await issueAuthority(context), since };
    case "promote": {
      const serving = await issueServing(context, step.authority, names);
      return { authority: step.authority, serving, previous: step.previous, since };
    }
    case "retire":
      return retired(state, since);
  }
}

function retired({ authority, serving }: CertificateState, since: number): CertificateState {
  return { ...(authority === undefined ? {} : { authority }), ...(serving === undefined ? {} : { serving }), since };
}

const secretRef = (namespace: string, name: string): ObjectRef => ({
  apiVersion: "v1",
  plural: "secrets",
  namespace,
  name,
});

async function storedSecrets({ reader, namespace, secret }: CertificateOptions): Promise<CertificateSecrets> {
  const [serving, authority] = await Promise.all(
    [secret, authoritySecret(secret)].map((name) => reader.get(secretRef(namespace, name))),
  );
  return { serving, authority };
}

/** Writes what differs: also what a process left undone that died between the two. */
async function writeSecrets(
  options: CertificateOptions,
  stored: CertificateSecrets,
  state: CertificateState,
): Promise<void> {
  const name = authoritySecret(options.secret);
  await writeSecret(options, stored.authority, { name, type: "Opaque", data: authorityData(state) });
  const data = servingData(state);
  await writeSecret(options, stored.serving, { name: options.secret, type: "kubernetes.io/tls", data });
}

interface WantedSecret {
  readonly name: string;
  readonly type: string;
  readonly data: Readonly<Record<string, string>>;
}

async function writeSecret(
  { writer, namespace }: CertificateOptions,
  before: KubeObject | undefined,
  { name, type, data }: WantedSecret,
): Promise<void> {
  if (before === undefined) {
    const metadata = { name, namespace, labels: { [OWNERSHIP.label]: OWNERSHIP.value } };
    await writer.create({ apiVersion: "v1", kind: "Secret", metadata, type, data });
    return;
  }
  if (isDeepStrictEqual(before["data"], data)) return;
  await writer.patch(secretRef(namespace, name), "json", [
    // A precondition, answered with 409; a failed `test` would be a 422 like any bad patch.
    { op: "replace", path: "/metadata/resourceVersion", value: before.metadata.resourceVersion },
    { op: "add", path: "/data", value: data },
  ]);
}

const WEBHOOKS = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] as const;

const webhookRef = (plural: string, name: string): ObjectRef => ({
  apiVersion: "admissionregistration.k8s.io/v1",
  plural,
  name,
});

async function readWebhooks({ reader, webhookConfiguration }: CertificateOptions): Promise<readonly KubeObject[]> {
  if (webhookConfiguration === "") return [];
  const found = await Promise.all(WEBHOOKS.map((plural) => reader.get(webhookRef(plural, webhookConfiguration))));
  return found.filter((object) => object !== undefined);
}

interface Hook {
  readonly name: string;
  readonly bundle: string;
}

function hooksOf(configuration: KubeObject): readonly Hook[] {
  const list = configuration["webhooks"];
  if (!Array.isArray(list)) return [];
  return list.filter(isObject).map(({ name, clientConfig }) => {
    const bundle = isObject(clientConfig) ? clientConfig["caBundle"] : undefined;
    return {
      name: typeof name === "string" ? name : "",
      bundle: typeof bundle === "string" ? Buffer.from(bundle, "base64").toString("utf8") : "",
    };
  });
}

const bundlesOf = (configuration: KubeObject): readonly string[] => hooksOf(configuration).map(({ bundle }) => bundle);

/** Writes the bundle into every webhook that has another one. Read again just before, since the plan may be old. */
async function publish(options: CertificateOptions, bundle: string): Promise<readonly Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const configuration of await readWebhooks(options)) {
    const operations = bundleOperations(configuration, bundle);
    if (operations.length === 0) continue;
    await options.writer.patch(refOf(configuration), "json", operations);
    verdicts.push(changed("CertificatesIssued", "the CA bundle was written", { subject: configuration.kind }));
  }
  return verdicts;
}

/** JSON Patch with a test of each hook's name: hooks may have been reordered meanwhile. */
export function bundleOperations(configuration: KubeObject, bundle: string): readonly object[] {
  const value = Buffer.from(bundle).toString("base64");
  return hooksOf(configuration).flatMap((hook, index) =>
    hook.bundle === bundle
      ? []
      : [
          { op: "test", path: `/webhooks/${index}/name`, value: hook.name },
          { op: "add", path: `/webhooks/${index}/clientConfig/caBundle`, value },
        ],
  );
}
