import t from "tap";
import { randomUUID, X509Certificate } from "node:crypto";
import { reconcileCertificates, serviceNames, type CertificateOptions } from "../../../src/certs/loop.ts";
import { readSecrets, RETIRE_AFTER_MS, SETTLE_MS, type CertificateState } from "../../../src/certs/plan.ts";
import { createClientOver } from "../../../src/cluster/client.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { isGood, jump, JUMPS } from "../../score/a10.ts";
import { race } from "../../score/certificates.ts";
import { startApiServer, type FakeApiServer } from "../../support/apiserver.ts";

const START = Date.parse("2026-01-01T00:00:00Z");
const DAY = 86_400_000;

interface Scene {
  readonly server: FakeApiServer;
  readonly at: (now: number) => CertificateOptions;
}

async function scene(t: { teardown(fn: () => Promise<void>): void }): Promise<Scene> {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  for (const kind of ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
    server.put({
      apiVersion: "admissionregistration.k8s.io/v1",
      kind,
      metadata: { name: "tandem" },
      webhooks: [{ name: `${kind}.tandem.sh`, clientConfig: { url: "https://127.0.0.1:9443/x" } }],
    });
  const at = (now: number): CertificateOptions => {
    const clock = { now: () => now, monotonic: () => now };
    const client = createClientOver(server.transport(), { clock });
    return {
      reader: client,
      writer: client,
      clock,
      random: { next: () => 0, id: randomUUID },
      namespace: "tandem-system",
      secret: "tandem-webhook-tls",
      names: serviceNames("tandem-webhook", "tandem-system"),
      webhookConfiguration: "tandem",
    };
  };
  return { server, at };
}

const secret = ({ server }: Scene): KubeObject | undefined => server.find("secrets", "tandem-webhook-tls");
const authority = ({ server }: Scene): KubeObject | undefined => server.find("secrets", "tandem-webhook-tls-authority");
const stateOf = (s: Scene): CertificateState => readSecrets({ serving: secret(s), authority: authority(s) });
const bundles = ({ server }: Scene): string[] =>
  ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"].map((plural) => {
    const hooks = server.find(plural, "tandem")?.["webhooks"] as { clientConfig: { caBundle?: string } }[];
    return Buffer.from(hooks[0]?.clientConfig.caBundle ?? "", "base64").toString();
  });

/** True where a client that trusts what is published accepts what is served. */
function isTrusted(s: Scene): boolean {
  const leaf = new X509Certificate(stateOf(s).serving?.certificate ?? "");
  return bundles(s).every((bundle) =>
    (bundle.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? []).some((pem) =>
      leaf.verify(new X509Certificate(pem).publicKey),
    ),
  );
}

t.test("begins with nothing, publishes, and has nothing to do after that", async (t) => {
  const s = await scene(t);
  t.equal((await reconcileCertificates(s.at(START))).length, 3);
  t.equal(secret(s)?.["type"], "kubernetes.io/tls");
  t.same(Object.keys(secret(s)?.["data"] ?? {}), ["tls.crt", "tls.key", "ca.crt", "ca-bundle.crt"]);
  t.same(Object.keys(authority(s)?.["data"] ?? {}), ["ca.crt", "ca.key", "rotation-since"]);
  t.ok(isTrusted(s));
  t.same(await reconcileCertificates(s.at(START + 1000)), []);
});

t.test("five replicas that start at once agree on one authority", async (t) => {
  const s = await scene(t);
  await Promise.all(Array.from({ length: 5 }, () => reconcileCertificates(s.at(START))));
  await reconcileCertificates(s.at(START));
  t.ok(isTrusted(s));
  t.equal(new Set(bundles(s)).size, 1);
  t.equal(bundles(s)[0]?.match(/BEGIN/g)?.length, 1);
});

t.test("a whole rotation of the authority: what is served is trusted after every single pass", async (t) => {
  const s = await scene(t);
  await reconcileCertificates(s.at(START));
  const first = bundles(s)[0];
  let now = START + 250 * DAY;
  const done: string[] = [];
  for (const wait of [0, 1, 1, SETTLE_MS, 1, RETIRE_AFTER_MS, 1]) {
    now += wait;
    const verdicts = await reconcileCertificates(s.at(now));
    done.push(...verdicts.map(({ message }) => message.replace(/:.*/, "")));
    t.ok(isTrusted(s), done.at(-1) ?? "");
  }
  const written = "the CA bundle was written";
  t.same(done, ["renew", "introduce", written, written, "promote", "retire", written, written]);
  t.not(bundles(s)[0], first);
  t.equal(bundles(s)[0]?.match(/BEGIN/g)?.length, 1);
});

t.test("somebody else's Secret is left alone, and so are the bundles", async (t) => {
  const s = await scene(t);
  const foreign = s.server.put({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "tandem-webhook-tls", namespace: "tandem-system" },
    data: { "tls.crt": "eA==" },
  });
  t.match(await reconcileCertificates(s.at(START)), [{ reason: "CertificatesForeign" }]);
  t.same(secret(s), foreign);
  t.same(bundles(s), ["", ""]);
});

