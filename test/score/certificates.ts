/** Scenes of the certificate rows: replicas that race, and clocks that jump. The real plan over objects in memory. */
import { X509Certificate } from "node:crypto";
import { randomUUID } from "node:crypto";
import { reconcileCertificates, serviceNames, type CertificateOptions } from "../../src/certs/loop.ts";
import { isValidAt, readSecrets, servingFrom, type CertificateState } from "../../src/certs/plan.ts";
import { createObjects, type Objects } from "../support/objects.ts";
import { seededRandom } from "../../src/simulator/random.ts";

const SECRET = "tandem-webhook-tls";
const WEBHOOKS = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] as const;
const PEM = /-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g;

export const certificatesOf = (bundle: string): X509Certificate[] =>
  (bundle.match(PEM) ?? []).map((pem) => new X509Certificate(pem));

/** An API server with both webhook configurations and no Secret. */
export function emptyCluster(random: () => number, spurious = 0): Objects {
  const objects = createObjects({ random, spurious });
  for (const kind of ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
    objects.put({
      apiVersion: "admissionregistration.k8s.io/v1",
      kind,
      metadata: { name: "tandem" },
      webhooks: [{ name: "x.tandem.sh", clientConfig: { url: "https://127.0.0.1:9443/x" } }],
    });
  return objects;
}

export const optionsAt = (objects: Objects, now: () => number): CertificateOptions => ({
  reader: objects,
  writer: objects,
  clock: { now, monotonic: now },
  random: { next: () => 0, id: randomUUID },
  namespace: "tandem-system",
  secret: SECRET,
  names: serviceNames("tandem-webhook", "tandem-system"),
  webhookConfiguration: "tandem",
});

export const stateOf = (objects: Objects): CertificateState =>
  readSecrets({ serving: objects.find("secrets", SECRET), authority: objects.find("secrets", `${SECRET}-authority`) });

/** The published bundles, PEM, without repetition. */
export const bundlesOf = (objects: Objects): string[] => {
  const found = WEBHOOKS.map((plural) => {
    const [hook] = objects.find(plural, "tandem")?.["webhooks"] as { clientConfig: { caBundle?: string } }[];
    return Buffer.from(hook?.clientConfig.caBundle ?? "", "base64").toString();
  });
  return [...new Set(found)];
};

/** What is wrong for a client with the time `now` that trusts what is published; empty when nothing is. */
export function complaint(objects: Objects, now: number): string {
  const served = servingFrom(objects.find("secrets", SECRET), now)?.certificate;
  if (served === undefined) return "nothing to serve";
  if (!isValidAt(served, now)) return "the leaf is not valid now";
  const leaf = new X509Certificate(served);
  const trusted = bundlesOf(objects).every((bundle) =>
    certificatesOf(bundle).some(
      (authority) => leaf.verify(authority.publicKey) && isValidAt(authority.toString(), now),
    ),
  );
  return trusted ? "" : "the leaf does not chain to what is published";
}

/** `replicas` start at once without a Secret. Gives what is wrong afterwards; empty when nothing is. */
export async function race(seed: number, replicas = 5): Promise<string> {
  const random = seededRandom(seed).next;
  const objects = emptyCluster(random, 0.1);
  const now = (): number => Date.parse("2026-01-01T00:00:00Z");
  const replica = async (): Promise<void> => {
    for (let pass = 0; pass < 20; pass++) {
      const left = await reconcileCertificates(optionsAt(objects, now)).catch(() => undefined);
      if (left?.length === 0) return;
    }
    throw new Error(`seed ${seed}: a replica does not come to rest`);
  };
  await Promise.all(Array.from({ length: replicas }, replica));
  const bundles = bundlesOf(objects);
  const authorities = bundles.map((bundle) => certificatesOf(bundle).length);
  if (authorities.length !== 1 || authorities[0] !== 1) return `authorities published: ${authorities.join()}`;
  return complaint(objects, now());
}
