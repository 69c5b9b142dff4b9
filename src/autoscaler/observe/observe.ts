/**
 * All that is known of each group at one moment: workloads and pods of the cluster, pages of engines, words of routers.
 *
 * Puts together what others read, and keeps the time of each reading: what was not read is absent, what is old says so.
 * Decides nothing of replicas and asks nobody. Of every group it remembers the model names alone, for when no engine is
 * there to tell them.
 */
import type { Endpoint, EngineStats } from "../../kinds/endpoint.ts";
import type { Namespace, Pod } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import { MAX_GROUP_MODELS, MAX_GROUPS, type WakeableGroup } from "../../kinds/statistics.ts";
import type { Devices } from "../../profiles/devices.ts";
import { endpointsOf } from "../../workload/endpoint.ts";
import { makerOf } from "../../workload/owner.ts";
import { hasOptedIn } from "../../workload/tenancy.ts";
import type { InstanceSeen, Observation, RouterSeen, WorkloadSeen } from "../group.ts";
import { engineSeen } from "./engines.ts";
import { instanceSeen, membersOf, type Members } from "./pods.ts";
import type { Moment, ScalingReader } from "./reading.ts";
import { groupKey, WorkloadDecoder, workloadId, workloadSeen, type ReadWorkload } from "./workloads.ts";

/** What the scraper read of one endpoint. */
export interface ScrapedEndpoint {
  readonly stats: EngineStats | undefined;
  readonly models: readonly string[];
}

export interface ObserverOptions {
  readonly devices: Devices;
  readonly reader: ScalingReader;
  /** `admission.optIn` */
  readonly optIn: string;
}

export interface Readings {
  readonly snapshot: ClusterSnapshot;
  /** By endpoint id. */
  readonly scraped: (endpoint: string) => ScrapedEndpoint;
  /** By `namespace/group`. */
  readonly routers: ReadonlyMap<string, readonly RouterSeen[]>;
  readonly now: Moment;
}

export interface SeenGroup {
  /** `namespace/group` */
  readonly key: string;
  /** `tandem.sh/model` */
  readonly service: string;
  /** Names that requests may use, as far as arguments, annotations or an engine ever told. */
  readonly models: readonly string[];
  readonly observation: Observation;
}

/** A workload with its pods. */
interface Placed extends ReadWorkload {
  readonly pods: readonly Pod[];
  readonly instances: readonly Instance[];
}

interface Instance {
  readonly members: Members;
  /** Of all of its pods. */
  readonly servers: readonly Endpoint[];
}

/** Of one snapshot. */
interface Layout {
  readonly snapshot: ClusterSnapshot;
  /** Groups of which any workload is scaled. */
  readonly groups: ReadonlyMap<string, readonly Placed[]>;
}

export class Observer {
  readonly #options: ObserverOptions;
  readonly #decoder: WorkloadDecoder;
  readonly #endpoints = new WeakMap<Pod, readonly Endpoint[]>();
  readonly #models = new Map<string, ReadonlySet<string>>();
  #layout: Layout | undefined;
  #targets: readonly Endpoint[] = [];

  constructor(options: ObserverOptions) {
    this.#options = options;
    this.#decoder = new WorkloadDecoder(options.devices, options.reader);
  }

