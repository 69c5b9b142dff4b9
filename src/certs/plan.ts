/**
 * When certificates are made, renewed and rotated: decided from the Secrets as they stand, the clock, and what the API
 * server has of the bundle. Reads no cluster and makes no keys; `loop.ts` carries the decision out.
 *
 * An authority is never replaced under anybody's feet. Its rotation takes three passes or more, and every state in
 * between is in the Secrets, so that it survives a restart at any point:
 * 1. introduce: a next authority is written beside the active one; the bundle trusts both, leaves stay as they are.
 * 2. promote: once the API server has carried the bundle with both for 10 s, the next one signs a new leaf; the old one
 *    stays in the bundle.
 * 3. retire: 5 min later every replica serves the new leaf, and the old authority leaves the bundle. A replica that did
 *    not hear of its Secret for two minutes is not ready, so none that is called still serves the old leaf by then.
 *
 * An authority that is lost goes the same way: what webhooks still trust stays in the bundle while another is introduced.
 * Only where nothing is trusted any more does everything begin anew at once.
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
  /** PEM, of one or several authorities. */
  readonly previous?: string;
  readonly since: number;
}

/** What is to be done with the Secrets. */
export type CertificateStep =
  | { readonly do: "keep" }
  /** Nothing usable: a new authority and a new leaf. */
  | { readonly do: "begin"; readonly why: string }
  | { readonly do: "renew"; readonly authority: KeyedCertificate; readonly why: string }
  /** With `previous` the present authority is lost, and these certificates are what is still trusted. */
  | { readonly do: "introduce"; readonly previous?: string; readonly why: string }
  /** The time of the step counts from now on. */
  | { readonly do: "wait"; readonly why: string }
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
  const authority = usable(facts.state.authority, facts.now);
  if (authority === undefined) return lostStep(facts);
  return servingStep(facts, authority) ?? rotationStep(facts, authority) ?? ageStep(facts, authority) ?? { do: "keep" };
}

/** Nothing can be signed any more: another authority, behind what the webhooks trust where they trust anything. */
function lostStep(facts: CertificateFacts): CertificateStep {
  const { state, now } = facts;
  const next = usable(state.next, now);
  const why = broken(state.authority, now);
  const trusted = stillTrusted(facts);
  if (trusted === "") return { do: "begin", why };
  return next === undefined ? { do: "introduce", previous: trusted, why } : promotion(facts, next, trusted);
}

/** A bundle holds three authorities at most; what is beyond that was lost one after the other. */
const MOST_TRUSTED = 4;

/** Authorities in the published bundles that can still vouch for a leaf, PEM after PEM: that of the present one, then the youngest. */
function stillTrusted({ state, now, published }: CertificateFacts): string {
  const next = state.next === undefined ? [] : certificatesOf(state.next.certificate).map(normal);
  const all = new Set([...published, state.previous ?? ""].flatMap(certificatesOf));
  const leaf = parsed(state.serving?.certificate ?? "");
  const rank = (pem: string): number => {
    const authority = new X509Certificate(pem);
    return leaf?.verify(authority.publicKey) === true ? Number.POSITIVE_INFINITY : Date.parse(authority.validFrom);
  };
  return [...all]
    .filter((pem) => isAuthority(pem, now) && !next.includes(normal(pem)))
    .sort((one, other) => (rank(one) < rank(other) ? 1 : -1))
    .slice(0, MOST_TRUSTED)
    .join("\n");
}

function isAuthority(pem: string, now: number): boolean {
  const certificate = parsed(pem);
  if (certificate === undefined) return false;
  return certificate.ca && now < Date.parse(certificate.validTo) && certificate.verify(certificate.publicKey);
}

function servingStep(facts: CertificateFacts, authority: KeyedCertificate): CertificateStep | undefined {
  const why = servingTrouble(facts, authority);
  return why === undefined ? undefined : { do: "renew", authority, why };
}

