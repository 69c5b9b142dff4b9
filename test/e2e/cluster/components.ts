/** Command lines of the control plane's programs. Everything listens on loopback; nothing is shared between runs. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Agent, request } from "undici";
import { auditFlags } from "./audit.ts";
import type { Binaries } from "./binaries.ts";
import { writeServiceAccountKeys, type Tokens } from "./identity.ts";
import { ready, startProcess, type Running } from "./process.ts";
import { freePorts } from "../../support/ports.ts";

export interface Place {
  readonly binaries: Binaries;
  /** Folder of this cluster: data, keys, configurations, logs. */
  readonly folder: string;
}

export interface Server {
  readonly url: string;
  /** Certificate of the API server and of its issuer, PEM. */
  readonly ca: string;
}

const flags = (values: Readonly<Record<string, string | number | boolean>>): string[] =>
  Object.entries(values).map(([name, value]) => `--${name}=${value}`);

/** True when a GET answers 200; the certificate of the other side is not looked at. */
export async function answers(url: string, token?: string): Promise<boolean> {
  const agent = new Agent({ connect: { rejectUnauthorized: false }, connectTimeout: 1_000, headersTimeout: 2_000 });
  try {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await request(url, { dispatcher: agent, headers });
    await response.body.dump();
    return response.statusCode === 200;
  } finally {
    await agent.destroy();
  }
}

