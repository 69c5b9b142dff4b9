/** HorizontalPodAutoscalers (autoscaling/v1, v2) and KEDA's ScaledObjects: which of them scale a workload. */
import { isObject, type KubeObject } from "../kinds/kube.ts";

export interface Scaler {
  /** Kind and name. */
  readonly name: string;
  /** Fewest replicas that it may leave. */
  readonly minimum: number;
}

interface Form {
  readonly minimum: string;
  /** Where the field is absent. */
  readonly least: number;
}

/** KEDA scales to zero unless told otherwise; an HPA keeps one. */
const FORMS: Readonly<Record<string, Form>> = {
  HorizontalPodAutoscaler: { minimum: "minReplicas", least: 1 },
  ScaledObject: { minimum: "minReplicaCount", least: 0 },
};

export const AUTOSCALER_KINDS: readonly string[] = Object.keys(FORMS);

/** Those whose target is this object. */
export const autoscalersOf = (object: KubeObject, all: readonly KubeObject[]): readonly Scaler[] =>
  all.flatMap((scaler) => {
    const form = Object.hasOwn(FORMS, scaler.kind) ? FORMS[scaler.kind] : undefined;
    const spec = scaler["spec"];
    if (form === undefined || !isObject(spec) || !targets(scaler, spec["scaleTargetRef"], object)) return [];
    const given = spec[form.minimum];
    const minimum = typeof given === "number" ? given : form.least;
    return [{ name: `${scaler.kind} ${scaler.metadata.name ?? ""}`, minimum }];
  });

/** A reference without a kind is to a Deployment, as KEDA reads it. */
function targets(scaler: KubeObject, reference: unknown, object: KubeObject): boolean {
  if (!isObject(reference)) return false;
  return (
    (reference["kind"] ?? "Deployment") === object.kind &&
    reference["name"] === object.metadata.name &&
    (scaler.metadata.namespace ?? "default") === (object.metadata.namespace ?? "default")
  );
}
