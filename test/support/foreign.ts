/** What other mutating webhooks do to a pod template or a Pod: additions, each of them made once. */
import fc from "fast-check";
import type { Container, KubeObject, PodTemplate } from "../../src/kinds/kube.ts";
import { templatesOf } from "../../src/workload/template.ts";

/** A change of one template; done again it changes nothing. */
type Addition = (template: PodTemplate) => PodTemplate;

interface Named {
  readonly name: string;
}

const with_ = <T extends Named>(list: readonly T[] | undefined, item: T, first = false): T[] => {
  if (list?.some(({ name }) => name === item.name) === true) return [...list];
  return first ? [item, ...(list ?? [])] : [...(list ?? []), item];
};

const inSpec =
  (change: (spec: PodTemplate["spec"]) => object): Addition =>
  (template) => ({ ...template, spec: { ...template.spec, ...change(template.spec) } });

/** Of the engine alone: what comes to every container would come to sidecars that are added later, at the second call. */
const inEngine = (change: (container: Container) => object): Addition =>
  inSpec(({ containers }) => ({
    containers: containers.map((one) => (one.name === "engine" ? { ...one, ...change(one) } : one)),
  }));

const inMetadata = (key: "labels" | "annotations", entries: Record<string, string>): Addition =>
  ((template) => ({
    ...template,
    metadata: { ...template.metadata, [key]: { ...template.metadata?.[key], ...entries } },
  })) satisfies Addition;

const proxy = { name: "istio-proxy", image: "istio/proxyv2", args: ["proxy", "sidecar"] };

/** Each as a known webhook does it: Istio, HAMi, Kueue, secret injectors, tracing agents. */
const ADDITIONS: Readonly<Record<string, Addition>> = {
  sidecar: inSpec(({ containers }) => ({ containers: with_(containers, proxy) })),
  sidecarFirst: inSpec(({ containers }) => ({ containers: with_(containers, proxy, true) })),
  nativeSidecar: inSpec(({ initContainers }) => ({
    initContainers: with_(initContainers, { ...proxy, restartPolicy: "Always" }, true),
  })),
  variable: inEngine(({ env }) => ({ env: with_(env, { name: "HAMI_UUID", value: "u" }) })),
  variableFirst: inEngine(({ env }) => ({ env: with_(env, { name: "OTEL_SERVICE_NAME", value: "s" }, true) })),
  volume: inSpec(({ volumes }) => ({ volumes: with_(volumes, { name: "istio-envoy", emptyDir: {} }) })),
  volumeFirst: inSpec(({ volumes }) => ({ volumes: with_(volumes, { name: "vault", emptyDir: {} }, true) })),
  gate: inSpec(({ schedulingGates }) => ({
    schedulingGates: with_(schedulingGates, { name: "kueue.x-k8s.io/admission" }),
  })),
  priority: inSpec(({ priorityClassName }) => ({ priorityClassName: priorityClassName ?? "from-kueue" })),
  nodeSelector: inSpec(({ nodeSelector }) => ({ nodeSelector: { ...nodeSelector, "example.com/pool": "p" } })),
  annotation: inMetadata("annotations", { "sidecar.istio.io/status": "{}" }),
  label: inMetadata("labels", { "security.istio.io/tlsMode": "istio" }),
};

/** HAMi's scheduler takes over Pods that nobody else schedules. */
const ON_PODS: Readonly<Record<string, Addition>> = {
  ...ADDITIONS,
  scheduler: inSpec(({ schedulerName = "default-scheduler" }) => ({
    schedulerName: schedulerName === "default-scheduler" ? "hami-scheduler" : schedulerName,
  })),
};

/** Replaces one of an object's templates; the object itself, where it is a Pod. */
function replaced(root: object, path: readonly string[], value: object): object {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  return { ...root, [key]: replaced((root as Record<string, object>)[key] ?? {}, rest, value) };
}

export type Mutator = <T extends KubeObject>(object: T) => T;

/** One to five additions, to every template of a workload or to a Pod. */
const mutatorsOf = (additions: Readonly<Record<string, Addition>>): fc.Arbitrary<Mutator> =>
  fc.uniqueArray(fc.constantFrom(...Object.keys(additions)), { minLength: 1, maxLength: 5 }).map((names) => {
    const change: Addition = (template) => names.reduce((all, name) => (additions[name] as Addition)(all), template);
    const mutate = <T extends KubeObject>(object: T): T =>
      templatesOf(object).reduce<object>(
        (all, { path, template }) => replaced(all, path, change(template)),
        object,
      ) as T;
    return Object.assign(mutate, { toString: () => names.join() });
  });

export const mutators = mutatorsOf(ADDITIONS);
export const podMutators = mutatorsOf(ON_PODS);
