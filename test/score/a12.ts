import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import forge from "node-forge";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../src/certs/issue.ts";
import { labelledDeployment } from "../e2e/cluster/load.ts";
import { startApiServer, type FakeApiServer } from "../support/apiserver.ts";
import type { ScoreRow } from "./row.ts";
import { freePorts } from "../support/ports.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const CALLS = 50;
const HOUR_MS = 3_600_000;

/** A client's certificate, as an API server has one. */
function issueClient(authority: KeyedCertificate, name: string): KeyedCertificate {
  const pair = forge.pki.rsa.generateKeyPair(2048);
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = pair.publicKey;
  certificate.serialNumber = "4001";
  certificate.validity.notBefore = new Date(Date.now() - HOUR_MS);
  certificate.validity.notAfter = new Date(Date.now() + HOUR_MS);
  certificate.setSubject([{ name: "commonName", value: name }]);
  certificate.setIssuer(forge.pki.certificateFromPem(authority.certificate).subject.attributes);
  certificate.setExtensions([{ name: "extKeyUsage", clientAuth: true }]);
  certificate.sign(forge.pki.privateKeyFromPem(authority.key), forge.md.sha256.create());
  return { certificate: forge.pki.certificateToPem(certificate), key: forge.pki.privateKeyToPem(pair.privateKey) };
}

interface Scene {
  readonly api: FakeApiServer;
  readonly port: number;
  readonly serving: string;
  readonly clients: KeyedCertificate;
  readonly end: () => Promise<void>;
}

/** Role admission over a small API server, with an authority of callers. */
async function start(): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-a12-"));
  const api = await startApiServer();
  const context = { now: Date.now(), id: randomUUID };
  const [own, clients] = [await issueAuthority(context), await issueAuthority(context)];
  const leaf = await issueServing(context, own, ["127.0.0.1"]);
  const file = (name: string, text: string): string => (writeFileSync(join(folder, name), text), join(folder, name));
  file("tls.crt", leaf.certificate);
  file("tls.key", leaf.key);
  const cluster = { server: api.url, "certificate-authority-data": Buffer.from(api.ca).toString("base64") };
  const kubeconfig = file(
    "kubeconfig.json",
    JSON.stringify({
      "current-context": "c",
      clusters: [{ name: "c", cluster }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    }),
  );
  const [port = 0] = await freePorts(1);
  const pairs = {
    "cluster.kubeconfig": kubeconfig,
    "admission.certificates.directory": folder,
    "admission.listen": `127.0.0.1:${port}`,
    "admission.clientCa": file("clients.crt", clients.certificate),
    "admission.clientName": "kube-apiserver",
    "metrics.listen": "",
    "admin.listen": "",
  };
  const set = Object.entries(pairs).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  const child = spawn(process.execPath, [MAIN, "serve", "--role", "admission", ...set], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  await serves(child);
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await api.stop();
    rmSync(folder, { recursive: true });
  };
  return { api, port, serving: own.certificate, clients, end };
}

async function serves(child: ChildProcess): Promise<void> {
  let said = "";
  for await (const text of child.stderr ?? []) {
    said += String(text);
    if (said.includes("tandem serves")) break;
  }
  if (!said.includes("tandem serves")) throw new Error(said);
  child.stderr?.on("data", () => undefined).resume();
}

const BODY = JSON.stringify({
  apiVersion: "admission.k8s.io/v1",
  kind: "AdmissionReview",
  request: {
    uid: "u",
    kind: { group: "apps", version: "v1", kind: "Deployment" },
    operation: "CREATE",
    namespace: "default",
    object: labelledDeployment("called"),
  },
});

/** Status of a review from this caller; 0 where the connection was refused. */
const call = ({ port, serving }: Scene, client?: KeyedCertificate): Promise<number> =>
  new Promise((resolve) => {
    const identity = client === undefined ? {} : { cert: client.certificate, key: client.key };
    const headers = { "content-type": "application/json" };
    const options = {
      port,
      host: "127.0.0.1",
      ca: serving,
      agent: false as const,
      method: "POST",
      path: "/admission/mutate",
    };
    request({ ...options, ...identity, headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    })
      .once("error", () => resolve(0))
      .end(BODY);
  });

const many = async (scene: Scene, client?: KeyedCertificate): Promise<number[]> => {
  const statuses: number[] = [];
  for (let count = 0; count < CALLS; count++) statuses.push(await call(scene, client));
  return statuses;
};

export const row: ScoreRow = {
  id: "A12",
  fault: `${CALLS} calls each from a Pod without a certificate, with one of a strange authority, and with another's name`,
  required: "all rejected, those of the API server answered; no write and no call to the API server follows",
  run: async () => {
    const scene = await start();
    try {
      const strange = issueClient(await issueAuthority({ now: Date.now(), id: randomUUID }), "kube-apiserver");
      // Reflectors go on listing what is not installed: a call that follows from a review would write, or ask elsewhere.
      const known = new Set(scene.api.requests.map(({ path }) => path));
      const before = scene.api.requests.length;
      const without = await many(scene);
      const foreign = await many(scene, strange);
      const named = await many(scene, issueClient(scene.clients, "somebody"));
      const rightly = await many(scene, issueClient(scene.clients, "kube-apiserver"));
      const rejected = [...without, ...foreign, ...named].filter((status) => status === 0 || status === 403).length;
      const figures = {
        rejected,
        rejectable: 3 * CALLS,
        answered: rightly.filter((status) => status === 200).length,
        outboundCalls: scene.api.requests
          .slice(before)
          .filter(({ method, path }) => method !== "GET" || !known.has(path)).length,
      };
      return { figures, met: rejected === 3 * CALLS && figures.answered === CALLS && figures.outboundCalls === 0 };
    } finally {
      await scene.end();
    }
  },
};
