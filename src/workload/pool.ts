/**
 * An InferencePool of the Gateway API Inference Extension -> endpoints: the pods it selects, at its target ports.
 *
 * A member is read as any other Pod is: from the labels it has; without them it is of role `both`, of a service called
 * as the pool is. Nothing is written: `status.parents` belongs to the gateway's controller, and what happens while no
 * picker answers (`endpointPickerRef.failureMode`) is the gateway's to do.
 * Format: sigs.k8s.io/gateway-api-inference-extension, api/v1/inferencepool_types.go.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import { isObject, labelOf, type KubeObject, type Pod } from "../kinds/kube.ts";
import { LABEL } from "../kinds/names.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { endpointsOfAll } from "./health.ts";

export interface InferencePool {
  readonly name: string;
  readonly namespace: string;
  /** Pods that carry all of these; an empty one selects none. */
  readonly matchLabels: Readonly<Record<string, string>>;
  /** Each is an endpoint of its own on every member. */
  readonly targetPorts: readonly number[];
}

/** Later versions of the format allow as many; the first one allows one. */
const MOST_PORTS = 8;

/** The pool as far as it can be read; undefined where it selects nothing or names no port. */
export function inferencePool(object: KubeObject): InferencePool | undefined {
  const spec = isObject(object["spec"]) ? object["spec"] : {};
  const matchLabels = labelsOf(spec["selector"]);
  const targetPorts = portsOf(spec["targetPorts"]);
  if (Object.keys(matchLabels).length === 0 || targetPorts.length === 0) return undefined;
  const { name = "", namespace = "default" } = object.metadata;
  return { name, namespace, matchLabels, targetPorts };
}

function labelsOf(selector: unknown): Readonly<Record<string, string>> {
  const labels = isObject(selector) ? selector["matchLabels"] : undefined;
  if (!isObject(labels)) return {};
  return Object.fromEntries(
    Object.entries(labels).filter((each): each is [string, string] => typeof each[1] === "string"),
  );
}

function portsOf(ports: unknown): readonly number[] {
  const numbers = (Array.isArray(ports) ? (ports as readonly unknown[]) : []).map((port) =>
    isObject(port) ? port["number"] : undefined,
  );
  return numbers.filter(isPort).slice(0, MOST_PORTS);
}

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) > 0 && Number(value) < 65536;

/**
 * What a picker of the pool picks from: its members, and prefill engines of its namespace, found by label, in the pool or
 * out of it. No client is ever sent to those.
 */
export function endpointsOfPool(pool: InferencePool, pods: readonly Pod[]): readonly Endpoint[] {
  const near = pods.filter(({ metadata }) => (metadata.namespace ?? "default") === pool.namespace);
  const [members, others] = [near.filter(isMember(pool)), near.filter((pod) => !isMember(pool)(pod))];
  const own = Map.groupBy(endpointsOfAll(members.map((pod) => asLabelled(pod, pool))), ({ name }) => name);
  const prefill = endpointsOfAll(others).filter(({ role }) => role === "prefill");
  return [...[...own.values()].flatMap((endpoints) => atTargetPorts(endpoints, pool)), ...prefill];
}

const isMember =
  ({ matchLabels }: InferencePool) =>
  (pod: Pod): boolean =>
    selectorMatches({ matchLabels }, pod.metadata.labels);

function asLabelled(pod: Pod, { name }: InferencePool): Pod {
  const { labels } = pod.metadata;
  const model = labelOf(pod, LABEL.model) ?? name;
  const role = labelOf(pod, LABEL.role) ?? "both";
  return { ...pod, metadata: { ...pod.metadata, labels: { ...labels, [LABEL.model]: model, [LABEL.role]: role } } };
}

/** What the pod itself says of its port does not count: the pool says which ports are served. */
function atTargetPorts([first]: readonly Endpoint[], { targetPorts }: InferencePool): readonly Endpoint[] {
  if (first === undefined) return [];
  const host = first.address.slice(0, first.address.lastIndexOf(":"));
  return targetPorts.map((port, index) => {
    const rank = first.dataParallelRank * targetPorts.length + index;
    const address = `${host}:${port}`;
    return {
      ...first,
      id: `${first.id}:${port}`,
      address,
      dataParallelRank: rank,
      ...eventsOf(first, index, targetPorts),
    };
  });
}

/** Several ports are data-parallel ranks, each with an API server and events of its own. */
function eventsOf({ events }: Endpoint, index: number, ports: readonly number[]): Pick<Endpoint, "events"> {
  if (events === undefined || ports.length === 1) return events === undefined ? {} : { events };
  const replay = events.replayPort === undefined ? {} : { replayPort: events.replayPort + index };
  return { events: { port: events.port + index, ...replay, ranks: 1 } };
}
