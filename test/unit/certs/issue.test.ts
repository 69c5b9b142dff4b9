import t from "tap";
import { randomUUID, X509Certificate } from "node:crypto";
import { connect, createServer } from "node:tls";
import type { AddressInfo } from "node:net";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../../src/certs/issue.ts";

const NOW = Math.floor(Date.now() / 1000) * 1000;
const context = { now: NOW, id: randomUUID };

t.test("what is written is what node:crypto reads", async (t) => {
  const authority = await issueAuthority(context);
  const leaf = await issueServing(context, authority, ["a.b.svc", "10.0.0.1", "::1"]);
  const [ca, certificate] = [new X509Certificate(authority.certificate), new X509Certificate(leaf.certificate)];
  t.equal(ca.ca, true);
  t.equal(certificate.ca, false);
  t.ok(certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
  t.equal(certificate.subjectAltName, "DNS:a.b.svc, IP Address:10.0.0.1, IP Address:0:0:0:0:0:0:0:1");
  t.same(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1"], "for servers alone");
  t.equal(Date.parse(certificate.validFrom), NOW - 3_600_000);
  t.equal(Date.parse(certificate.validTo), NOW + 30 * 86_400_000);
  t.equal(Date.parse(ca.validTo), NOW + 365 * 86_400_000);
  t.match(certificate.serialNumber, /^[0-7][0-9A-F]{31}$/, "16 octets, positive");
  t.not(certificate.serialNumber, ca.serialNumber);
});

t.test("two authorities have two names", async (t) => {
  const [a, b] = await Promise.all([issueAuthority(context), issueAuthority(context)]);
  t.not(new X509Certificate(a.certificate).subject, new X509Certificate(b.certificate).subject);
});

t.test("a leaf without a name is refused", async (t) => {
  await t.rejects(issueServing(context, await issueAuthority(context), []), /needs a name/);
});

t.test("a handshake succeeds for a client that trusts the authority, and for no other", async (t) => {
  const authority = await issueAuthority(context);
  const stranger = await issueAuthority(context);
  const leaf = await issueServing(context, authority, ["tandem-webhook.tandem-system.svc"]);
  const handshake = await server(t, leaf);
  t.equal(await handshake(authority.certificate, "tandem-webhook.tandem-system.svc"), "");
  t.equal(await handshake(stranger.certificate + authority.certificate, "tandem-webhook.tandem-system.svc"), "");
  t.match(await handshake(stranger.certificate, "tandem-webhook.tandem-system.svc"), /UNABLE_TO/);
  t.match(await handshake(authority.certificate, "other.svc"), /ALTNAME/);
});

type Handshake = (ca: string, servername: string) => Promise<string>;

/** A TLS server on loopback; gives what a client's handshake ends with: empty, or the error's code. */
async function server(t: { teardown(fn: () => void): void }, leaf: KeyedCertificate): Promise<Handshake> {
  const tls = createServer({ cert: leaf.certificate, key: leaf.key }, (socket) => socket.end());
  tls.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => tls.listen(0, "127.0.0.1", resolve));
  t.teardown(() => void tls.close());
  const { port } = tls.address() as AddressInfo;
  return (ca, servername) =>
    new Promise((resolve) => {
      const socket = connect({ port, host: "127.0.0.1", ca, servername }, () => {
        socket.destroy();
        resolve("");
      });
      socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
}

t.test("every serial number is a positive INTEGER without padding, whatever the random source gives", async (t) => {
  for (const id of [
    "00000000-0000-4000-8000-000000000000",
    "007fffff-ffff-4fff-bfff-ffffffffffff",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
  ]) {
    const authority = await issueAuthority({ now: NOW, id: () => id });
    const { serialNumber } = new X509Certificate(authority.certificate);
    t.match(serialNumber, /^[4-7][0-9A-F]{31}$/);
  }
});
