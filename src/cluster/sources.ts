/**
 * The watched cluster: one reflector and store for each kind that a role needs, read together as a ClusterSnapshot.
 *
 * A role starts only the kinds it reads: the router must not share an event loop with a cluster-wide watch of pods.
 */
import type { Config } from "../config/schema.ts";
import type { HyperNode, KubeObject, Namespace, Node, ObjectRef, Pod, Workload } from "../kinds/kube.ts";
import { INFERENCE_POOL, LABEL, LWS, OWNERSHIP, VOLCANO } from "../kinds/names.ts";
import { pluralOf } from "../kinds/resource.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Cancel } from "../ports.ts";
import { runReflector, type ReflectorPorts, type WatchedKind } from "./reflector.ts";
import { slimDefinition, slimNode, slimObject, slimPod, slimWorkload } from "./slim.ts";
import { snapshotOf } from "./snapshot.ts";
import { createBell, createStore, type WatchedSource } from "./store.ts";
import type { Transport } from "./transport.ts";

export interface ClusterSources {
  readonly deployments: WatchedSource<Workload>;
  readonly statefulSets: WatchedSource<Workload>;
  readonly leaderWorkerSets: WatchedSource<Workload>;
  readonly pods: WatchedSource<Pod>;
  readonly nodes: WatchedSource<Node>;
  readonly hyperNodes: WatchedSource<HyperNode>;
  readonly namespaces: WatchedSource<Namespace>;
  readonly podGroups: WatchedSource<KubeObject>;
  /** The definition of PodGroups, if it is there: which fields it has. */
  readonly podGroupDefinitions: WatchedSource<KubeObject>;
  readonly configMaps: WatchedSource<KubeObject>;
  readonly budgets: WatchedSource<KubeObject>;
  readonly horizontalPodAutoscalers: WatchedSource<KubeObject>;
  readonly scaledObjects: WatchedSource<KubeObject>;
  readonly podAutoscalers: WatchedSource<KubeObject>;
  readonly variantAutoscalings: WatchedSource<KubeObject>;
  readonly services: WatchedSource<KubeObject>;
  /** The one that the router picks for, if it exists. */
  readonly inferencePools: WatchedSource<KubeObject>;
}

export type SourceName = keyof ClusterSources;

export interface ClusterOptions extends ReflectorPorts {
  readonly transport: Transport;
  readonly config: Config["cluster"];
  /** Kinds to watch; the others stay empty. Default: all. */
  readonly kinds?: readonly SourceName[];
  /** Watch only pods that carry `tandem.sh/model`: for roles that need no foreign pods. */
  readonly labelledPods?: boolean;
  /** The InferencePool whose members, labelled or not, are read whole. */
  readonly pool?: Required<Pick<ObjectRef, "namespace" | "name">>;
  /** Watch only pods of this namespace. */
  readonly podsOf?: string;
}

export interface Cluster {
  readonly sources: ClusterSources;
  /** The same object until something changed. */
  snapshot(): ClusterSnapshot;
  /** Every watched kind has been listed, or is known to be absent. */
  synced(): boolean;
  /** Milliseconds since the server was last heard about the kind that has been silent longest. */
  ageMs(): number;
  /** At most once a turn of the event loop. */
  onChange(listener: () => void): Cancel;
  /** Ends all watches; resolves when they have ended. */
  stop(): Promise<void>;
}

/** A kind that is watched on its own: the Secret of the certificates, a webhook configuration. */
export interface Watching<T extends KubeObject> {
  readonly source: WatchedSource<T>;
  stop(): Promise<void>;
}

export interface WatchOptions<T extends KubeObject> extends ReflectorPorts {
  readonly transport: Transport;
  readonly watched: WatchedKind<T>;
}

export function startWatching<T extends KubeObject>(options: WatchOptions<T>): Watching<T> {
  const store = createStore<T>(() => options.clock.monotonic());
  const abort = new AbortController();
  const { kind } = options.watched;
  const gauge = store.onChange(() =>
    options.metrics.gauge("tandem_cluster_objects", store.snapshot().items.length, { kind }),
  );
  const running = runReflector({ ...options, store, signal: abort.signal });
  const stop = async (): Promise<void> => {
    gauge();
    abort.abort();
    await running;
  };
  return { source: store, stop };
}

/** One object by its name, for as long as it exists. */
export function watchObject(
  options: ReflectorPorts & { readonly transport: Transport },
  kind: string,
  ref: ObjectRef,
): Watching<KubeObject> {
  const { name, ...resource } = ref;
  const watched = { kind, resource, fieldSelector: `metadata.name=${name}`, slim: slimObject };
  return startWatching({ ...options, watched });
}

/** The Secret with the webhooks' certificates, as the controller writes it. */
export const watchCertificates = (
  options: ReflectorPorts & { readonly transport: Transport },
  config: Pick<Config, "admission" | "controller">,
): Watching<KubeObject> =>
  watchObject(options, "Secret", {
    apiVersion: "v1",
    plural: pluralOf("Secret"),
    namespace: config.controller.namespace,
    name: config.admission.certificates.secret,
  });

type Watched = { readonly [N in SourceName]: WatchedKind<ItemOf<N>> };
type ItemOf<N extends SourceName> = ClusterSources[N] extends WatchedSource<infer T> ? T & KubeObject : never;

