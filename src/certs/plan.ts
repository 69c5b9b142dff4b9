/**
 * When certificates are made, renewed and rotated: decided from the Secrets as they stand, the clock, and what the API
 * server has of the bundle. Reads no cluster and makes no keys; `loop.ts` carries the decision out.
 *
 * An authority is never replaced under anybody's feet. Its rotation takes three passes or more, and every state in
 * between is in the Secrets, so that it survives a restart at any point:
 * 1. introduce: a next authority is written beside the active one; the bundle trusts both, leaves stay as they are.
 * 2. promote: once the API server has carried the bundle with both for 10 s, the next one signs a new leaf; the old one
 *    stays in the bundle.
 * 3. retire: 5 min later every replica serves the new leaf, and the old authority leaves the bundle.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import { isObject, type KubeObject } from "../kinds/kube.ts";
import { isAddress, type KeyedCertificate } from "./issue.ts";

/**
 * The keys of the two Secrets. What serves reads one of them: certificate, key and whom to trust, `tls.crt`, `tls.key`
 * and `ca.crt` being those of kubernetes.io/tls. The authority's key lies in another, which the controller alone may
 * read: who breaks into a webhook can then impersonate webhooks until their certificate ends, but make no new ones.
 */
export const SECRET_KEYS = {
  certificate: "tls.crt",
  key: "tls.key",
  authority: "ca.crt",
  /** Every authority that clients shall trust, PEM after PEM. */
  bundle: "ca-bundle.crt",
} as const;

export const AUTHORITY_KEYS = {
  authority: "ca.crt",
  authorityKey: "ca.key",
  next: "ca-next.crt",
  nextKey: "ca-next.key",
  /** The authority that signed before, until it is retired. */
  previous: "ca-previous.crt",
  /** Milliseconds since the epoch at which the rotation reached its present step. */
  since: "rotation-since",
} as const;

/** Name of the Secret that holds the authority's key. */
export const authoritySecret = (secret: string): string => `${secret}-authority`;

export interface CertificateState {
  readonly serving?: KeyedCertificate;
  readonly authority?: KeyedCertificate;
  readonly next?: KeyedCertificate;
  readonly previous?: string;
  readonly since: number;
}

/** What is to be done with the Secrets. */
export type CertificateStep =
  | { readonly do: "keep" }
  /** Nothing usable: a new authority and a new leaf. */
  | { readonly do: "begin"; readonly why: string }
  | { readonly do: "renew"; readonly authority: KeyedCertificate; readonly why: string }
  | { readonly do: "introduce"; readonly why: string }
  | { readonly do: "promote"; readonly authority: KeyedCertificate; readonly previous: string; readonly why: string }
  | { readonly do: "retire"; readonly why: string };

export interface CertificateFacts {
  readonly state: CertificateState;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** DNS names and addresses that the leaf must carry. */
  readonly names: readonly string[];
  /** The bundles that the webhook configurations carry at the API server, PEM. */
  readonly published: readonly string[];
}

/** Renewed after two thirds of its life. */
const RENEW_AT = 2 / 3;
/** API servers follow webhook configurations by a watch. */
export const SETTLE_MS = 10_000;
/** Replicas follow the Secret by a watch; kept-alive connections end. */
export const RETIRE_AFTER_MS = 300_000;

/** The first rule that has something to say wins; every step leaves a state that the next pass can go on from. */
export function planCertificates(facts: CertificateFacts): CertificateStep {
  const { state, now } = facts;
  const authority = usable(state.authority, now);
  if (authority === undefined) return { do: "begin", why: broken(state.authority, now) };
  return servingStep(facts, authority) ?? promoteStep(facts, authority) ?? ageStep(facts, authority) ?? { do: "keep" };
}

function servingStep(facts: CertificateFacts, authority: KeyedCertificate): CertificateStep | undefined {
  const why = servingTrouble(facts, authority);
  return why === undefined ? undefined : { do: "renew", authority, why };
}

function servingTrouble({ state, now, names }: CertificateFacts, authority: KeyedCertificate): string | undefined {
  const serving = usable(state.serving, now);
  if (serving === undefined) return broken(state.serving, now);
  const leaf = new X509Certificate(serving.certificate);
  if (!leaf.verify(new X509Certificate(authority.certificate).publicKey)) return "not signed by the present authority";
  const missing = names.filter((name) => !covers(leaf, name));
  if (missing.length > 0) return `lacks the names ${missing.join(", ")}`;
  return isDue(leaf, now) ? "two thirds of its life are over" : undefined;
}

const covers = (leaf: X509Certificate, name: string): boolean =>
  (isAddress(name) ? leaf.checkIP(name) : leaf.checkHost(name, { subject: "never" })) !== undefined;

/** Goes on with a rotation that has begun: promote the next authority, or retire the previous one. */
function promoteStep(
  { state, now, published }: CertificateFacts,
  authority: KeyedCertificate,
): CertificateStep | undefined {
  const next = usable(state.next, now);
  if (next !== undefined) {
    const known = published.every((bundle) => certificatesOf(bundle).includes(normal(next.certificate)));
    if (!known || now - state.since < SETTLE_MS) return undefined;
    return {
      do: "promote",
      authority: next,
      previous: authority.certificate,
      why: "its authority is known everywhere",
    };
  }
  if (state.previous === undefined || now - state.since < RETIRE_AFTER_MS) return undefined;
  return { do: "retire", why: "the previous authority signed nothing that is served" };
}

