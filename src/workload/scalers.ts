/**
 * Who else scales a workload: HorizontalPodAutoscalers, KEDA's ScaledObjects, AIBrix's PodAutoscalers, llm-d's
 * VariantAutoscalings and Kthena's AutoscalingPolicyBindings that name it, and whoever wrote its replicas last.
 *
 * A ScaledObject that asks Tandem's external scaler is no rival, nor is the HPA that KEDA makes for it. Read from given
 * objects alone; whether a rival is a warning or a reason to stand still is for others to decide.
 */
import { controllerOf, isObject, type JsonObject, type KubeObject } from "../kinds/kube.ts";
import { FIELD_MANAGER } from "../kinds/names.ts";

export interface Scaler {
  readonly kind: string;
  /** Kind and name. */
  readonly name: string;
  /** Fewest replicas that it may leave; undefined where the object does not say. */
  readonly minimum?: number;
  /** KEDA, told by Tandem how many there should be. */
  readonly asksTandem: boolean;
}

interface Form {
  /** What it scales. */
  readonly targets: (spec: JsonObject) => readonly unknown[];
  readonly minimum: (spec: JsonObject) => number | undefined;
}

const numberAt = (spec: JsonObject, key: string, fallback: number): number => {
  const value = spec[key];
  return typeof value === "number" ? value : fallback;
};

const inner = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((at, key) => (isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined), value);

const byReference = (minimum: Form["minimum"]): Form => ({ targets: (spec) => [spec["scaleTargetRef"]], minimum });

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const FORMS: Readonly<Record<string, Form>> = {
  // An HPA keeps one replica unless told otherwise, KEDA none.
  HorizontalPodAutoscaler: byReference((spec) => numberAt(spec, "minReplicas", 1)),
  ScaledObject: byReference((spec) => numberAt(spec, "minReplicaCount", 0)),
  PodAutoscaler: byReference((spec) => numberAt(spec, "minReplicas", 1)),
  VariantAutoscaling: byReference(() => undefined),
  AutoscalingPolicyBinding: {
    targets: (spec) => [
      inner(spec, "homogeneousTarget", "target", "targetRef"),
      ...list(inner(spec, "heterogeneousTarget", "params")).map((one) => inner(one, "target", "targetRef")),
      inner(spec, "disaggregatedTarget", "targetRef"),
    ],
    minimum: () => undefined,
  },
};

export const SCALER_KINDS: readonly string[] = Object.keys(FORMS);

/** Those that name this workload, without HPAs that KEDA makes for one of them. */
export function scalersOf(workload: KubeObject, all: readonly KubeObject[]): readonly Scaler[] {
  const naming = all.filter((scaler) => names(scaler, workload));
  return naming
    .filter((scaler) => !naming.some((other) => other.kind === "ScaledObject" && isMadeBy(scaler, other)))
    .map(toScaler);
}

function names(scaler: KubeObject, workload: KubeObject): boolean {
  const spec = scaler["spec"];
  const form = Object.hasOwn(FORMS, scaler.kind) ? FORMS[scaler.kind] : undefined;
  if (form === undefined || !isObject(spec) || namespaceOf(scaler) !== namespaceOf(workload)) return false;
  return form.targets(spec).some((reference) => isReference(reference, workload));
}

const namespaceOf = ({ metadata }: KubeObject): string => metadata.namespace ?? "default";

/** A reference without a kind is to a Deployment, as KEDA reads it. */
const isReference = (reference: unknown, { kind, metadata }: KubeObject): boolean =>
  isObject(reference) && (reference["kind"] ?? "Deployment") === kind && reference["name"] === metadata.name;

function isMadeBy(scaler: KubeObject, { kind, metadata }: KubeObject): boolean {
  const owner = controllerOf(scaler);
  return owner?.kind === kind && owner.name === metadata.name;
}

function toScaler(scaler: KubeObject): Scaler {
  const spec = isObject(scaler["spec"]) ? scaler["spec"] : {};
  const minimum = FORMS[scaler.kind]?.minimum(spec);
  return {
    kind: scaler.kind,
    name: `${scaler.kind} ${scaler.metadata.name ?? ""}`,
    ...(minimum === undefined ? {} : { minimum }),
    asksTandem: scaler.kind === "ScaledObject" && list(spec["triggers"]).some(isOurTrigger),
  };
}

const EXTERNAL = ["external", "external-push"];

/** Metadata of a trigger by which KEDA asks Tandem: which group's number, or which workload's. */
export const TRIGGER_METADATA = { group: "tandemGroup", workload: "tandemWorkload" } as const;

const isOurTrigger = (trigger: unknown): boolean =>
  EXTERNAL.includes(String(inner(trigger, "type"))) &&
  Object.values(TRIGGER_METADATA).some((key) => inner(trigger, "metadata", key) !== undefined);

/** People's tools, HPAs, which are seen as objects, and Tandem. */
const isKnownWriter = (manager: string): boolean =>
  manager.startsWith("kubectl") ||
  manager === "kube-controller-manager" ||
  Object.values<string>(FIELD_MANAGER).includes(manager);

/**
 * Field managers that wrote replicas through the scale subresource, as autoscalers do. An owner of the object itself, as
 * Argo CD or Helm, is none: admission keeps the live replicas from its manifest.
 */
function writersOf(workload: KubeObject): readonly string[] {
  return list(workload.metadata["managedFields"])
    .filter((entry) => inner(entry, "subresource") === "scale")
    .filter((entry) => inner(entry, "fieldsV1", "f:spec", "f:replicas") !== undefined)
    .map((entry) => inner(entry, "manager"))
    .filter((manager) => typeof manager === "string");
}

/** Who else scales a workload, in words; undefined where nobody does. */
export function contestedBy(workload: KubeObject, objects: readonly KubeObject[]): string | undefined {
  const scalers = scalersOf(workload, objects);
  const rival = scalers.find(({ asksTandem }) => !asksTandem);
  if (rival !== undefined) return rival.name;
  // KEDA itself takes a workload from zero to one and back.
  const isInvited = (manager: string): boolean => scalers.length > 0 && manager.startsWith("keda");
  const stranger = writersOf(workload).find((manager) => !isKnownWriter(manager) && !isInvited(manager));
  return stranger === undefined ? undefined : `field manager ${stranger}`;
}
