/**
 * The facts of a cluster: lists, a few objects by name, and a call of whoever should answer. It only reads.
 *
 * Every call has the reader's deadline or its own. What cannot be read is a fact too: the checks that need it say why.
 */
import { isObject, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import { hasStatus } from "../kinds/kube-error.ts";
import { LABEL } from "../kinds/names.ts";
import { pluralOf } from "../kinds/resource.ts";
import type { KubeReader } from "../ports.ts";
import { ourExtenders } from "./checks/scheduler.ts";
import { ourPlugins } from "./checks/volcano-extender.ts";
import { ourHooks } from "./checks/webhooks.ts";
import { documentsOf, type Documents, type ExtenderEntry } from "./documents.ts";
import type { VolcanoExtender } from "./volcano-plugin.ts";
import { callTarget, judge, type Target } from "./probe/client.ts";
import { FACT_KINDS, someOf, type DoctorConfig, type FactKind, type Facts, type Found, type Reached } from "./facts.ts";

export interface Gathering {
  readonly reader: KubeReader;
  readonly config: DoctorConfig;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** POST through the API server, as its service proxy wants it; throws a KubeError. */
  readonly post: (path: string, body: unknown) => Promise<unknown>;
  /** Scheduler configurations that were given as files. */
  readonly documents: Documents;
  /** What stands in `caFile` of a scheduler configuration, where it can be read from here; else empty. */
  readonly readCa: (path: string) => string;
}

/** A call that takes longer would have been given up by the API server and by the scheduler. */
const CALL_MS = 2000;

export async function gather(gathering: Gathering): Promise<Facts> {
  const kinds = Object.keys(FACT_KINDS) as FactKind[];
  const [found, maps] = await Promise.all([
    Promise.all(kinds.map((kind) => findKind(kind, gathering))),
    configMaps(gathering),
  ]);
  const inside = maps.map((map) => documentsOf(map, ""));
  const all = [gathering.documents, ...inside];
  const facts: Facts = {
    now: gathering.now,
    config: gathering.config,
    objects: Object.fromEntries(kinds.map((kind, index) => [kind, found[index]])) as Facts["objects"],
    volcano: someOf(
      all.flatMap(({ volcano }) => volcano),
      `no volcano-scheduler.conf in a ConfigMap of ${namespacesOf(gathering).join(", ")}; give it by -f`,
    ),
    schedulers: someOf(
      all.flatMap(({ schedulers }) => schedulers),
      `no KubeSchedulerConfiguration in a ConfigMap of ${namespacesOf(gathering).join(", ")}; give it by -f`,
    ),
    reached: new Map(),
  };
  return { ...facts, reached: await reachAll(facts, gathering) };
}

/** Where schedulers are usually configured. */
const namespacesOf = ({ config }: Gathering): readonly string[] => [
  ...new Set(["kube-system", "volcano-system", config.controller.namespace]),
];

async function configMaps(gathering: Gathering): Promise<readonly KubeObject[]> {
  const lists = namespacesOf(gathering).map((namespace) =>
    gathering.reader.list({ apiVersion: "v1", plural: pluralOf("ConfigMap"), namespace }).catch(() => []),
  );
  return (await Promise.all(lists)).flat();
}

async function findKind(kind: FactKind, gathering: Gathering): Promise<Found<KubeObject>> {
  try {
    return { known: true, items: await readKind(kind, gathering) };
  } catch (error) {
    if (hasStatus(error, 404)) return absent(kind);
    return { known: false, why: (error as Error).message };
  }
}

/** HyperNodes that cannot exist are none. */
const absent = (kind: FactKind): Found<KubeObject> =>
  kind === "HyperNode"
    ? { known: true, items: [] }
    : { known: false, why: `the API server has no ${kind} of ${FACT_KINDS[kind]}` };

async function readKind(kind: FactKind, { reader, config }: Gathering): Promise<readonly KubeObject[]> {
  const ref: Omit<ObjectRef, "name"> = { apiVersion: FACT_KINDS[kind], plural: pluralOf(kind) };
  const { namespace, service } = config.controller;
  if (kind === "Pod") return reader.list(ref, LABEL.model);
  if (kind === "EndpointSlice") return reader.list({ ...ref, namespace }, `kubernetes.io/service-name=${service}`);
  if (kind !== "Secret") return reader.list(ref);
  const secret = await reader.get({ ...ref, namespace, name: config.admission.certificates.secret });
  return secret === undefined ? [] : [secret];
}

async function reachAll(facts: Facts, gathering: Gathering): Promise<ReadonlyMap<string, Reached>> {
  const hooks = ourHooks(facts).flatMap(({ url, bundle }) =>
    url === undefined ? [] : [[url, callTarget({ url, ca: bundle, body: {}, timeoutMs: CALL_MS })] as const],
  );
  const extenders = ourExtenders(facts).map(({ entry }) => [entry.urlPrefix, reachExtender(entry, gathering)] as const);
  const plugins = ourPlugins(facts).map(({ entry }) => [entry.urlPrefix, reachPlugin(entry, gathering)] as const);
  const reached = await Promise.all(
    [...hooks, ...extenders, ...plugins].map(async ([url, answer]) => [url, await answer] as const),
  );
  return new Map(reached.flatMap(([url, answer]) => (answer === undefined ? [] : [[url, answer]])));
}

/** A call that asks about no node, for a pod of nobody: it decides nothing, and passes every stage of the real one. */
const NO_NODES = {
  Pod: {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "tandem-doctor", namespace: "default" },
    spec: { containers: [{ name: "none" }] },
  },
  NodeNames: [],
};