function ageStep({ state, now }: CertificateFacts, authority: KeyedCertificate): CertificateStep | undefined {
  if (state.previous !== undefined || usable(state.next, now) !== undefined) return undefined;
  if (!isDue(new X509Certificate(authority.certificate), now)) return undefined;
  return { do: "introduce", why: "two thirds of the authority's life are over" };
}

const isDue = (certificate: X509Certificate, now: number): boolean => {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return now >= from + (to - from) * RENEW_AT;
};

/**
 * The pair, where it can be read, its key fits, and it has not expired. One from the future is no reason to act: it is
 * our clock that is behind, and a new authority would be trusted by nobody whose clock is right.
 */
function usable(pair: KeyedCertificate | undefined, now: number): KeyedCertificate | undefined {
  return pair !== undefined && broken(pair, now) === "" ? pair : undefined;
}

/** What is wrong with a pair, in words; empty when nothing is. */
function broken(pair: KeyedCertificate | undefined, now: number): string {
  if (pair === undefined) return "there is none";
  try {
    const certificate = new X509Certificate(pair.certificate);
    if (!certificate.checkPrivateKey(createPrivateKey(pair.key))) return "the key belongs to another certificate";
    return now >= Date.parse(certificate.validTo) ? "expired" : "";
  } catch {
    return "unreadable";
  }
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const normal = (pem: string): string => pem.replace(/\s+/g, "");

/** The certificates of a bundle, each without white space, so that line ends do not matter. */
const certificatesOf = (bundle: string): readonly string[] => (bundle.match(PEM) ?? []).map(normal);

/** Every authority to trust: next, active and previous ones, in an order that a promotion does not change. */
export const bundleOf = (state: CertificateState): string =>
  [state.authority?.certificate, state.next?.certificate, state.previous]
    .filter((pem) => pem !== undefined)
    .map((pem) => `${pem.trim()}\n`)
    .sort()
    .join("");

/** The two Secrets as they are at the API server. */
export interface CertificateSecrets {
  readonly serving: KubeObject | undefined;
  readonly authority: KubeObject | undefined;
}

/** Decodes the Secrets. What is missing or not text stays absent; nothing here is trusted before it is checked. */
export function readSecrets(secrets: CertificateSecrets): CertificateState {
  const serving = readServing(secrets.serving);
  const authority = readPair(secrets.authority, AUTHORITY_KEYS.authority, AUTHORITY_KEYS.authorityKey);
  const next = readPair(secrets.authority, AUTHORITY_KEYS.next, AUTHORITY_KEYS.nextKey);
  const previous = secretText(secrets.authority, AUTHORITY_KEYS.previous);
  return {
    ...(serving === undefined ? {} : { serving }),
    ...(authority === undefined ? {} : { authority }),
    ...(next === undefined ? {} : { next }),
    ...(previous === undefined ? {} : { previous }),
    since: Number(secretText(secrets.authority, AUTHORITY_KEYS.since) ?? 0) || 0,
  };
}

const readServing = (secret: KubeObject | undefined): KeyedCertificate | undefined =>
  readPair(secret, SECRET_KEYS.certificate, SECRET_KEYS.key);

function readPair(secret: KubeObject | undefined, crt: string, pem: string): KeyedCertificate | undefined {
  const [certificate, key] = [secretText(secret, crt), secretText(secret, pem)];
  return certificate === undefined || key === undefined ? undefined : { certificate, key };
}

function secretText(secret: KubeObject | undefined, key: string): string | undefined {
  const data = secret?.["data"];
  const value = isObject(data) && Object.hasOwn(data, key) ? data[key] : undefined;
  return typeof value === "string" && value !== "" ? Buffer.from(value, "base64").toString("utf8") : undefined;
}

type SecretData = Readonly<Record<string, string>>;

/** `data` of the Secret that webhooks read. */
export const servingData = (state: CertificateState): SecretData =>
  encoded([
    [SECRET_KEYS.certificate, state.serving?.certificate],
    [SECRET_KEYS.key, state.serving?.key],
    [SECRET_KEYS.authority, state.authority?.certificate],
    [SECRET_KEYS.bundle, bundleOf(state)],
  ]);

/** `data` of the Secret that only the controller reads. */
export const authorityData = (state: CertificateState): SecretData =>
  encoded([
    [AUTHORITY_KEYS.authority, state.authority?.certificate],
    [AUTHORITY_KEYS.authorityKey, state.authority?.key],
    [AUTHORITY_KEYS.next, state.next?.certificate],
    [AUTHORITY_KEYS.nextKey, state.next?.key],
    [AUTHORITY_KEYS.previous, state.previous],
    [AUTHORITY_KEYS.since, String(state.since)],
  ]);

const encoded = (entries: readonly (readonly [string, string | undefined])[]): SecretData =>
  Object.fromEntries(
    entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, Buffer.from(value).toString("base64")]])),
  );

/** What a TLS server loads from the Secret: certificate and key, once both are there and valid now. */
export const servingFrom = (secret: KubeObject | undefined, now: number): KeyedCertificate | undefined =>
  usable(readServing(secret), now);
