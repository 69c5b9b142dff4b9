/**
 * A real Kubernetes on loopback: etcd, kube-apiserver, kube-controller-manager, kwok with fake nodes, and, when a test
 * asks for it, kube-scheduler with our extender in its configuration.
 *
 * There are no containers and no service network: webhooks are reached by `clientConfig.url`. Everything lives in a
 * temporary folder and ends with the test process.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { connect, type Api } from "./api.ts";
import { kubernetesBinaries } from "./binaries.ts";
import * as components from "./components.ts";
import { VOLCANO_CRDS, volcanoCrds } from "./crds.ts";
import { writeKubeconfig, writeTokens, type Tokens } from "./identity.ts";
import { kubectlOf, type Kubectl, type Output } from "./kubectl.ts";
import { fakeNodes, hyperNodeTree, type NodeOptions } from "./nodes.ts";
import { HARNESS } from "./paths.ts";
import { eventually, temporaryFolder, type Running } from "./process.ts";

/** Annotation by which the harness says whether an engine listens on a pod's address; kwok's stages read it. */
export const LISTENING = "harness.test/listening";
const TOKEN_SECONDS = 7200;

export interface ClusterOptions {
  /** Pods get their addresses here; inside 127.0.0.0/8, so that engines can listen on them. Default 127.64.0.1/16. */
  readonly podCidr?: string;
  /** The API server keeps an audit log of writes to Pods and workloads, for `auditEvents`. */
  readonly audit?: boolean;
  /**
   * For thousands of nodes: no leases (500 writes a second for 5000 of them), heartbeats every five minutes as kubelets
   * send them, and no controllers but those without which no pod is admitted. Nodes come Ready, pods are made by the test.
   */
  readonly fleet?: boolean;
}

export interface Cluster {
  /** Folder of this run; `NAME.log` of each program is in it. */
  readonly folder: string;
  readonly server: components.Server;
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly api: Api;
  /** kubectl as the administrator; `--as` for others. Never throws for a non-zero exit. */
  readonly kubectl: Kubectl;
  /** Like `kubectl`, but a non-zero exit is an error with its output. Resolves to stdout. */
  readonly must: (args: readonly string[], stdin?: string) => Promise<string>;
  /** Path of a kubeconfig with a real token of a ServiceAccount, which must exist; each call makes another of both. */
  kubeconfigFor(namespace: string, serviceAccount: string): Promise<string>;
  /** Server-side apply of YAML text or objects, as field manager `harness`. */
  apply(objects: string | readonly object[]): Promise<void>;
  /** Volcano's PodGroup, Queue, HyperNode and Numatopology. Resolves when they are served. */
  applyCrds(): Promise<void>;
  /** Fake nodes, and (unless told otherwise) the HyperNode tree over them. Resolves when all are Ready. */
  addNodes(options?: NodeOptions & { readonly tree?: boolean }): Promise<void>;
  startScheduler(options?: SchedulerOptions): Promise<Running>;
  pods(namespace: string, selector?: string): Promise<Pod[]>;
  /** Says that an engine listens on the pod's address (or no longer does); the pod becomes Ready (or stops being it). */
  setListening(pod: Pod, listening: boolean): Promise<void>;
  /** The end of every program's log, for a failing test. */
  logs(): string;
  stop(): Promise<void>;
}

export interface SchedulerOptions {
  readonly extender?: components.ExtenderOptions;
  /** Makes the whole configuration instead, given the path of the scheduler's kubeconfig. */
  readonly configure?: (kubeconfig: string) => object;
}

/** Starts all but the scheduler. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const binaries = await kubernetesBinaries();
  const { folder, remove } = temporaryFolder("tandem-cluster-");
  const place = { binaries, folder };
  const running: Running[] = [];
  const end = async (): Promise<void> => {
    for (const process of running.toReversed()) await process.stop();
    remove();
  };
  try {
    const tokens = writeTokens(place.folder);
    const etcd = await components.startEtcd(place);
    running.push(etcd.process);
    const { process, server } = await components.startApiServer(place, {
      etcd: etcd.url,
      tokens,
      audit: options.audit ?? false,
      fleet: options.fleet ?? false,
    });
    running.push(process);
    const kubeconfig = writeKubeconfig(join(place.folder, "admin.kubeconfig"), server, tokens.admin);
    const fleet = options.fleet === true;
    const stages = fleet ? slowHeartbeats(place.folder) : STAGES;
    const kwok = { cidr: options.podCidr ?? "127.64.0.1/16", stages, leases: !fleet };
    running.push(
      ...(await Promise.all([
        components.startControllerManager(place, kubeconfig, fleet ? components.LEAST_CONTROLLERS : undefined),
        components.startKwok(place, kubeconfig, kwok),
      ])),
    );
    return clusterOf({ place, server, kubeconfig, tokens, running, end });
  } catch (error) {
    await end();
    throw error;
  }
}

const STAGES = join(HARNESS, "stages.yaml");

/** The stages with heartbeats every 300 to 330 s. */
function slowHeartbeats(folder: string): string {
  const path = join(folder, "stages.yaml");
  const often = "durationMilliseconds: 60000, jitterDurationMilliseconds: 70000";
  const rarely = "durationMilliseconds: 300000, jitterDurationMilliseconds: 330000";
  writeFileSync(path, readFileSync(STAGES, "utf8").replace(often, rarely));
  return path;
}

