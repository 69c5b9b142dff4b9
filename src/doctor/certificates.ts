/** Certificates of webhooks and extender: who vouches for which, and for how long. */
import { X509Certificate } from "node:crypto";
import { isObject, type KubeObject } from "../kinds/kube.ts";

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The first certificate of a PEM text; undefined where it holds none that can be read. */
export function certificateOf(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/** True where one of the authorities (PEM after PEM) signed the certificate, or is it: a self-signed one. */
export function vouchesFor(bundle: string, leaf: X509Certificate): boolean {
  const authorities = (bundle.match(PEM) ?? []).flatMap((pem) => certificateOf(pem) ?? []);
  return authorities.some(
    (authority) =>
      authority.fingerprint256 === leaf.fingerprint256 ||
      (leaf.checkIssued(authority) && leaf.verify(authority.publicKey)),
  );
}

/** `tls.crt` of a kubernetes.io/tls Secret, PEM; empty where there is none. Its key is never read. */
export function servedCertificate(secret: KubeObject | undefined): string {
  const data = secret?.["data"];
  const value = isObject(data) && Object.hasOwn(data, "tls.crt") ? data["tls.crt"] : undefined;
  return typeof value === "string" ? Buffer.from(value, "base64").toString("utf8") : "";
}

/** Share of a certificate's life that is over: below 0 before it begins, above 1 after its end. */
export function spent(certificate: X509Certificate, now: number): number {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return (now - from) / (to - from);
}
