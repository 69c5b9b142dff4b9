/**
 * Pods -> endpoints: which API servers a Pod offers, and what is known of each.
 *
 * From the labels, and from the annotation that admission wrote at creation; where that is absent (mode `route`, bare
 * labelled pods) from the pod's own containers. Only the Pod is read: no calls, no guesses about other pods.
 */
import type { Compatibility, Connector, Endpoint } from "../kinds/endpoint.ts";
import { annotationOf, isObject, labelOf, type JsonObject, type Pod } from "../kinds/kube.ts";
import { DRAIN_UNREADY, LABEL, STATUS } from "../kinds/names.ts";
import { UNCONFIGURED } from "../profiles/devices.ts";
import { domainsOf, runnerOf } from "./beside.ts";
import { workloadSpec } from "./decode.ts";
import type { EventPorts } from "./events.ts";
import { nodeRankOf } from "./instance.ts";
import { KEYS } from "./keys.ts";
import { hasServer } from "./serving.ts";
import type { DataParallelMode, WorkloadSpec } from "./spec.ts";

/** What the annotation says, decoded. Everything is optional: an older or a newer Tandem may have written it. */
interface Facts {
  readonly connector: Connector;
  readonly engine: string;
  readonly tp?: number;
  readonly blockSize?: number;
  readonly port: number;
  readonly rankPorts?: { readonly first: number; readonly count: number };
  readonly dpMode: DataParallelMode;
  readonly served: readonly string[];
  readonly fabric: string;
  readonly compat: string;
  readonly instance?: string;
  readonly headless?: true;
  /** Name of the engine's container. */
  readonly container?: string;
  /** First port of the connector: side channel, handshake or bootstrap server. */
  readonly kvPort?: number;
  /** Data-parallel ranks behind one API server, where they are several. */
  readonly ranks?: number;
  /** Ports of KV events of data-parallel rank 0, and how many ranks the pod runs. */
  readonly events?: EventPorts & { readonly ranks: number };
}

const factsOf = (spec: WorkloadSpec, events: EventPorts | undefined = spec.events): Facts => ({
  connector: spec.connector,
  engine: spec.engine,
  ...(spec.sizesHidden === true ? {} : { tp: spec.parallelism.tp }),
  ...(spec.blockSize === undefined ? {} : { blockSize: spec.blockSize }),
  port: spec.port,
  ...(spec.rankPorts === undefined ? {} : { rankPorts: spec.rankPorts }),
  dpMode: spec.dataParallelMode,
  served: spec.served,
  fabric: spec.device?.fabric ?? spec.accelerator,
  compat: spec.compat,
  container: spec.container,
  ...(spec.headless === true ? { headless: true } : {}),
  ...transferFacts(spec, events),
});

const transferFacts = (
  spec: WorkloadSpec,
  events: EventPorts | undefined,
): Pick<Facts, "kvPort" | "events" | "ranks"> => ({
  ...(ranksBehind(spec) === 1 ? {} : { ranks: ranksBehind(spec) }),
  ...(spec.kvPort === undefined || spec.connector === "none" ? {} : { kvPort: spec.kvPort }),
  ...(events === undefined ? {} : { events: { ...events, ranks: spec.parallelism.dpLocal } }),
});

/** An API server balances over all ranks, or over those of its own node. */
const ranksBehind = ({ rankPorts, dataParallelMode, parallelism: { dp, dpLocal } }: WorkloadSpec): number =>
  rankPorts !== undefined || dataParallelMode === "external" ? 1 : dataParallelMode === "internal" ? dp : dpLocal;

/** The annotation `status.tandem.sh/endpoint` of a Pod made from this contract, with its KV events' ports: JSON. */
export const endpointFacts = (spec: WorkloadSpec, events: EventPorts | undefined = spec.events): string =>
  JSON.stringify(factsOf(spec, events));

/** Longest annotation that is read; a hundred model names fit. */
const LONGEST = 65536;
const MOST_NAMES = 256;

const isPort = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65536;
const positive = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isInteger(value) && value > 0 ? value : undefined;
const text = (value: unknown): string => (typeof value === "string" ? value : "");