interface Parts {
  readonly place: components.Place;
  readonly server: components.Server;
  readonly kubeconfig: string;
  readonly tokens: Tokens;
  readonly running: Running[];
  readonly end: () => Promise<void>;
}

function clusterOf(parts: Parts): Cluster {
  const { place, server, kubeconfig, tokens, running, end } = parts;
  const api = connect(server, tokens.admin);
  const kubectl = kubectlOf(place.binaries.kubectl, { kubeconfig, home: place.folder });
  const must = async (args: readonly string[], stdin?: string): Promise<string> =>
    succeeded(args, await kubectl(args, stdin));
  const apply = async (objects: string | readonly object[]): Promise<void> => {
    const text =
      typeof objects === "string" ? objects : objects.map((object) => JSON.stringify(object)).join("\n---\n");
    await must(["apply", "--server-side", "--force-conflicts", "--field-manager=harness", "-f", "-"], text);
  };
  const nodes = addNodes(api, apply);
  let tokensMade = 0;
  return {
    folder: place.folder,
    server,
    kubeconfig,
    api,
    kubectl,
    must,
    apply,
    kubeconfigFor: async (namespace, name) => {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
      const reply = await api.post(path, { spec: { expirationSeconds: TOKEN_SECONDS } });
      const { token } = reply["status"] as { token: string };
      const file = `${namespace}-${name}-${(tokensMade += 1)}.kubeconfig`;
      return writeKubeconfig(join(place.folder, file), server, token);
    },
    applyCrds: async () => {
      await apply(await volcanoCrds());
      await must(["wait", "--for=condition=Established", "--timeout=30s", "crd", ...VOLCANO_CRDS]);
    },
    addNodes: nodes,
    startScheduler: async ({ extender, configure } = {}) => {
      const own = writeKubeconfig(join(place.folder, "scheduler.kubeconfig"), server, tokens.scheduler);
      const scheduler = await components.startScheduler(
        place,
        configure?.(own) ?? components.schedulerConfiguration(own, extender),
      );
      running.push(scheduler);
      return scheduler;
    },
    pods: (namespace, selector) => podsOf(api, namespace, selector),
    setListening: async (pod, listening) => {
      const path = `/api/v1/namespaces/${pod.metadata.namespace ?? "default"}/pods/${pod.metadata.name ?? ""}`;
      await api.patch(path, "merge-patch", { metadata: { annotations: { [LISTENING]: String(listening) } } });
    },
    logs: () => running.map((process) => `--- ${process.name}\n${process.tail()}`).join("\n"),
    stop: async () => {
      await api.close();
      await end();
    },
  };
}

function succeeded(args: readonly string[], output: Output): string {
  if (output.code === 0) return output.stdout;
  throw new Error(`kubectl ${args.join(" ")} ended with ${output.code}\n${output.stderr}${output.stdout}`);
}

async function podsOf(api: Api, namespace: string, selector?: string): Promise<Pod[]> {
  const query = selector === undefined ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
  return (await api.list(`/api/v1/namespaces/${namespace}/pods${query}`)) as Pod[];
}

/** True when the object's condition `Ready` is "True". */
export const isReady = (object: KubeObject): boolean => {
  const status = object["status"] as { conditions?: { type: string; status: string }[] } | undefined;
  return status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
};

/** A new node carries the taint not-ready until the node controller has seen it Ready. */
const untainted = (node: KubeObject): boolean =>
  ((node["spec"] as { taints?: unknown[] } | undefined)?.taints ?? []).length === 0;

const addNodes =
  (api: Api, apply: Cluster["apply"]) =>
  async (options: NodeOptions & { readonly tree?: boolean } = {}): Promise<void> => {
    const nodes = fakeNodes(options) as KubeObject[];
    // A create keeps the status, an apply drops it.
    await Promise.all(nodes.map((node) => api.post("/api/v1/nodes", node)));
    if (options.tree ?? true) await apply(hyperNodeTree(options));
    const names = new Set(nodes.map((node) => node.metadata.name));
    await eventually(`${names.size} nodes Ready`, async () => {
      const seen = (await api.list("/api/v1/nodes")).filter(({ metadata }) => names.has(metadata.name));
      const good = seen.filter((node) => isReady(node) && untainted(node));
      if (good.length < names.size) throw new Error(`${good.length} of ${names.size}`);
      return true;
    });
  };
