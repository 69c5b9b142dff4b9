/**
 * A Deployment of about 20 KB as an API server holds one: with the manifest of `kubectl apply` in an annotation, the
 * owners of every field, a dozen labels, thirty variables, probes, sidecars and a status.
 */
import type { JsonObject, KubeObject, Workload } from "../../src/kinds/kube.ts";
import { applied } from "./apply.ts";

const VARIABLES = 30;
const LABELS = 12;

const count = <T>(length: number, item: (index: number) => T): T[] => Array.from({ length }, (_, index) => item(index));
const numbered = (name: string, length: number, value: string): Record<string, string> =>
  Object.fromEntries(count(length, (index) => [`example.com/${name}-${index}`, `${value}-${index}`]));

const probe = (path: string): JsonObject => ({
  httpGet: { path, port: 8000, scheme: "HTTP" },
  initialDelaySeconds: 30,
  timeoutSeconds: 5,
  periodSeconds: 10,
  successThreshold: 1,
  failureThreshold: 60,
});

const engine = (role: string): JsonObject => ({
  name: "engine",
  image: "vllm/vllm-openai:v0.11.0",
  imagePullPolicy: "IfNotPresent",
  command: ["vllm", "serve", "/models/qwen3-32b"],
  args: ["--served-model-name", "qwen3-32b", "--tensor-parallel-size", "4", "--max-model-len", "32768"],
  env: count(VARIABLES, (index) => ({ name: `SETTING_${role.toUpperCase()}_${index}`, value: `value-of-${index}` })),
  ports: [{ name: "http", containerPort: 8000, protocol: "TCP" }],
  resources: {
    limits: { cpu: "32", memory: "256Gi", "nvidia.com/gpu": "4" },
    requests: { cpu: "32", memory: "256Gi", "nvidia.com/gpu": "4" },
  },
  readinessProbe: probe("/health"),
  livenessProbe: probe("/health"),
  volumeMounts: [
    { name: "models", mountPath: "/models", readOnly: true },
    { name: "cache", mountPath: "/root/.cache" },
  ],
  terminationMessagePath: "/dev/termination-log",
  terminationMessagePolicy: "File",
});

const sidecar = (name: string): JsonObject => ({
  name,
  image: `registry.example.com/platform/${name}:1.2.3`,
  imagePullPolicy: "IfNotPresent",
  args: ["--config", `/etc/${name}/config.yaml`, "--log-level", "info"],
  env: count(6, (index) => ({ name: `OPTION_${index}`, value: `option-${index}` })),
  resources: { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "100m", memory: "256Mi" } },
  volumeMounts: [{ name: `${name}-config`, mountPath: `/etc/${name}`, readOnly: true }],
  terminationMessagePath: "/dev/termination-log",
  terminationMessagePolicy: "File",
});

/** The owners of all fields of a value, as FieldsV1 names them. */
function fields(value: unknown): JsonObject {
  if (Array.isArray(value)) return Object.fromEntries((value as unknown[]).map((item) => listField(item)));
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [`f:${key}`, fields(inner)]));
}

const listField = (item: unknown): [string, JsonObject] => {
  const name = (item as { name?: unknown } | null)?.name;
  return typeof name === "string" ? [`k:${JSON.stringify({ name })}`, fields(item)] : ["f:.", {}];
};

export interface LargeOptions {
  readonly name?: string;
  readonly namespace?: string;
  readonly model?: string;
  readonly role?: "prefill" | "decode";
}

/** The manifest that a person would apply. */
export function manifest({
  name = "large",
  namespace = "inference",
  model = "qwen3-32b",
  role = "prefill",
}: LargeOptions = {}): Workload {
  const labels = {
    app: name,
    ...numbered("team", LABELS, "platform"),
    "tandem.sh/model": model,
    "tandem.sh/role": role,
  };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name,
      namespace,
      labels,
      annotations: numbered("note", 6, "a note of some length, as tools write them"),
    },
    spec: {
      replicas: 4,
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      selector: { matchLabels: { app: name } },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "25%", maxSurge: "25%" } },
      template: {
        metadata: {
          labels: { app: name, ...numbered("team", 4, "platform") },
          annotations: numbered("scrape", 4, "true"),
        },
        spec: {
          containers: [engine(role), sidecar("log-shipper"), sidecar("metrics-agent")],
          volumes: [
            { name: "models", persistentVolumeClaim: { claimName: "models", readOnly: true } },
            { name: "cache", emptyDir: {} },
            { name: "log-shipper-config", configMap: { name: "log-shipper", defaultMode: 420 } },
            { name: "metrics-agent-config", configMap: { name: "metrics-agent", defaultMode: 420 } },
          ],
          tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
          restartPolicy: "Always",
          terminationGracePeriodSeconds: 30,
          dnsPolicy: "ClusterFirst",
          schedulerName: "default-scheduler",
          securityContext: {},
        },
      },
    },
  } as unknown as Workload;
}

/** The object as it reaches admission at its creation: applied, with the owners of its fields. */
export function large(options: LargeOptions = {}): Workload {
  const object = applied(manifest(options)) as Workload;
  const { labels, annotations } = object.metadata;
  const owner = {
    manager: "kubectl-client-side-apply",
    operation: "Update",
    apiVersion: "apps/v1",
    time: "2026-11-20T10:00:00Z",
    fieldsType: "FieldsV1",
    fieldsV1: { "f:metadata": fields({ labels, annotations }), "f:spec": fields(object.spec) },
  };
  return { ...object, metadata: { ...object.metadata, managedFields: [owner] } };
}

/** What the API server and the deployment controller add to a stored object. */
export const stored = (object: KubeObject): KubeObject => ({
  ...object,
  metadata: {
    ...object.metadata,
    uid: "5b0e0f4e-7b2a-4a8e-9a57-3a4d8f3f2c11",
    resourceVersion: "123456",
    generation: 2,
    creationTimestamp: "2026-11-20T10:00:00Z",
  },
  status: { observedGeneration: 2, replicas: 4, updatedReplicas: 4, readyReplicas: 4, availableReplicas: 4 },
});

/** An AdmissionReview as kube-apiserver sends it. */
export function reviewOf(
  operation: "CREATE" | "UPDATE",
  object: KubeObject,
  oldObject: KubeObject | null = null,
): JsonObject {
  const [group = "", version = ""] = object.apiVersion.includes("/")
    ? object.apiVersion.split("/")
    : ["", object.apiVersion];
  const kind = { group, version, kind: object.kind };
  const resource = { group, version, resource: `${object.kind.toLowerCase()}s` };
  return {
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request: {
      uid: "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
      kind,
      resource,
      requestKind: kind,
      requestResource: resource,
      name: object.metadata.name ?? "",
      namespace: object.metadata.namespace ?? "",
      operation,
      userInfo: { username: "alice", groups: ["system:authenticated"] },
      object,
      oldObject,
      dryRun: false,
      options: {
        kind: `${operation === "CREATE" ? "Create" : "Update"}Options`,
        apiVersion: "meta.k8s.io/v1",
        fieldManager: "kubectl",
      },
    },
  };
}