t.test(
  "a process that dies between the two Secrets leaves what the next pass completes, and trust stays",
  async (t) => {
    const s = await scene(t);
    await reconcileCertificates(s.at(START));
    let now = START + 250 * DAY;
    for (const wait of [0, 0, 0, SETTLE_MS, 0, RETIRE_AFTER_MS, 0]) {
      now += wait;
      let written = 0;
      // The second Secret of every pass is not written.
      s.server.intercept = ({ method, path }) =>
        method === "PATCH" && path.includes("/secrets/") && ++written > 1 ? "reset" : undefined;
      await reconcileCertificates(s.at(now)).catch(() => undefined);
      t.ok(isTrusted(s), "after the pass that died");
      s.server.intercept = () => undefined;
      await reconcileCertificates(s.at(now));
      t.ok(isTrusted(s), "after the next one");
    }
    t.same(await reconcileCertificates(s.at(now)), []);
    t.equal(bundles(s)[0]?.match(/BEGIN/g)?.length, 1);
    t.equal(stateOf(s).previous, undefined);
  },
);

t.test("either Secret gone, cut short or full of nonsense: the next pass serves what is trusted again", async (t) => {
  const s = await scene(t);
  for (const name of ["tandem-webhook-tls", "tandem-webhook-tls-authority"])
    for (const data of [undefined, {}, { "tls.crt": "eA==", "ca.crt": "eA==", "tls.key": "eA==", "ca.key": "eA==" }]) {
      await reconcileCertificates(s.at(START));
      const found = s.server.find("secrets", name);
      if (found === undefined) throw new Error(`no ${name}`);
      if (data === undefined) s.server.drop(found);
      else s.server.put({ ...found, data });
      await reconcileCertificates(s.at(START));
      t.ok(isTrusted(s), `${name}: ${JSON.stringify(data)}`);
      t.same(await reconcileCertificates(s.at(START)), []);
    }
});

t.test(
  "the authority's Secret deleted by hand: what is served stays trusted while another is introduced",
  async (t) => {
    const s = await scene(t);
    await reconcileCertificates(s.at(START));
    const [first] = bundles(s);
    s.server.drop(authority(s) ?? ({} as KubeObject));
    let now = START;
    for (const wait of [0, 1, SETTLE_MS, 1]) {
      now += wait;
      await reconcileCertificates(s.at(now));
      t.ok(isTrusted(s), `after ${wait} ms`);
      t.match(
        bundles(s)[0],
        new RegExp(first?.slice(40, 80).replaceAll(/[+/]/g, ".") ?? "x"),
        "the old one stays for now",
      );
    }
    await reconcileCertificates(s.at(now + RETIRE_AFTER_MS));
    t.equal(bundles(s)[0]?.match(/BEGIN/g)?.length, 1);
    t.not(bundles(s)[0], first);
  },
);

t.test(
  "both Secrets deleted by hand: the bundle keeps what running replicas serve until the new leaf is out",
  async (t) => {
    const s = await scene(t);
    await reconcileCertificates(s.at(START));
    const old = new X509Certificate(stateOf(s).serving?.certificate ?? "");
    for (const found of [secret(s), authority(s)]) s.server.drop(found ?? ({} as KubeObject));
    await reconcileCertificates(s.at(START));
    t.equal(secret(s), undefined, "nothing new to serve before it is trusted");
    const trusts = (): boolean[] =>
      (bundles(s)[0]?.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? []).map((pem) =>
        old.verify(new X509Certificate(pem).publicKey),
      );
    t.same(trusts().sort(), [false, true]);
    await reconcileCertificates(s.at(START + SETTLE_MS));
    t.ok(isTrusted(s));
    t.ok(trusts().includes(true));
    await reconcileCertificates(s.at(START + SETTLE_MS + RETIRE_AFTER_MS));
    t.same(trusts(), [false]);
  },
);

t.test("a bundle overwritten by hand is put back, one written from newer Secrets is not undone", async (t) => {
  const s = await scene(t);
  await reconcileCertificates(s.at(START));
  const good = bundles(s);
  const found = s.server.find("mutatingwebhookconfigurations", "tandem");
  s.server.put({
    ...(found as KubeObject),
    webhooks: [
      {
        name: "MutatingWebhookConfiguration.tandem.sh",
        clientConfig: { url: "https://127.0.0.1:9443/x", caBundle: "eA==" },
      },
    ],
  });
  t.not(bundles(s)[0], good[0]);
  await reconcileCertificates(s.at(START + 30_000));
  t.same(bundles(s), good);
});

for (const each of JUMPS)
  t.test(`the clock jumps: ${each.name}`, async (t) => {
    const result = await jump(each);
    t.ok(isGood(each, result), JSON.stringify(result));
  });

t.test("five replicas race, with refused writes", async (t) => {
  for (const seed of [1, 2, 3]) t.equal(await race(seed), "", `seed ${seed}`);
});