  /** Every group of which any workload's scaling is not `off`; or the one of this name, if it is one of them. */
  observe(readings: Readings, only?: string): readonly SeenGroup[] {
    const { groups } = this.#layoutOf(readings.snapshot);
    for (const key of this.#models.keys()) if (!groups.has(key)) this.#models.delete(key);
    const wanted = [...groups].filter(([key]) => only === undefined || key === only);
    return wanted.map(([key, workloads]) => this.#group(key, workloads, readings));
  }

  /** Their names. */
  groups(snapshot: ClusterSnapshot): readonly string[] {
    return [...this.#layoutOf(snapshot).groups.keys()];
  }

  /** The servers whose pages are read: those of ready pods. The same list until one of them changed. */
  targets(snapshot: ClusterSnapshot): readonly Endpoint[] {
    const { groups } = this.#layoutOf(snapshot);
    const instances = [...groups.values()].flatMap((workloads) => workloads.flatMap(({ instances }) => instances));
    const targets = instances.flatMap(({ servers }) => servers.filter(({ ready }) => ready));
    if (!isSame(targets, this.#targets)) this.#targets = targets;
    return this.#targets;
  }

  #layoutOf(snapshot: ClusterSnapshot): Layout {
    if (this.#layout?.snapshot !== snapshot) this.#layout = { snapshot, groups: this.#groupsOf(snapshot) };
    return this.#layout;
  }

  #groupsOf({ workloads, namespaces, pods }: ClusterSnapshot): Layout["groups"] {
    const known = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
    const read = workloads.flatMap((object) => {
      const name = object.metadata.namespace ?? "default";
      return this.#acts(name, known.get(name)) ? (this.#decoder.read(object, known.get(name)) ?? []) : [];
    });
    const scaled = new Set(read.filter(({ scaling }) => scaling.mode !== "off").map(({ spec }) => groupKey(spec)));
    const mine = read.filter(({ spec }) => scaled.has(groupKey(spec)));
    const made = Map.groupBy(pods, (pod) => makerOf(pod) ?? "");
    const placed = mine.map((one): Placed => {
      const own = made.get(workloadId(one.spec)) ?? [];
      const instances = membersOf(one.object, one.spec, own).map((members) => ({
        ...{ members, servers: members.flatMap((pod) => this.#endpointsOf(pod)) },
      }));
      return { ...one, pods: own, instances };
    });
    return Map.groupBy(placed, ({ spec }) => groupKey(spec));
  }

  #acts(name: string, namespace: Namespace | undefined): boolean {
    return hasOptedIn(this.#options.optIn, name, namespace);
  }

  #group(key: string, workloads: readonly Placed[], readings: Readings): SeenGroup {
    const { reader } = this.#options;
    const { now, routers } = readings;
    const named = workloads.map(({ spec, scaling }) => ({
      name: `${spec.kind} ${spec.name}`,
      role: spec.role,
      scaling,
    }));
    const observation: Observation = {
      at: now.monotonic,
      wallClock: now.wall,
      scaling: reader.group(named),
      workloads: workloads.map((one) => this.#workload(one, readings)),
      instances: workloads.flatMap((one) => this.#instances(one, readings)),
      routers: routers.get(key) ?? [],
    };
    return {
      key,
      service: workloads[0]?.spec.model ?? "",
      models: this.#modelsOf(key, workloads, readings),
      observation,
    };
  }

  #workload(one: Placed, { snapshot, now }: Readings): WorkloadSeen {
    const around = { autoscalers: snapshot.autoscalers ?? [], pods: one.pods, wallClock: now.wall };
    return workloadSeen(one, around, this.#options.reader);
  }

  #instances({ spec, instances }: Placed, { now, scraped }: Readings): readonly InstanceSeen[] {
    const { nodesPerInstance, maxSequences } = spec;
    const isMarked = this.#options.reader.isDraining;
    const context = { workload: workloadId(spec), nodesPerInstance, now, isMarked };
    return instances.map(({ members, servers }) => {
      const pages = servers.flatMap(({ id }) => scraped(id).stats ?? []);
      // A part of an engine would look like an idle one.
      const engine = pages.length === servers.length ? engineSeen(pages, maxSequences) : undefined;
      return { ...instanceSeen(members, context), ...(engine === undefined ? {} : { engine }) };
    });
  }

  #endpointsOf(pod: Pod): readonly Endpoint[] {
    const known = this.#endpoints.get(pod);
    if (known !== undefined) return known;
    const endpoints = endpointsOf(pod);
    this.#endpoints.set(pod, endpoints);
    return endpoints;
  }

  /** What is told now comes first, and what was told before stays as far as there is room. */
  #modelsOf(key: string, workloads: readonly Placed[], { scraped }: Readings): readonly string[] {
    const names = new Set<string>();
    const add = (more: Iterable<string>): void => {
      for (const name of more) if (names.size < MAX_GROUP_MODELS) names.add(name);
    };
    for (const { spec, instances } of workloads) {
      add(spec.served);
      for (const { servers } of instances)
        for (const { id, models } of servers) [models, scraped(id).models].forEach(add);
    }
    add(this.#models.get(key) ?? []);
    this.#models.set(key, names);
    return [...names];
  }
}

const isSame = (a: readonly Endpoint[], b: readonly Endpoint[]): boolean =>
  a.length === b.length &&
  a.every(({ id, address, bootId }, index) => {
    const other = b[index];
    return other?.id === id && other.address === address && other.bootId === bootId;
  });

/**
 * The groups that a request may wake: every engine of them that clients are sent to may go to zero, and Tandem sets the
 * replicas of some. Routers are told of them whether they are at zero or not: so they know when it comes to that.
 */
export function wakeableOf(groups: readonly SeenGroup[]): readonly WakeableGroup[] {
  const wakeable = groups.filter(({ observation: { workloads } }) => {
    const serving = workloads.filter(({ role, scaling }) => role !== "prefill" && scaling.mode !== "off");
    return serving.length > 0 && serving.every(({ scaling }) => scaling.minReplicas === 0) && serving.some(isWoken);
  });
  return wakeable.slice(0, MAX_GROUPS).map(({ key, models, service }) => ({ group: key, models, service }));
}

const isWoken = ({ scaling: { mode, actuator } }: WorkloadSeen): boolean =>
  (mode === "auto" || mode === "scale-up-only") && actuator !== "none";
