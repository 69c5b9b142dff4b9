/**
 * The narrow shapes of Kubernetes objects that Tandem reads. Decoded once at an edge; nothing else of the client
 * library travels inward. Every shape keeps the fields it does not name: what is written back is what came in.
 */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { [key: string]: unknown };

export type StringMap = Readonly<Record<string, string>>;

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export interface ObjectMeta extends JsonObject {
  name?: string;
  generateName?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string | null;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
}

export interface KubeObject extends JsonObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** Where an object lives. `plural` is the resource name in the URL. */
export interface ObjectRef {
  readonly apiVersion: string;
  readonly plural: string;
  readonly namespace?: string;
  readonly name: string;
  /** `scale`, `status`, ... */
  readonly subresource?: string;
}

export interface EnvVar extends JsonObject {
  name: string;
  value?: string;
  valueFrom?: JsonObject;
}

export interface ContainerPort extends JsonObject {
  name?: string;
  containerPort: number;
  protocol?: string;
}

export interface VolumeMount extends JsonObject {
  name: string;
  mountPath: string;
}

export interface ResourceRequirements extends JsonObject {
  limits?: Record<string, string | number>;
  requests?: Record<string, string | number>;
}

export interface Container extends JsonObject {
  name: string;
  image?: string;
  command?: string[];
  args?: string[];
  env?: EnvVar[];
  ports?: ContainerPort[];
  resources?: ResourceRequirements;
  volumeMounts?: VolumeMount[];
}

export interface NodeSelectorRequirement extends JsonObject {
  key: string;
  operator: "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";
  values?: string[];
}

export interface NodeSelectorTerm extends JsonObject {
  matchExpressions?: NodeSelectorRequirement[];
  matchFields?: NodeSelectorRequirement[];
}

export interface LabelSelector extends JsonObject {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

export interface PodAffinityTerm extends JsonObject {
  labelSelector?: LabelSelector;
  topologyKey: string;
  namespaces?: string[];
}

export interface WeightedPodAffinityTerm extends JsonObject {
  weight: number;
  podAffinityTerm: PodAffinityTerm;
}

export interface Affinity extends JsonObject {
  nodeAffinity?: {
    requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms: NodeSelectorTerm[] };
    preferredDuringSchedulingIgnoredDuringExecution?: { weight: number; preference: NodeSelectorTerm }[];
  } & JsonObject;
  podAffinity?: {
    requiredDuringSchedulingIgnoredDuringExecution?: PodAffinityTerm[];
    preferredDuringSchedulingIgnoredDuringExecution?: WeightedPodAffinityTerm[];
  } & JsonObject;
  podAntiAffinity?: JsonObject;
}

export interface Toleration extends JsonObject {
  key?: string;
  operator?: "Exists" | "Equal";
  value?: string;
  effect?: string;
}

export interface Volume extends JsonObject {
  name: string;
}

export interface PodSpec extends JsonObject {
  containers: Container[];
  initContainers?: Container[];
  schedulerName?: string;
  nodeName?: string;
  nodeSelector?: Record<string, string>;
  affinity?: Affinity;
  tolerations?: Toleration[];
  volumes?: Volume[];
  schedulingGates?: { name: string }[];
  runtimeClassName?: string;
  enableServiceLinks?: boolean;
  terminationGracePeriodSeconds?: number;
  hostNetwork?: boolean;
}

export interface PodTemplate extends JsonObject {
  metadata?: ObjectMeta;
  spec: PodSpec;
}

export interface PodCondition extends JsonObject {
  type: string;
  status: string;
}

export interface Pod extends KubeObject {
  spec: PodSpec;
  status?: {
    phase?: string;
    podIP?: string;
    conditions?: PodCondition[];
    containerStatuses?: ({ name: string; restartCount?: number; containerID?: string } & JsonObject)[];
  } & JsonObject;
}

/** Deployment or StatefulSet. */
export interface Workload extends KubeObject {
  spec: {
    replicas?: number;
    selector?: LabelSelector;
    template: PodTemplate;
  } & JsonObject;
}

export interface Taint extends JsonObject {
  key: string;
  value?: string;
  effect: string;
}

export interface Node extends KubeObject {
  spec?: { unschedulable?: boolean; taints?: Taint[] } & JsonObject;
  status?: {
    allocatable?: Record<string, string | number>;
    conditions?: PodCondition[];
    nodeInfo?: { kubeletVersion?: string } & JsonObject;
  } & JsonObject;
}

/** Volcano's `topology.volcano.sh/v1alpha1` HyperNode: a set of nodes or of HyperNodes; a lower tier is closer. */
export interface HyperNode extends KubeObject {
  spec: {
    tier: number;
    tierName?: string;
    members: HyperNodeMember[];
  } & JsonObject;
}

export interface HyperNodeMember extends JsonObject {
  type: "Node" | "HyperNode";
  selector: {
    exactMatch?: { name: string };
    regexMatch?: { pattern: string };
    labelMatch?: LabelSelector;
  } & JsonObject;
}

export interface Namespace extends KubeObject {
  status?: JsonObject;
}

/** `namespace/name`, or the bare name of a cluster-scoped object. */
export const keyOf = (object: KubeObject): string =>
  object.metadata.namespace === undefined
    ? (object.metadata.name ?? "")
    : `${object.metadata.namespace}/${object.metadata.name ?? ""}`;

/**
 * An own property of a string map; `constructor` and the like are legal label keys and must not be found by `in`. A map
 * that is null, as an empty key of a YAML file, is none.
 */
export const entry = (map: StringMap | null | undefined, key: string): string | undefined =>
  map !== undefined && map !== null && Object.hasOwn(map, key) ? map[key] : undefined;

export const labelOf = (object: { metadata?: ObjectMeta }, key: string): string | undefined =>
  entry(object.metadata?.labels, key);

export const annotationOf = (object: { metadata?: ObjectMeta }, key: string): string | undefined =>
  entry(object.metadata?.annotations, key);

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The owner that makes and replaces an object; undefined for one that a person made. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  const owners: unknown = object.metadata.ownerReferences;
  return Array.isArray(owners) ? owners.find(isController) : undefined;
}

const isController = (owner: unknown): owner is OwnerReference =>
  isObject(owner) &&
  owner["controller"] === true &&
  typeof owner["kind"] === "string" &&
  typeof owner["name"] === "string";
