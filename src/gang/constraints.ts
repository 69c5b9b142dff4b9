/**
 * What a pod demands of its neighbours: required pod affinity and anti-affinity, topology spread that forbids, and host
 * ports. Decoded once a pod; a pod without any of them costs one look into a map.
 */
import {
  entry,
  isObject,
  type Container,
  type JsonObject,
  type LabelSelector,
  type Pod,
  type StringMap,
} from "../kinds/kube.ts";
import { selectorMatches } from "../kinds/selector.ts";

/** One required term of pod affinity or anti-affinity. */
export interface Term {
  /** Node label whose value makes the domain. */
  readonly key: string;
  /** Undefined matches no pod. */
  readonly selector: LabelSelector | undefined;
  readonly namespaces: ReadonlySet<string>;
  /** Further namespaces, by their labels. */
  readonly namespaceSelector: LabelSelector | undefined;
}

/** One topology spread constraint with `DoNotSchedule`. */
export interface Spread {
  readonly key: string;
  readonly maxSkew: number;
  /** With fewer domains than these, the emptiest counts as empty. */
  readonly minDomains: number;
  readonly selector: LabelSelector | undefined;
  /** Nodes that the pod's selector and node affinity exclude do not count (the default). */
  readonly honorAffinity: boolean;
  /** Nodes with taints that the pod does not tolerate do not count (not the default). */
  readonly honorTaints: boolean;
}

export interface HostPort {
  readonly protocol: string;
  readonly port: number;
  /** `0.0.0.0` is every address. */
  readonly ip: string;
}

export interface Constraints {
  readonly affinity: readonly Term[];
  readonly apart: readonly Term[];
  readonly spread: readonly Spread[];
  readonly ports: readonly HostPort[];
}

const decoded = new WeakMap<Pod, Constraints | false>();

/** The constraints of a pod; undefined for most, which have none. */
export function constraintsOf(pod: Pod): Constraints | undefined {
  const known = decoded.get(pod) ?? decode(pod);
  decoded.set(pod, known);
  return known === false ? undefined : known;
}

/** Most pods: told apart without a list being made. */
const isFree = ({ spec }: Pod): boolean =>
  spec.affinity === undefined &&
  spec["topologySpreadConstraints"] === undefined &&
  spec.containers.every(({ ports }) => ports === undefined) &&
  spec.initContainers === undefined;

function decode(pod: Pod): Constraints | false {
  if (isFree(pod)) return false;
  const { affinity, hostNetwork } = pod.spec;
  const found: Constraints = {
    affinity: required(affinity?.podAffinity).map((term) => termOf(term, pod)),
    apart: required(affinity?.podAntiAffinity).map((term) => termOf(term, pod)),
    spread: objects(pod.spec["topologySpreadConstraints"])
      .filter((constraint) => constraint["whenUnsatisfiable"] !== "ScheduleAnyway")
      .map((constraint) => spreadOf(constraint, pod)),
    ports: serving(pod).flatMap((container) => portsOf(container, hostNetwork === true)),
  };
  return Object.values(found).some((list: readonly unknown[]) => list.length > 0) && found;
}

const objects = (value: unknown): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const texts = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");
const required = (affinity: JsonObject | undefined): readonly JsonObject[] =>
  objects(affinity?.["requiredDuringSchedulingIgnoredDuringExecution"]);
const selectorOf = (value: unknown): LabelSelector | undefined => (isObject(value) ? value : undefined);

/** A term that names no namespace means the pod's own. */
function termOf(term: JsonObject, pod: Pod): Term {
  const namespaceSelector = selectorOf(term["namespaceSelector"]);
  const named = texts(term["namespaces"]);
  const own = named.length === 0 && namespaceSelector === undefined;
  return {
    key: textOf(term["topologyKey"]),
    selector: narrowed(term, pod),
    namespaces: new Set(own ? [namespaceOf(pod)] : named),
    namespaceSelector,
  };
}

/**
 * The selector with `matchLabelKeys` and `mismatchLabelKeys` filled in. The API server does so when a pod is created (for
 * spread constraints the scheduler); a pod still to come has only its template. Keys that the pod lacks are left out.
 */
function narrowed(source: JsonObject, pod: Pod): LabelSelector | undefined {
  const selector = selectorOf(source["labelSelector"]);
  if (selector === undefined) return undefined;
  const more = (keys: unknown, operator: string): { key: string; operator: string; values: string[] }[] =>
    texts(keys).flatMap((key) => {
      const value = entry(pod.metadata.labels, key);
      return value === undefined ? [] : [{ key, operator, values: [value] }];
    });
  const added = [...more(source["matchLabelKeys"], "In"), ...more(source["mismatchLabelKeys"], "NotIn")];
  if (added.length === 0) return selector;
  return { ...selector, matchExpressions: [...(selector.matchExpressions ?? []), ...added] };
}

function spreadOf(constraint: JsonObject, pod: Pod): Spread {
  return {
    key: textOf(constraint["topologyKey"]),
    maxSkew: Number(constraint["maxSkew"] ?? 1),
    minDomains: Number(constraint["minDomains"] ?? 1),
    selector: narrowed(constraint, pod),
    honorAffinity: constraint["nodeAffinityPolicy"] !== "Ignore",
    honorTaints: constraint["nodeTaintsPolicy"] === "Honor",
  };
}

/** Containers that run beside one another: init containers only where they are sidecars. */
const serving = ({ spec }: Pod): readonly Container[] => [
  ...spec.containers,
  ...(spec.initContainers ?? []).filter((container) => container["restartPolicy"] === "Always"),
];

/** On the host's network every port that a container names is one of the host. */
const portsOf = ({ ports }: Container, hostNetwork: boolean): readonly HostPort[] =>
  objects(ports).flatMap((port) => {
    const number = Number(port["hostPort"] ?? (hostNetwork ? port["containerPort"] : 0));
    const ip = textOf(port["hostIP"]);
    return number > 0 ? [{ port: number, protocol: textOf(port["protocol"]) || "TCP", ip: ip || ANY_ADDRESS }] : [];
  });

const ANY_ADDRESS = "0.0.0.0";

export const portsCollide = (a: HostPort, b: HostPort): boolean =>
  a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || a.ip === ANY_ADDRESS || b.ip === ANY_ADDRESS);

export const namespaceOf = (pod: Pod): string => pod.metadata.namespace ?? "default";

/** Whether a selector that may be absent selects the pod. */
export const selects = (selector: LabelSelector | undefined, pod: Pod): boolean =>
  selector !== undefined && selectorMatches(selector, pod.metadata.labels);

/** Whether the term means this pod. `labels` tells those of a namespace. */
export const termMatches = (term: Term, pod: Pod, labels: (namespace: string) => StringMap): boolean =>
  (term.namespaces.has(namespaceOf(pod)) ||
    (term.namespaceSelector !== undefined && selectorMatches(term.namespaceSelector, labels(namespaceOf(pod))))) &&
  selects(term.selector, pod);
