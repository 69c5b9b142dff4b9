/**
 * Certificates for the webhooks: an authority, and the serving certificate it signs.
 *
 * Keys are made by node:crypto, off the event loop (RSA 2048, some 80 ms; the library can sign with nothing else).
 * node-forge only writes certificates; reading and verifying them is node:crypto's, in `plan.ts`.
 */
import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import forge from "node-forge";

/** A certificate with its private key, both PEM. */
export interface KeyedCertificate {
  readonly certificate: string;
  readonly key: string;
}

export interface IssueContext {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** A fresh identifier, unguessable, of hexadecimal digits and dashes: `Random.id`. */
  readonly id: () => string;
}

const DAY_MS = 86_400_000;
/** Clocks of API server and webhook differ; a certificate from the future is refused. */
export const BACKDATE_MS = 3_600_000;
export const AUTHORITY_DAYS = 365;
export const SERVING_DAYS = 30;
const RSA_BITS = 2048;

const makeKeyPair = promisify(generateKeyPair);

/** Each generation has its own subject, so that a failed verification names the right authority. */
export async function issueAuthority(context: IssueContext): Promise<KeyedCertificate> {
  const serial = serialNumber(context);
  const subject = [{ name: "commonName", value: `tandem-ca-${serial.slice(0, 8)}` }];
  return issue(context, {
    serial,
    subject,
    days: AUTHORITY_DAYS,
    extensions: [
      { name: "basicConstraints", cA: true, pathLenConstraint: 0, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
      { name: "subjectKeyIdentifier" },
    ],
  });
}

/** A serving certificate for DNS names and IP addresses. Throws when `names` is empty: nobody could accept it. */
export async function issueServing(
  context: IssueContext,
  authority: KeyedCertificate,
  names: readonly string[],
): Promise<KeyedCertificate> {
  const [first] = names;
  if (first === undefined) throw new Error("a serving certificate needs a name");
  return issue(context, {
    serial: serialNumber(context),
    // A common name holds 64 characters at most; clients read the alternative names.
    subject: [{ name: "commonName", value: first.slice(0, 64) }],
    days: SERVING_DAYS,
    authority,
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: names.map(alternativeName) },
    ],
  });
}

interface Request {
  readonly serial: string;
  readonly subject: forge.pki.CertificateField[];
  readonly days: number;
  readonly extensions: object[];
  /** Absent: self-signed. */
  readonly authority?: KeyedCertificate;
}

async function issue(context: IssueContext, request: Request): Promise<KeyedCertificate> {
  const pair = await makeKeyPair("rsa", {
    modulusLength: RSA_BITS,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(pair.publicKey);
  certificate.serialNumber = request.serial;
  certificate.validity.notBefore = new Date(context.now - BACKDATE_MS);
  certificate.validity.notAfter = new Date(context.now + request.days * DAY_MS);
  certificate.setSubject(request.subject);
  certificate.setIssuer(issuerOf(request));
  certificate.setExtensions(request.extensions);
  const signer = request.authority?.key ?? pair.privateKey;
  certificate.sign(forge.pki.privateKeyFromPem(signer), forge.md.sha256.create());
  const pem = forge.pki.certificateToPem(certificate).replaceAll("\r\n", "\n");
  return { certificate: pem, key: pair.privateKey };
}

const issuerOf = ({ authority, subject }: Request): forge.pki.CertificateField[] =>
  authority === undefined ? subject : forge.pki.certificateFromPem(authority.certificate).subject.attributes;

/**
 * 16 random octets that DER can hold as a positive INTEGER without padding (X.690, 8.3.2): the first is 0x40 to 0x7f.
 * A leading 0x00 before an octet below 0x80, one serial in 256, would be refused as illegal padding.
 */
function serialNumber(context: IssueContext): string {
  const digits = context.id().replaceAll("-", "").padEnd(32, "0").slice(0, 32);
  const first = (Number.parseInt(digits.slice(0, 1), 16) & 3) | 4;
  return `${first}${digits.slice(1)}`;
}

/** An IPv4 or IPv6 address, and not a DNS name. */
export const isAddress = (name: string): boolean => /^[\d.]+$|:/.test(name);

/** GeneralName types of RFC 5280: 7 an address, 2 a DNS name. */
const alternativeName = (name: string): object => (isAddress(name) ? { type: 7, ip: name } : { type: 2, value: name });