function servingTrouble({ state, now, names }: CertificateFacts, authority: KeyedCertificate): string | undefined {
  const serving = usable(state.serving, now);
  if (serving === undefined) return broken(state.serving, now);
  const leaf = new X509Certificate(serving.certificate);
  const signer = new X509Certificate(authority.certificate);
  if (!leaf.verify(signer.publicKey)) return "not signed by the present authority";
  const missing = names.filter((name) => !covers(leaf, name));
  if (missing.length > 0) return `lacks the names ${missing.join(", ")}`;
  // Where the authority is from the future too, it would have to be signed once more.
  if (isFuture(leaf, now) && !isFuture(signer, now)) return "from the future";
  return isDue(leaf, now) ? "two thirds of its life are over" : undefined;
}

const covers = (leaf: X509Certificate, name: string): boolean =>
  (isAddress(name) ? leaf.checkIP(name) : leaf.checkHost(name, { subject: "never" })) !== undefined;

/** Goes on with a rotation that has begun: promote the next authority, or retire the previous one. */
function rotationStep(facts: CertificateFacts, authority: KeyedCertificate): CertificateStep | undefined {
  const { state, now } = facts;
  const next = usable(state.next, now);
  if (next !== undefined) return promotion(facts, next, authority.certificate);
  if (state.previous === undefined) return undefined;
  if (state.since > now) return clockWentBack;
  if (now - state.since < RETIRE_AFTER_MS) return undefined;
  return { do: "retire", why: "the previous authority signed nothing that is served" };
}

const clockWentBack: CertificateStep = { do: "wait", why: "the clock went back" };

/** The next authority signs once every webhook has trusted it for a while, counted from when that was seen. */
function promotion(
  { state, now, published }: CertificateFacts,
  next: KeyedCertificate,
  previous: string,
): CertificateStep {
  const wanted = normal(next.certificate);
  if (!published.every((bundle) => certificatesOf(bundle).some((pem) => normal(pem) === wanted)))
    return { do: "wait", why: "the next authority is not known to every webhook" };
  if (state.since > now) return clockWentBack;
  if (now - state.since < SETTLE_MS) return { do: "keep" };
  return { do: "promote", authority: next, previous, why: "its authority is known everywhere" };
}

function ageStep({ state, now }: CertificateFacts, authority: KeyedCertificate): CertificateStep | undefined {
  if (state.previous !== undefined) return undefined;
  const certificate = new X509Certificate(authority.certificate);
  if (isFuture(certificate, now)) return { do: "introduce", why: "the authority is from the future" };
  return isDue(certificate, now) ? { do: "introduce", why: "two thirds of the authority's life are over" } : undefined;
}

/**
 * Made by a clock that ran ahead by more than BACKDATE_MS: nobody accepts it yet. Another one, introduced like any, does
 * no harm where it is our clock that is behind: the old one stays trusted until every replica serves the new leaf.
 */
const isFuture = (certificate: X509Certificate, now: number): boolean => now < Date.parse(certificate.validFrom);

const isDue = (certificate: X509Certificate, now: number): boolean => {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return now >= from + (to - from) * RENEW_AT;
};

/** The pair, where it can be read, its key fits, and it has not expired. One from the future can still be served. */
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

/** The certificates of a bundle. */
const certificatesOf = (bundle: string): readonly string[] => bundle.match(PEM) ?? [];

function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/**
 * Every authority to trust: next, active and previous ones, each once, in an order that a promotion does not change. What
 * cannot be read is left out: the API server refuses a bundle that holds anything else than certificates.
 */
export function bundleOf(state: CertificateState): string {
  const all = [state.authority?.certificate, state.next?.certificate, state.previous].flatMap((pem) =>
    certificatesOf(pem ?? ""),
  );
  return [...new Set(all)]
    .filter((pem) => parsed(pem) !== undefined)
    .map((pem) => `${pem}\n`)
    .sort()
    .join("");
}

/** True while a client with the right time accepts this certificate (PEM) as to its dates. */
export function isValidAt(certificate: string, now: number): boolean {
  const found = parsed(certificate);
  return found !== undefined && !isFuture(found, now) && now < Date.parse(found.validTo);
}

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