function ranks(value: unknown): Pick<Facts, "rankPorts"> {
  if (!isObject(value) || !isPort(value["first"])) return {};
  const count = positive(value["count"]);
  return count === undefined || value["first"] + count > 65536 ? {} : { rankPorts: { first: value["first"], count } };
}

function eventsOf(value: unknown): Facts["events"] {
  if (!isObject(value) || !isPort(value["port"])) return undefined;
  const replayPort = isPort(value["replayPort"]) ? { replayPort: value["replayPort"] } : {};
  return { port: value["port"], ...replayPort, ranks: positive(value["ranks"]) ?? 1 };
}

const optional = <K extends keyof Facts>(key: K, value: Facts[K] | undefined): Pick<Facts, K> | object =>
  value === undefined ? {} : { [key]: value };

function decodeFacts(value: JsonObject): Facts | undefined {
  const connector = KEYS.kvConnector.parse(text(value["connector"]));
  if (connector === undefined || !isPort(value["port"])) return undefined;
  const served = Array.isArray(value["served"]) ? value["served"] : [];
  return {
    connector,
    engine: text(value["engine"]),
    ...optional("tp", positive(value["tp"])),
    ...optional("blockSize", positive(value["blockSize"])),
    port: value["port"],
    ...ranks(value["rankPorts"]),
    dpMode: KEYS.dpMode.parse(text(value["dpMode"])) ?? "internal",
    served: served.filter((name) => typeof name === "string").slice(0, MOST_NAMES),
    fabric: text(value["fabric"]),
    compat: text(value["compat"]),
    ...optional("instance", text(value["instance"]) || undefined),
    ...optional("headless", value["headless"] === true ? true : undefined),
    ...optional("container", text(value["container"]) || undefined),
    ...optional("kvPort", isPort(value["kvPort"]) ? value["kvPort"] : undefined),
    ...optional("ranks", positive(value["ranks"])),
    ...optional("events", eventsOf(value["events"])),
  };
}

function annotated(pod: Pod): Facts | undefined {
  const written = annotationOf(pod, STATUS.endpoint);
  if (written === undefined || written.length > LONGEST) return undefined;
  try {
    const value: unknown = JSON.parse(written);
    return isObject(value) ? decodeFacts(value) : undefined;
  } catch {
    return undefined;
  }
}

function inferred(pod: Pod): Facts | undefined {
  const { spec } = workloadSpec(pod, { devices: UNCONFIGURED });
  return spec === undefined ? undefined : factsOf(spec);
}

const isOver = (pod: Pod): boolean => pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";

/** `off` on the Pod itself takes it out of discovery. */
const isOff = (pod: Pod): boolean => annotationOf(pod, KEYS.mode.key) === "off";

const servesHere = (pod: Pod, facts: Facts): boolean =>
  hasServer({ ...facts, dataParallelMode: facts.dpMode }, nodeRankOf(pod));

