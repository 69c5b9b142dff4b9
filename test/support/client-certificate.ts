/** A client certificate, which Tandem itself never issues. */
import { randomUUID } from "node:crypto";
import forge from "node-forge";
import type { KeyedCertificate } from "../../src/certs/issue.ts";

/** Signed by the authority, good for an hour, and for clients only. */
export function issueClient(name: string, authority: KeyedCertificate): KeyedCertificate {
  const pair = forge.pki.rsa.generateKeyPair(2048);
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = pair.publicKey;
  certificate.serialNumber = `00${randomUUID().replaceAll("-", "")}`;
  certificate.validity.notBefore = new Date(Date.now() - 60_000);
  certificate.validity.notAfter = new Date(Date.now() + 3_600_000);
  certificate.setSubject([{ name: "commonName", value: name }]);
  certificate.setIssuer(forge.pki.certificateFromPem(authority.certificate).subject.attributes);
  certificate.setExtensions([{ name: "extKeyUsage", clientAuth: true }]);
  certificate.sign(forge.pki.privateKeyFromPem(authority.key), forge.md.sha256.create());
  return {
    certificate: forge.pki.certificateToPem(certificate),
    key: forge.pki.privateKeyToPem(pair.privateKey),
  };
}
