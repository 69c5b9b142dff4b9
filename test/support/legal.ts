/** Legal objects with fields of all kinds, for every engine, device and kind there is; and whether an object is valid. */
import fc from "fast-check";
import { isObject, type JsonObject, type KubeObject, type Workload } from "../../src/kinds/kube.ts";
import { BUILT_IN } from "../../src/profiles/devices.ts";
import { ENGINES } from "../../src/profiles/engines.ts";
import { templatesOf } from "../../src/workload/template.ts";
import { workloads } from "./workloads.ts";

const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

/** Legal as label and annotation names and as keys of free maps; they mean something to JavaScript or to pointers. */
const KEYS = ["constructor", "toString", "hasOwnProperty", "valueOf", "example.com/a", "a.b/c_d", "x-1"] as const;
const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom("", "v", "a.b_c-D"), {
  maxKeys: 4,
  noNullPrototype: true,
});
const map = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom("", "v", "a/b~c", "é", "$(HOME)"), {
  maxKeys: 4,
  noNullPrototype: true,
});

/** Fields of a pod that admission has nothing to do with, or must add to. */
const podFields = fc.record(
  {
    tolerations: fc.constant([{ operator: "Exists" }]),
    nodeSelector: labels,
    hostNetwork: fc.boolean(),
    dnsPolicy: fc.constantFrom("ClusterFirst", "Default"),
    restartPolicy: fc.constant("Always"),
    terminationGracePeriodSeconds: fc.constantFrom(30, 0, 600),
    priorityClassName: fc.constant("high"),
    runtimeClassName: fc.constant("nvidia"),
    securityContext: fc.constant({ fsGroup: 1000, sysctls: [] }),
    imagePullSecrets: fc.constant([{ name: "s" }]),
    schedulingGates: fc.constant([{ name: "example.com/gate" }]),
    topologySpreadConstraints: fc.constant([{ maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule" }]),
    initContainers: fc.constant([{ name: "fetch", image: "busybox", args: ["-c", "x"] }]),
    hostAliases: fc.constant([{ ip: "10.0.0.1", hostnames: ["a"] }]),
  },
  { requiredKeys: [] },
);

const containerFields = fc.record(
  {
    livenessProbe: fc.constant({ httpGet: { path: "/health", port: 8000 }, periodSeconds: 5 }),
    readinessProbe: fc.constant({ exec: { command: ["true"] } }),
    lifecycle: fc.constant({ preStop: { exec: { command: ["sleep", "1"] } } }),
    envFrom: fc.constant([{ configMapRef: { name: "c" } }]),
    securityContext: fc.constant({ capabilities: { add: ["IPC_LOCK"] } }),
    workingDir: fc.constant("/"),
    tty: fc.boolean(),
  },
  { requiredKeys: [] },
);

const harmless = fc.record(
  { "tandem.sh/port": fc.constantFrom("8000", "9001"), "tandem.sh/served-model": fc.constant("m,alias") },
  { requiredKeys: [] },
);
/** What contradicts most templates: one in eight declares such a thing. */
const declared = fc.record(
  {
    "tandem.sh/engine": fc.constantFrom(...ENGINES.map(({ id }) => id)),
    "tandem.sh/accelerator": fc.constantFrom(...BUILT_IN.map(({ name }) => name)),
    "tandem.sh/kv-connector": fc.constantFrom("nixl", "mooncake", "none"),
  },
  { requiredKeys: [] },
);
const intents = fc
  .tuple(harmless, fc.oneof({ arbitrary: fc.constant({}), weight: 7 }, { arbitrary: declared, weight: 1 }))
  .map(([some, others]) => ({ ...some, ...others }));

type Template = Workload["spec"]["template"];

/** Where each kind keeps its templates; a LeaderWorkerSet may have one for all its pods, or one for those that lead. */
const SPECS: Readonly<Record<string, (spec: Workload["spec"], template: Template) => object>> = {
  Deployment: (spec, template) => ({ ...spec, template }),
  StatefulSet: (spec, template) => ({ ...spec, serviceName: "w", podManagementPolicy: "Parallel", template }),
  LeaderWorkerSet: ({ replicas }, template) => ({
    replicas,
    // A copy: a library that patches in place would otherwise change both at once.
    leaderWorkerTemplate: { size: 2, leaderTemplate: template, workerTemplate: structuredClone(template) },
  }),
  "LeaderWorkerSet of one template": ({ replicas }, template) => ({
    replicas,
    leaderWorkerTemplate: { size: 1, workerTemplate: template },
  }),
};

const apiVersionOf = (kind: string): string => (kind === "LeaderWorkerSet" ? "leaderworkerset.x-k8s.io/v1" : "apps/v1");

/** Workloads of every kind; some are denied, because their parts contradict each other. */
export const legal: fc.Arbitrary<Workload> = fc
  .record({
    base: workloads,
    form: fc.constantFrom("Deployment", ...Object.keys(SPECS)),
    podFields,
    containerFields,
    intents: maybe(intents),
    labels,
    annotations: map,
    extra: maybe(fc.constantFrom({ minReadySeconds: 5 }, { revisionHistoryLimit: 0 }, { paused: true })),
  })
  .map(({ base, form, ...with_ }) => {
    const kind = form.replace(/ .*/, "");
    const containers = base.spec.template.spec.containers.map((one) => ({ ...with_.containerFields, ...one }));
    const podSpec = { ...with_.podFields, ...base.spec.template.spec, containers };
    const template = { ...base.spec.template, spec: podSpec } as unknown as Template;
    const spec = { ...base.spec, ...with_.extra };
    return {
      apiVersion: apiVersionOf(kind),
      kind,
      metadata: {
        ...base.metadata,
        labels: { ...with_.labels, ...base.metadata.labels },
        annotations: { ...with_.annotations, ...base.metadata.annotations, ...with_.intents },
      },
      spec: SPECS[form]?.(spec, template),
    } as unknown as Workload;
  });

/** Fields whose API default counts as unset, so that admission may write over it. */
const DEFAULTED: Readonly<Record<string, unknown>> = {
  schedulerName: "default-scheduler",
  enableServiceLinks: true,
  terminationGracePeriodSeconds: 30,
};

/** The first place of `given` that is not in `found` as it was; items may only have been added at the end of lists. */
export function lost(given: unknown, found: unknown, place = ""): string | undefined {
  if (Array.isArray(given)) {
    if (!Array.isArray(found) || found.length < given.length) return place;
    return firstOf(given.map((item, index) => () => lost(item, found[index], `${place}/${index}`)));
  }
  if (!isObject(given)) return Object.is(given, found) ? undefined : place;
  if (!isObject(found)) return place;
  const keys = Object.keys(given).filter((key) => !Object.hasOwn(DEFAULTED, key) || given[key] !== DEFAULTED[key]);
  return firstOf(
    keys.map(
      (key) => () => (Object.hasOwn(found, key) ? lost(given[key], found[key], `${place}/${key}`) : `${place}/${key}`),
    ),
  );
}

function firstOf(tries: readonly (() => string | undefined)[]): string | undefined {
  for (const each of tries) {
    const found = each();
    if (found !== undefined) return found;
  }
  return undefined;
}

const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;
const NAME = /^([a-z0-9.-]+\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const MOST_ANNOTATION_BYTES = 262144;

const list = (value: unknown): JsonObject[] => (Array.isArray(value) ? (value as JsonObject[]) : []);
const twice = (values: readonly unknown[]): unknown => values.find((value, index) => values.indexOf(value) !== index);

/** What the API server would refuse of the parts that admission writes; undefined for a valid object. */
export function invalid(object: KubeObject): string | undefined {
  return (
    badMetadata(object.metadata) ??
    firstOf(
      templatesOf(object).map(
        ({ template }) =>
          () =>
            badTemplate(template),
      ),
    )
  );
}

const badTemplate = ({ metadata = {}, spec }: Template): string | undefined =>
  badMetadata(metadata) ??
  badVolumes(spec) ??
  firstOf([...list(spec.containers), ...list(spec.initContainers)].map((one) => () => badContainer(one)));

function badMetadata({ labels = {}, annotations = {} }: KubeObject["metadata"]): string | undefined {
  const label = Object.entries(labels).find(([key, value]) => !NAME.test(key) || !LABEL_VALUE.test(value));
  if (label !== undefined) return `label ${label.join("=")}`;
  const bytes = Object.entries(annotations).reduce((sum, [key, value]) => sum + Buffer.byteLength(key + value), 0);
  const named = Object.keys(annotations).find((key) => !NAME.test(key));
  if (named !== undefined) return `annotation ${named}`;
  return bytes > MOST_ANNOTATION_BYTES ? `${bytes} bytes of annotations` : undefined;
}

function badVolumes(spec: Template["spec"]): string | undefined {
  const names = list(spec.volumes).map(({ name }) => name);
  const gates = list(spec.schedulingGates).map(({ name }) => name);
  const double = twice(names) ?? twice(gates) ?? twice(list(spec.containers).map(({ name }) => name));
  if (double !== undefined) return `two called ${JSON.stringify(double)}`;
  const wrong = names.find((name) => !DNS_LABEL.test(String(name)));
  if (wrong !== undefined) return `volume ${JSON.stringify(wrong)}`;
  const mounted = list(spec.containers).flatMap(({ volumeMounts }) => list(volumeMounts).map(({ name }) => name));
  const unknown = mounted.find((name) => !names.includes(name));
  return unknown === undefined ? undefined : `mount of volume ${JSON.stringify(unknown)}`;
}

function badContainer({ env, volumeMounts, ports, args, resources }: JsonObject): string | undefined {
  const double =
    twice(list(volumeMounts).map(({ mountPath }) => mountPath)) ?? twice(list(env).map(({ name }) => name));
  if (double !== undefined) return `${JSON.stringify(double)} twice`;
  const both = list(env).find(({ value, valueFrom }) => (value ?? "") !== "" && valueFrom !== undefined);
  if (both !== undefined) return `value and valueFrom of ${String(both["name"])}`;
  if (list(args).some((word) => typeof word !== "string")) return "an argument that is no text";
  if (list(ports).some(({ containerPort }) => !(Number(containerPort) > 0 && Number(containerPort) < 65536)))
    return "a port";
  return unequal(isObject(resources) ? resources : {});
}

/** Extended resources: limits must be there, and requests equal to them. */
function unequal({ limits, requests }: JsonObject): string | undefined {
  const asked = Object.entries(isObject(requests) ? requests : {}).filter(([name]) => name.includes("/"));
  const wrong = asked.find(([name, value]) => !isObject(limits) || String(limits[name]) !== String(value));
  return wrong === undefined ? undefined : `requests of ${wrong[0]} differ from limits`;
}
