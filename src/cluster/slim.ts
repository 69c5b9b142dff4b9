/**
 * What is kept of a watched object: the fields that decisions read. A cluster of 50,000 pods holds some 500 MB as the
 * server sends them; containers' environment, images' lists, managed fields and volumes of foreign pods make most of it.
 */
import {
  isObject,
  labelOf,
  type Affinity,
  type Container,
  type KubeObject,
  type Node,
  type ObjectMeta,
  type Pod,
  type Workload,
} from "../kinds/kube.ts";
import { LABEL, VOLCANO } from "../kinds/names.ts";

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** Without managed fields and the copy that `kubectl apply` leaves behind. */
export function slimObject<T extends KubeObject>(object: T): T {
  return { ...object, metadata: slimMeta(object.metadata) };
}

/** Of a workload's managed fields only who wrote replicas through the scale subresource is kept. */
export function slimWorkload(object: KubeObject): Workload {
  const workload = slimObject(object as Workload);
  const entries = object.metadata["managedFields"];
  const writers = (Array.isArray(entries) ? entries : []).flatMap(scaleWriter);
  if (writers.length === 0) return workload;
  return { ...workload, metadata: { ...workload.metadata, managedFields: writers } };
}

/** As the server has it, without other fields and without the time. */
function scaleWriter(entry: unknown): readonly object[] {
  if (!isObject(entry) || entry["subresource"] !== "scale" || !isObject(entry["fieldsV1"])) return [];
  const spec = entry["fieldsV1"]["f:spec"];
  if (!isObject(spec) || spec["f:replicas"] === undefined) return [];
  const { manager, operation, subresource } = entry;
  return [{ manager, operation, subresource, fieldsV1: { "f:spec": { "f:replicas": {} } } }];
}

function slimMeta(metadata: ObjectMeta): ObjectMeta {
  const kept: ObjectMeta = { ...metadata };
  delete kept["managedFields"];
  if (metadata.annotations === undefined || !Object.hasOwn(metadata.annotations, LAST_APPLIED)) return kept;
  const annotations = Object.entries(metadata.annotations).filter(([key]) => key !== LAST_APPLIED);
  return { ...kept, annotations: Object.fromEntries(annotations) };
}

/** Pods of ours keep their spec; of all others only what they take from their node, and whom they keep away from it. */
export function slimPod(object: KubeObject): Pod {
  const pod = slimObject(object as Pod);
  return labelOf(pod, LABEL.model) === undefined ? { ...pod, spec: foreignSpec(pod), status: podStatus(pod) } : pod;
}

function foreignSpec({ spec }: Pod): Pod["spec"] {
  const { nodeName, schedulerName, overhead, initContainers, hostNetwork } = spec;
  const slim = (container: Container): Container => takesOnly(container, hostNetwork === true);
  return defined({
    containers: spec.containers.map(slim),
    initContainers: initContainers?.map(slim),
    hostNetwork,
    affinity: repelling(spec.affinity),
    nodeName,
    schedulerName,
    overhead,
  }) as Pod["spec"];
}

/** `restartPolicy: Always` makes an init container a sidecar, whose requests add up with the others. */
function takesOnly({ name, resources, restartPolicy, ports }: Container, hostNetwork: boolean): Container {
  const taken = ports?.filter((port) => hostNetwork || port["hostPort"] !== undefined);
  return defined({ name, resources, restartPolicy, ports: taken?.length === 0 ? undefined : taken }) as Container;
}

/** Required anti-affinity binds in both directions; what else a bound pod wished for is past. */
function repelling(affinity: Affinity | undefined): Affinity | undefined {
  const required = affinity?.podAntiAffinity?.["requiredDuringSchedulingIgnoredDuringExecution"];
  if (required === undefined) return undefined;
  return { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: required } };
}

function podStatus({ status }: Pod): NonNullable<Pod["status"]> {
  return defined({ phase: status?.phase, podIP: status?.podIP, conditions: status?.conditions });
}

/** Of the definition of PodGroups: the names of the fields of its spec, two levels deep, as its annotation `fields`. */
export function slimDefinition(object: KubeObject): KubeObject {
  const { name, resourceVersion, uid } = object.metadata;
  const annotations = { [DEFINED_FIELDS]: [...definedFields(object)].join(",") };
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    metadata: defined({ name, resourceVersion, uid, annotations }),
  };
}

/** Of our store alone: never written to the cluster. */
export const DEFINED_FIELDS = "fields";

function* definedFields(object: KubeObject): Generator<string> {
  const spec = propertiesOf(served(object), "openAPIV3Schema", "properties", "spec", "properties");
  for (const [field, schema] of Object.entries(spec)) {
    yield field;
    for (const inner of Object.keys(propertiesOf(schema, "properties"))) yield `${field}.${inner}`;
  }
}

/** Schema of the version that we write. */
function served({ spec }: KubeObject): unknown {
  const versions = isObject(spec) && Array.isArray(spec["versions"]) ? (spec["versions"] as readonly unknown[]) : [];
  const version = VOLCANO.podGroupApiVersion.split("/")[1];
  return versions.filter(isObject).find((one) => one["name"] === version)?.["schema"];
}

function propertiesOf(value: unknown, ...path: readonly string[]): Readonly<Record<string, unknown>> {
  const found = path.reduce((at, key) => (isObject(at) ? at[key] : undefined), value);
  return isObject(found) ? found : {};
}

/** Without the list of images, which alone may take 30 KB. */
export function slimNode(object: KubeObject): Node {
  const node = slimObject(object as Node);
  const { allocatable, conditions, nodeInfo } = node.status ?? {};
  const kubeletVersion = nodeInfo?.kubeletVersion;
  return {
    ...node,
    status: defined({
      allocatable,
      conditions: conditions?.map(({ type, status }) => ({ type, status })),
      nodeInfo: kubeletVersion === undefined ? undefined : { kubeletVersion },
    }),
  };
}

const defined = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