/** `ip:port`, with brackets around IPv6. */
const addressOf = (ip: string, port: number): string => (ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`);

/** The address of a Pod that may serve: not over, not taken out of discovery. */
const activeIp = (pod: Pod): string | undefined =>
  isOver(pod) || isOff(pod) ? undefined : pod.status?.podIP || undefined;

/** The endpoints of one Pod; none while it has no address, is over, is no part of a service, or only computes. */
export function endpointsOf(pod: Pod): readonly Endpoint[] {
  const service = serviceOf(pod);
  const ip = activeIp(pod);
  if (service === undefined || ip === undefined) return [];
  const facts = annotated(pod) ?? inferred(pod);
  if (facts === undefined || !servesHere(pod, facts)) return [];
  const count = facts.rankPorts?.count ?? 1;
  return Array.from({ length: count }, (_, index) => endpoint(pod, { service, facts, ip, index }));
}

type Service = Pick<Endpoint, "role" | "service" | "group" | "cell">;

function serviceOf(pod: Pod): Service | undefined {
  const model = labelOf(pod, LABEL.model) ?? "";
  const role = KEYS.role.parse(labelOf(pod, LABEL.role) ?? "");
  if (model === "" || role === undefined) return undefined;
  return {
    role,
    service: model,
    group: labelOf(pod, LABEL.group) ?? model,
    cell: labelOf(pod, LABEL.cell) ?? "0",
  };
}

interface Place {
  readonly service: Service;
  readonly facts: Facts;
  readonly ip: string;
  readonly index: number;
}

function endpoint(pod: Pod, { service, facts, ip, index }: Place): Endpoint {
  const name = pod.metadata.name ?? "";
  // Ranks of one instance go on over its pods: rank ports of node 1 follow those of node 0.
  const rank = nodeRankOf(pod) * (facts.rankPorts?.count ?? 1) + index;
  const runner = runnerOf(pod);
  return {
    id: `${pod.metadata.uid ?? name}/${rank}`,
    address: addressOf(ip, runner?.port ?? (facts.rankPorts?.first ?? facts.port) + index),
    name,
    namespace: pod.metadata.namespace ?? "default",
    ...service,
    instance: instanceOf(pod, facts),
    dataParallelRank: rank,
    models: facts.served,
    compatibility: compatibility(facts),
    draining: isDraining(pod),
    ready: isReady(pod),
    bootId: bootIdOf(pod, facts.container),
    ...surroundings(pod, facts),
    ...eventFacts(facts, { rank, nodeRank: nodeRankOf(pod) }),
  };
}

const instanceOf = (pod: Pod, { instance }: Facts): string =>
  labelOf(pod, LABEL.instance) ?? instance ?? pod.metadata.name ?? "";

function surroundings(pod: Pod, { ranks }: Facts): Pick<Endpoint, "ranks" | "prefillRunner" | "domains"> {
  const [runner, domains] = [runnerOf(pod), domainsOf(pod)];
  return {
    ...(ranks === undefined ? {} : { ranks }),
    ...(runner === undefined ? {} : { prefillRunner: runner.prefillRunner }),
    ...(domains === undefined ? {} : { domains }),
  };
}

/** Each rank publishes at its own port; an API server for several ranks stands for the events of all of them. */
function eventFacts(
  { events, rankPorts, kvPort: port }: Facts,
  { rank, nodeRank }: { rank: number; nodeRank: number },
): Pick<Endpoint, "events" | "kvPort"> {
  const kvPort = port === undefined ? {} : { kvPort: port };
  if (events === undefined) return kvPort;
  const [first, ranks] = rankPorts === undefined ? [nodeRank * events.ranks, events.ranks] : [rank, 1];
  const replay = events.replayPort === undefined ? {} : { replayPort: events.replayPort + first };
  return { ...kvPort, events: { port: events.port + first, ...replay, ranks } };
}

/** The kubelet's word on a pod: its containers run, and answer their probes. */
export const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;

const compatibility = (facts: Facts): Compatibility => ({
  connector: facts.connector,
  engine: facts.engine,
  tag: facts.compat,
  fabric: facts.fabric,
  ...(facts.tp === undefined ? {} : { tensorParallel: facts.tp }),
  ...(facts.blockSize === undefined ? {} : { blockSize: facts.blockSize }),
});

/** The compatibility of the endpoints that pods of this contract will offer. */
export const compatibilityOf = (spec: WorkloadSpec): Compatibility => compatibility(factsOf(spec));

/**
 * An instance that was only not ready is judged by its pods' readiness, as it was when it went: with the controller down
 * nobody would take the annotation off, and every instance that once had a slow probe would stay out.
 */
const isDraining = (pod: Pod): boolean =>
  pod.metadata.deletionTimestamp !== undefined ||
  !["false", DRAIN_UNREADY].includes(annotationOf(pod, STATUS.drain) ?? "false");

/** Pod uid, and restarts and id of the engine's container: new whenever the engine process is. */
function bootIdOf(pod: Pod, container: string | undefined): string {
  const status = statusOf(pod, container);
  return [pod.metadata.uid ?? pod.metadata.name ?? "", status?.restartCount ?? 0, status?.containerID ?? ""].join("/");
}

type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

function statusOf(pod: Pod, container: string | undefined): ContainerStatus | undefined {
  const statuses = pod.status?.containerStatuses ?? [];
  return statuses.find(({ name }) => name === container) ?? statuses[0];
}

/** What the kubelet says of the engine's container; undefined before it does. */
export const engineStatus = (pod: Pod): ContainerStatus | undefined =>
  statusOf(pod, (annotated(pod) ?? inferred(pod))?.container);
