/**
 * Carries the rotation plan out: Secret first, then the bundle in the webhook configurations. One call is one pass; the
 * controller makes one at every round, so that a wall clock that jumped (sleep, suspend) is noticed within it.
 *
 * Every write of the Secret states the version it was decided on. Of two that decide at once one wins, the other gets a
 * conflict and decides again on what the winner wrote: never two authorities.
 */
import { hasStatus } from "../kinds/kube-error.ts";
import { isObject, labelOf, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import { OWNERSHIP } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import type { Clock, KubeReader, KubeWriter, Random } from "../ports.ts";
import { changed, skipped, type Verdict } from "../kinds/verdict.ts";
import { issueAuthority, issueServing, type IssueContext } from "./issue.ts";
import {
  bundleOf,
  planCertificates,
  readSecret,
  secretData,
  type CertificateState,
  type CertificateStep,
} from "./plan.ts";

export interface CertificateOptions {
  readonly reader: KubeReader;
  readonly writer: KubeWriter;
  readonly clock: Clock;
  readonly random: Random;
  /** Where the Secret lies. */
  readonly namespace: string;
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
  const { state, verdicts } = await reconcileSecret(options, await readWebhooks(options), 2);
  return state === undefined ? verdicts : [...verdicts, ...(await publish(options, bundleOf(state)))];
}

interface Reconciled {
  /** Undefined: the Secret is somebody else's (cert-manager's, say), and so is the bundle. */
  readonly state: CertificateState | undefined;
  readonly verdicts: readonly Verdict[];
}

async function reconcileSecret(
  options: CertificateOptions,
  webhooks: readonly KubeObject[],
  attempts: number,
): Promise<Reconciled> {
  const secret = await options.reader.get(secretRef(options));
  if (secret !== undefined && labelOf(secret, OWNERSHIP.label) !== OWNERSHIP.value)
    return { state: undefined, verdicts: [foreign(options)] };
  const state = readSecret(secret);
  const now = options.clock.now();
  const { names } = options;
  const step = planCertificates({ state, now, names, published: webhooks.flatMap(bundlesOf) });
  if (step.do === "keep") return { state, verdicts: [] };
  const next = await carryOut(step, state, { now, id: () => options.random.id() }, names);
  try {
    await writeSecret(options, secret, next);
  } catch (error) {
    if (!hasStatus(error, 409) || attempts === 0) throw error;
    return reconcileSecret(options, webhooks, attempts - 1);
  }
  const verdict = changed("CertificatesIssued", `${step.do}: ${step.why}`, { subject: options.secret });
  return { state: next, verdicts: [verdict] };
}

const foreign = ({ secret }: CertificateOptions): Verdict =>
  skipped("CertificatesForeign", `Secret ${secret} lacks the label ${OWNERSHIP.label} and is left alone`, {
    subject: secret,
  });

/** The state after a step, with the keys it needs made. */
async function carryOut(
  step: Exclude<CertificateStep, { do: "keep" }>,
  state: CertificateState,
  context: IssueContext,
  names: readonly string[],
): Promise<CertificateState> {
  const since = context.now;
  switch (step.do) {
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

const secretRef = ({ namespace, secret }: CertificateOptions): ObjectRef => ({
  apiVersion: "v1",
  plural: "secrets",
  namespace,
  name: secret,
});

async function writeSecret(
  options: CertificateOptions,
  before: KubeObject | undefined,
  state: CertificateState,
): Promise<void> {
  const data = secretData(state);
  if (before === undefined) {
    const metadata = {
      name: options.secret,
      namespace: options.namespace,
      labels: { [OWNERSHIP.label]: OWNERSHIP.value },
    };
    await options.writer.create({ apiVersion: "v1", kind: "Secret", metadata, type: "kubernetes.io/tls", data });
    return;
  }
  await options.writer.patch(secretRef(options), "json", [
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