export async function startEtcd({ binaries, folder }: Place): Promise<{ process: Running; url: string }> {
  const [client = 0, peer = 0] = await freePorts(2);
  const [url, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
  const args = flags({
    "data-dir": join(folder, "etcd"),
    "listen-client-urls": url,
    "advertise-client-urls": url,
    "listen-peer-urls": peerUrl,
    "initial-advertise-peer-urls": peerUrl,
    "initial-cluster": `default=${peerUrl}`,
    "unsafe-no-fsync": true,
    "log-level": "warn",
  });
  const process = startProcess({ name: "etcd", command: binaries.etcd, args, folder });
  return { process: await ready(process, () => answers(`${url}/health`)), url };
}

/** `audit`: writes the log that `auditEvents` reads. */
export async function startApiServer(
  { binaries, folder }: Place,
  { etcd, tokens, audit, fleet }: { etcd: string; tokens: Tokens; audit: boolean; fleet: boolean },
): Promise<{ process: Running; server: Server }> {
  const [port = 0] = await freePorts(1);
  const keys = writeServiceAccountKeys(folder);
  const certificates = join(folder, "apiserver");
  const args = flags({
    "etcd-servers": etcd,
    "bind-address": "127.0.0.1",
    "advertise-address": "127.0.0.1",
    "secure-port": port,
    "cert-dir": certificates,
    "token-auth-file": tokens.file,
    "authorization-mode": "RBAC",
    "service-account-issuer": "https://kubernetes.default.svc",
    "service-account-key-file": keys.publicKey,
    "service-account-signing-key-file": keys.privateKey,
    // On loopback: a call to a Service without an endpoint is refused at once and never leaves the machine.
    "service-cluster-ip-range": "127.96.0.0/16",
    // An EndpointSlice of the API server itself is refused on loopback.
    "endpoint-reconciler-type": "none",
    "allow-privileged": true,
    profiling: false,
    // New nodes would wait for a controller to see that they are ready.
    ...(fleet ? { "disable-admission-plugins": "TaintNodesByCondition" } : {}),
    ...(audit ? auditFlags(folder) : {}),
  });
  const process = startProcess({ name: "kube-apiserver", command: binaries["kube-apiserver"], args, folder });
  const url = `https://127.0.0.1:${port}`;
  await ready(process, () => answers(`${url}/readyz`, tokens.admin), 120_000);
  return { process, server: { url, ca: readFileSync(join(certificates, "apiserver.crt"), "utf8") } };
}

const CONTROLLERS: readonly string[] = [
  "deployment-controller",
  "replicaset-controller",
  "statefulset-controller",
  "disruption-controller",
  "garbage-collector-controller",
  "namespace-controller",
  "node-lifecycle-controller",
  "pod-garbage-collector-controller",
  "root-ca-certificate-publisher-controller",
  "serviceaccount-controller",
];

/** Without these no pod is admitted. */
export const LEAST_CONTROLLERS: readonly string[] = ["namespace-controller", "serviceaccount-controller"];

/** kube-controller-manager with what the tests need. Node pod CIDRs are left alone: kwok takes addresses from one pool. */
export async function startControllerManager(
  { binaries, folder }: Place,
  kubeconfig: string,
  controllers = CONTROLLERS,
): Promise<Running> {
  const [port = 0] = await freePorts(1);
  const args = flags({
    kubeconfig,
    controllers: controllers.join(","),
    "leader-elect": false,
    "bind-address": "127.0.0.1",
    "secure-port": port,
    "cert-dir": join(folder, "controller-manager"),
    "root-ca-file": join(folder, "apiserver", "apiserver.crt"),
    // A loaded machine must not look like a dead node.
    "node-monitor-grace-period": "10m",
  });
  const spec = { name: "kube-controller-manager", command: binaries["kube-controller-manager"], args, folder };
  return ready(startProcess(spec), () => answers(`https://127.0.0.1:${port}/healthz`));
}

/** kwok: keeps nodes ready and gives pods their addresses, by the Stage files beside this one. */
export async function startKwok(
  { binaries, folder }: Place,
  kubeconfig: string,
  options: { cidr: string; stages: string; leases: boolean },
): Promise<Running> {
  const [port = 0] = await freePorts(1);
  const args = flags({
    kubeconfig,
    config: options.stages,
    cidr: options.cidr,
    "manage-all-nodes": true,
    ...(options.leases ? {} : { "node-lease-duration-seconds": 0 }),
    "server-address": `127.0.0.1:${port}`,
  });
  const process = startProcess({ name: "kwok", command: binaries.kwok, args, folder });
  return ready(process, () => answers(`http://127.0.0.1:${port}/healthz`));
}

/** How kube-scheduler reaches an extender. */
export interface ExtenderOptions {
  /** As `https://127.0.0.1:9443/extender`. */
  readonly url: string;
  /** Certificate authority, PEM. */
  readonly ca: string;
  /** Weight of its scores; one point counts `10 x weight`. */
  readonly weight?: number;
  /** It binds, too. */
  readonly bind?: boolean;
}

export function schedulerConfiguration(kubeconfig: string, extender?: ExtenderOptions): object {
  const base = {
    apiVersion: "kubescheduler.config.k8s.io/v1",
    kind: "KubeSchedulerConfiguration",
    clientConnection: { kubeconfig },
    leaderElection: { leaderElect: false },
    percentageOfNodesToScore: 100,
  };
  if (extender === undefined) return base;
  const entry = {
    urlPrefix: extender.url,
    filterVerb: "filter",
    prioritizeVerb: "prioritize",
    preemptVerb: "preempt",
    ...(extender.bind === true ? { bindVerb: "bind" } : {}),
    weight: extender.weight ?? 10,
    enableHTTPS: true,
    tlsConfig: { caData: Buffer.from(extender.ca).toString("base64") },
    httpTimeout: "2s",
    nodeCacheCapable: true,
    ignorable: false,
  };
  return { ...base, extenders: [entry] };
}

export async function startScheduler({ binaries, folder }: Place, configuration: object): Promise<Running> {
  const [port = 0] = await freePorts(1);
  mkdirSync(join(folder, "scheduler"), { recursive: true });
  const config = join(folder, "scheduler", "configuration.yaml");
  writeFileSync(config, JSON.stringify(configuration, undefined, 2));
  const args = flags({
    config,
    "bind-address": "127.0.0.1",
    "secure-port": port,
    "cert-dir": join(folder, "scheduler"),
    v: 3,
  });
  const process = startProcess({ name: "kube-scheduler", command: binaries["kube-scheduler"], args, folder });
  return ready(process, () => answers(`https://127.0.0.1:${port}/readyz`));
}
