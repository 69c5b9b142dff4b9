/**
 * Whether a value is a pod template as far as anybody reads it: decoded once at the edge, so that no reader has to doubt
 * what its type says. The API server sends nothing else; a file given to a command may hold anything.
 */
import { isObject, type PodTemplate } from "../kinds/kube.ts";

type Test = (value: unknown) => boolean;

const isText: Test = (value) => typeof value === "string";
const isNumber: Test = (value) => typeof value === "number";
const isFlag: Test = (value) => typeof value === "boolean";
const isAbsent = (value: unknown): boolean => value === undefined || value === null;

/** Null is an absent key, as an empty key of a YAML file. */
const maybe =
  (test: Test): Test =>
  (value) =>
    isAbsent(value) || test(value);
const listOf =
  (test: Test): Test =>
  (value) =>
    Array.isArray(value) && value.every(test);
const mapOf =
  (test: Test): Test =>
  (value) =>
    isObject(value) && Object.values(value).every(test);
/** An object whose named keys are as they should be; others are nobody's business here. */
const shape = (keys: Readonly<Record<string, Test>>): Test => {
  const tests = Object.entries(keys);
  return (value) => isObject(value) && tests.every(([key, test]) => test(value[key]));
};

/** Remembers the answer for each object, which never changes: a template is looked up a dozen times in one review. */
const once = (test: Test): Test => {
  const known = new WeakMap<object, boolean>();
  return (value) => {
    if (typeof value !== "object" || value === null) return test(value);
    const found = known.get(value) ?? test(value);
    known.set(value, found);
    return found;
  };
};

/** A quantity is written as text or as a number. */
const quantities = maybe(mapOf((value) => isText(value) || isNumber(value)));
const texts = maybe(listOf(isText));
const textMap = maybe(mapOf(isText));

const container = shape({
  name: isText,
  image: maybe(isText),
  command: texts,
  args: texts,
  // On its own: stages change other fields of a container that may have 70,000 variables.
  env: maybe(once(listOf(shape({ name: isText, value: maybe(isText), valueFrom: maybe(isObject) })))),
  envFrom: maybe(listOf(isObject)),
  ports: maybe(listOf(shape({ name: maybe(isText), containerPort: maybe(isNumber) }))),
  volumeMounts: maybe(listOf(shape({ name: maybe(isText), mountPath: isText }))),
  resources: maybe(shape({ limits: quantities, requests: quantities })),
});

const containers = listOf(once(container));

const terms = (test: Test): Test =>
  maybe(
    shape({
      requiredDuringSchedulingIgnoredDuringExecution: maybe(test),
      preferredDuringSchedulingIgnoredDuringExecution: maybe(listOf(isObject)),
    }),
  );

const podSpec = shape({
  containers: (value) => containers(value) && (value as unknown[]).length > 0,
  initContainers: maybe(containers),
  schedulerName: maybe(isText),
  runtimeClassName: maybe(isText),
  nodeSelector: textMap,
  affinity: maybe(
    shape({ nodeAffinity: terms(isObject), podAffinity: terms(listOf(isObject)), podAntiAffinity: maybe(isObject) }),
  ),
  tolerations: maybe(listOf(isObject)),
  volumes: maybe(listOf(shape({ name: isText }))),
  schedulingGates: maybe(listOf(shape({ name: isText }))),
  hostNetwork: maybe(isFlag),
  enableServiceLinks: maybe(isFlag),
  terminationGracePeriodSeconds: maybe(isNumber),
});

const template = once(shape({ metadata: maybe(shape({ labels: textMap, annotations: textMap })), spec: podSpec }));

/** Narrow enough to be walked: named containers, and every field that is read is what its type says. */
export const isTemplate = (value: unknown): value is PodTemplate => template(value);
