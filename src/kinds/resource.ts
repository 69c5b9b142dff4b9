/** Resource names: from the kind of an object to its place in the API. */
import type { KubeObject, ObjectRef } from "./kube.ts";

/** The kinds Tandem reads or writes, by resource name. */
const PLURALS: Readonly<Record<string, string>> = {
  ConfigMap: "configmaps",
  CustomResourceDefinition: "customresourcedefinitions",
  Deployment: "deployments",
  EndpointSlice: "endpointslices",
  Event: "events",
  HorizontalPodAutoscaler: "horizontalpodautoscalers",
  HyperNode: "hypernodes",
  InferencePool: "inferencepools",
  Lease: "leases",
  LeaderWorkerSet: "leaderworkersets",
  MutatingWebhookConfiguration: "mutatingwebhookconfigurations",
  Namespace: "namespaces",
  Node: "nodes",
  Pod: "pods",
  PodAutoscaler: "podautoscalers",
  PodDisruptionBudget: "poddisruptionbudgets",
  PodGroup: "podgroups",
  Queue: "queues",
  ReplicaSet: "replicasets",
  ScaledObject: "scaledobjects",
  Secret: "secrets",
  Service: "services",
  StatefulSet: "statefulsets",
  ValidatingWebhookConfiguration: "validatingwebhookconfigurations",
  VariantAutoscaling: "variantautoscalings",
};

/** Resource name of a kind. Throws for a kind that is not in the table: that is a bug, never an input. */
export function pluralOf(kind: string): string {
  if (!Object.hasOwn(PLURALS, kind)) throw new Error(`no resource name is known for kind ${kind}`);
  return PLURALS[kind] ?? "";
}

/** Where an object lives. */
export const refOf = (object: KubeObject): ObjectRef => ({
  apiVersion: object.apiVersion,
  plural: pluralOf(object.kind),
  ...(object.metadata.namespace === undefined ? {} : { namespace: object.metadata.namespace }),
  name: object.metadata.name ?? "",
});
