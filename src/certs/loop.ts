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

/** Of racing replicas one wins each write; the last of five has lost four times by then. */
const MOST_CONFLICTS = 6;

/** One pass. Throws a KubeError where the API server does not do as told; the next pass goes on from there. */
export async function reconcileCertificates(options: CertificateOptions): Promise<readonly Verdict[]> {
  const verdicts: Verdict[] = [];
  for (let conflicts = 0; ; conflicts++)
    try {
      await pass(options, verdicts);
      return verdicts;
    } catch (error) {
      if (!hasStatus(error, 409) || conflicts === MOST_CONFLICTS) throw error;
    }
}

/**
 * The webhooks are read before the Secrets, and written only as they were read. So a bundle never replaces one that was
 * made from newer Secrets: whoever wrote that one changed the version that this pass goes by.
 */
async function pass(options: CertificateOptions, verdicts: Verdict[]): Promise<void> {
  const webhooks = await readWebhooks(options);
  const state = await reconcileSecrets(options, webhooks.flatMap(bundlesOf), verdicts);
  if (state !== undefined) await publish(options, { webhooks, bundle: bundleOf(state) }, verdicts);
}

/** The state as it stands in the Secrets now. Undefined: one is somebody else's (cert-manager's, say), and so is the bundle. */
async function reconcileSecrets(
  options: CertificateOptions,
  published: readonly string[],
  verdicts: Verdict[],
): Promise<CertificateState | undefined> {
  const stored = await storedSecrets(options);
  const others = [stored.serving, stored.authority].find(isForeign);
  if (others !== undefined) {
    verdicts.push(foreign(others.metadata.name ?? ""));
    return undefined;
  }
  const state = readSecrets(stored);
  const now = options.clock.now();
  const { names } = options;
  const step = planCertificates({ state, now, names, published });
  const next = await carryOut(step, state, { now, id: () => options.random.id() }, names);
  await writeSecrets(options, stored, next);
  if (step.do !== "keep" && step.do !== "wait")
    verdicts.push(changed("CertificatesIssued", `${step.do}: ${step.why}`, { subject: options.secret }));
  return next;
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
      return { ...introduced(state, step.previous), next: await issueAuthority(context), since };
    case "wait":
      return { ...state, since };
    case "promote": {
      const serving = await issueServing(context, step.authority, names);
      return { authority: step.authority, serving, previous: step.previous, since };
    }
    case "retire":
      return retired(state, since);
  }
}

/** Without an authority what is still trusted takes its place in the bundle; what was broken of it goes. */
function introduced(state: CertificateState, previous: string | undefined): CertificateState {
  if (previous === undefined) return state;
  const { serving, since } = state;
  return { ...(serving === undefined ? {} : { serving }), previous, since };
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
  // A Secret of this type must have a certificate; until there is one, replicas serve what they hold.
  if (state.serving === undefined) return;
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
  await writer.patch(secretRef(namespace, name), "json", [asRead(before), { op: "add", path: "/data", value: data }]);
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

interface Publication {
  /** The configurations as they were read. */
  readonly webhooks: readonly KubeObject[];
  /** PEM. */
  readonly bundle: string;
}

/** Writes the bundle into every webhook that has another one. */
async function publish(options: CertificateOptions, to: Publication, verdicts: Verdict[]): Promise<void> {
  for (const configuration of to.webhooks) {
    const operations = bundleOperations(configuration, to.bundle);
    if (operations.length === 0) continue;
    await options.writer.patch(refOf(configuration), "json", [asRead(configuration), ...operations]);
    verdicts.push(changed("CertificatesIssued", "the CA bundle was written", { subject: configuration.kind }));
  }
}

/** A precondition, answered with 409; a failed `test` would be a 422 like any bad patch. */
const asRead = ({ metadata }: KubeObject): object => ({
  op: "replace",
  path: "/metadata/resourceVersion",
  value: metadata.resourceVersion,
});

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