/** Which objects of which kinds. Workloads and pods of ours by label; our own objects by the ownership label. */
function watchedKinds({ config, labelledPods, pool, podsOf }: ClusterOptions): Watched {
  const inside = config.namespace === "" ? {} : { namespace: config.namespace };
  const one = config.namespace === "" ? {} : { fieldSelector: `metadata.name=${config.namespace}` };
  const ours = { labelSelector: LABEL.model };
  const owned = { labelSelector: `${OWNERSHIP.label}=${OWNERSHIP.value}` };
  const resource = (kind: string, apiVersion: string, namespace: object = inside) => ({
    kind,
    resource: { apiVersion, plural: pluralOf(kind), ...namespace },
  });
  return {
    deployments: { ...resource("Deployment", "apps/v1"), ...ours, slim: slimWorkload },
    statefulSets: { ...resource("StatefulSet", "apps/v1"), ...ours, slim: slimWorkload },
    leaderWorkerSets: { ...resource("LeaderWorkerSet", LWS.apiVersion), ...ours, optional: true, slim: slimWorkload },
    pods: {
      ...resource("Pod", "v1", podsOf === undefined ? inside : { namespace: podsOf }),
      ...(labelledPods === true ? ours : {}),
      // Members of a pool need no label of ours, and their containers say what they serve.
      slim: (pod) => (pod.metadata.namespace === pool?.namespace ? slimObject(pod as Pod) : slimPod(pod)),
    },
    nodes: { ...resource("Node", "v1", {}), slim: slimNode },
    hyperNodes: {
      ...resource("HyperNode", VOLCANO.hyperNodeApiVersion, {}),
      optional: true,
      slim: (object) => slimObject(object as HyperNode),
    },
    namespaces: { ...resource("Namespace", "v1", {}), ...one, slim: slimObject },
    podGroups: { ...resource("PodGroup", VOLCANO.podGroupApiVersion), ...owned, optional: true, slim: slimObject },
    podGroupDefinitions: {
      ...resource("CustomResourceDefinition", "apiextensions.k8s.io/v1", {}),
      fieldSelector: `metadata.name=${VOLCANO.podGroupDefinition}`,
      optional: true,
      slim: slimDefinition,
    },
    configMaps: { ...resource("ConfigMap", "v1"), ...owned, slim: slimObject },
    // Everybody's: one that the user made is why we make none.
    budgets: { ...resource("PodDisruptionBudget", "policy/v1"), optional: true, slim: slimObject },
    horizontalPodAutoscalers: {
      ...resource("HorizontalPodAutoscaler", "autoscaling/v2"),
      optional: true,
      slim: slimObject,
    },
    scaledObjects: { ...resource("ScaledObject", "keda.sh/v1alpha1"), optional: true, slim: slimObject },
    podAutoscalers: {
      ...resource("PodAutoscaler", "autoscaling.aibrix.ai/v1alpha1"),
      optional: true,
      slim: slimObject,
    },
    variantAutoscalings: { ...resource("VariantAutoscaling", "llmd.ai/v1alpha1"), optional: true, slim: slimObject },
    services: { ...resource("Service", "v1"), ...owned, slim: slimObject },
    inferencePools: {
      ...resource(INFERENCE_POOL.kind, INFERENCE_POOL.apiVersion, { namespace: pool?.namespace ?? "default" }),
      fieldSelector: `metadata.name=${pool?.name ?? ""}`,
      optional: true,
      slim: slimObject,
    },
  };
}

export function startCluster(options: ClusterOptions): Cluster {
  const kinds = watchedKinds(options);
  const wanted = new Set<SourceName>(options.kinds ?? (Object.keys(kinds) as SourceName[]));
  if (options.pool === undefined) wanted.delete("inferencePools");
  const watchings = new Map<SourceName, Watching<never>>();
  const begin = <N extends SourceName>(name: N): ClusterSources[N] => {
    if (!wanted.has(name)) return unwatched() as ClusterSources[N];
    const watching = startWatching<KubeObject>({ ...options, watched: kinds[name] });
    watchings.set(name, watching as Watching<never>);
    return watching.source as ClusterSources[N];
  };
  const sources: ClusterSources = {
    deployments: begin("deployments"),
    statefulSets: begin("statefulSets"),
    leaderWorkerSets: begin("leaderWorkerSets"),
    pods: begin("pods"),
    nodes: begin("nodes"),
    hyperNodes: begin("hyperNodes"),
    namespaces: begin("namespaces"),
    podGroups: begin("podGroups"),
    podGroupDefinitions: begin("podGroupDefinitions"),
    configMaps: begin("configMaps"),
    budgets: begin("budgets"),
    horizontalPodAutoscalers: begin("horizontalPodAutoscalers"),
    scaledObjects: begin("scaledObjects"),
    podAutoscalers: begin("podAutoscalers"),
    variantAutoscalings: begin("variantAutoscalings"),
    services: begin("services"),
    inferencePools: begin("inferencePools"),
  };
  return joined(sources, [...watchings.values()]);
}

/** A kind that this role does not read. */
function unwatched(): WatchedSource<KubeObject> {
  const store = createStore<KubeObject>(() => 0);
  store.absent();
  return store;
}

function joined(sources: ClusterSources, watchings: readonly Watching<never>[]): Cluster {
  const bell = createBell();
  const watched = watchings.map(({ source }) => source);
  const cancels = watched.map((source) => source.onChange(bell.ring));
  return {
    sources,
    snapshot: snapshotOf(sources),
    synced: () => watched.every((source) => source.synced()),
    ageMs: () => Math.max(0, ...watched.map((source) => source.ageMs())),
    onChange: bell.hear,
    stop: async () => {
      for (const cancel of cancels) cancel();
      await Promise.all(watchings.map((watching) => watching.stop()));
    },
  };
}