async function reachExtender(entry: ExtenderEntry, gathering: Gathering): Promise<Reached | undefined> {
  const url = new URL(`${entry.urlPrefix.replace(/\/$/, "")}/filter`);
  const service = await serviceOf(url, gathering);
  if (service !== undefined) return throughProxy(service, { url, body: NO_NODES }, gathering);
  const ca = entry.caData === "" ? gathering.readCa(entry.caFile) : entry.caData;
  // Its certificate cannot be verified from here.
  if (ca === "" && entry.caFile !== "") return undefined;
  const target: Target = { url: url.href, ca, serverName: entry.serverName, body: NO_NODES, timeoutMs: CALL_MS };
  return callTarget(target);
}

/** A job without pods is ready. */
const NO_JOB = { job: { UID: "tandem-doctor", Tasks: {} } };

async function reachPlugin({ urlPrefix }: VolcanoExtender, gathering: Gathering): Promise<Reached | undefined> {
  const url = new URL(`${urlPrefix.replace(/\/$/, "")}/jobReady`);
  const service = await serviceOf(url, gathering);
  return service === undefined
    ? callTarget({ url: url.href, ca: "", body: NO_JOB, timeoutMs: CALL_MS })
    : throughProxy(service, { url, body: NO_JOB }, gathering);
}

interface Service {
  readonly namespace: string;
  readonly name: string;
}

/** Service names and cluster addresses mean something inside the cluster only. */
async function serviceOf({ hostname }: URL, { reader, config }: Gathering): Promise<Service | undefined> {
  const [, name, namespace] = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.|$)/.exec(hostname) ?? [];
  if (name !== undefined && namespace !== undefined) return { name, namespace };
  const own = { namespace: config.controller.namespace, name: config.controller.service };
  const found = await reader.get({ apiVersion: "v1", plural: pluralOf("Service"), ...own }).catch(() => undefined);
  const spec = found?.["spec"];
  return isObject(spec) && spec["clusterIP"] === hostname ? own : undefined;
}

interface ProxiedCall {
  readonly url: URL;
  readonly body: unknown;
}

async function throughProxy({ namespace, name }: Service, call: ProxiedCall, { post }: Gathering): Promise<Reached> {
  const { port: given, protocol, pathname } = call.url;
  const port = given === "" ? ({ "https:": "443" }[protocol] ?? "80") : given;
  const scheme = protocol === "https:" ? "https:" : "";
  const path = `/api/v1/namespaces/${namespace}/services/${scheme}${name}:${port}/proxy${pathname}`;
  try {
    return judge(200, await post(path, call.body));
  } catch (error) {
    return { ok: false, message: (error as Error).message };
  }
}
