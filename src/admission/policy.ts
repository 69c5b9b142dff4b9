/**
 * The operator's policy: what the workloads of a namespace may ask for, whatever says it: their own keys, the defaults on
 * their Namespace, or what is read off their template.
 *
 * Every rule whose selector matches binds, in no order, so that a further rule can only narrow. A namespace that no rule
 * matches is not bound; a rule without a selector binds all. Rules never change an object: they deny.
 */
import type { PolicyRule } from "../config/schema.ts";
import { globMatches } from "../kinds/glob.ts";
import {
  annotationOf,
  type Container,
  type KubeObject,
  type LabelSelector,
  type Namespace,
  type PodTemplate,
} from "../kinds/kube.ts";
import { ANNOTATION, AUTOSCALING_PREFIX, LABEL, PREFIX, ROUTING_PREFIX, STATUS, VOLCANO } from "../kinds/names.ts";
import { NAMESPACE_LABEL, namespaceLabels, selectorMatches } from "../kinds/selector.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { deviceRequest, foreignRequest } from "../profiles/devices/request.ts";
import { readIntent } from "../workload/intent.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Settings } from "./stage.ts";

/** Who asks for what. */
export interface Claim {
  readonly spec: WorkloadSpec;
  /** Without what Tandem injected. */
  readonly object: KubeObject;
  readonly template: PodTemplate;
  readonly namespace: Namespace | undefined;
  readonly settings: Settings;
}

/** Denials of everything that a rule does not allow. */
export function checkPolicy(claim: Claim): readonly Verdict[] {
  const rules = claim.settings.policy.filter(({ namespaceSelector }) => binds(namespaceSelector, claim));
  return rules.flatMap((rule) => [
    ...keyDenials(rule, claim),
    ...valueDenials(rule, claim),
    ...countDenials(rule, claim),
  ]);
}

/** Of a Namespace that is not known only the name can be told: what else the selector asks for is taken as met. */
function binds(selector: PolicyRule["namespaceSelector"], { spec, namespace }: Claim): boolean {
  const labels = namespaceLabels(spec.namespace, namespace);
  return selectorMatches((namespace === undefined ? byName(selector) : selector) as LabelSelector, labels);
}

const byName = ({ matchLabels = {}, matchExpressions = [] }: PolicyRule["namespaceSelector"]): object => ({
  matchLabels: Object.fromEntries(Object.entries(matchLabels).filter(([key]) => key === NAMESPACE_LABEL)),
  matchExpressions: matchExpressions.filter(({ key }) => key === NAMESPACE_LABEL),
});

const fits = (patterns: readonly string[], value: string): boolean =>
  patterns.some((pattern) => globMatches(pattern, value));

const OURS = [PREFIX, AUTOSCALING_PREFIX, ROUTING_PREFIX];
/** Without the first two nothing is a workload of Tandem's; the others it writes to Pods itself. */
const ALWAYS: readonly string[] = [LABEL.model, LABEL.role, LABEL.instance, LABEL.nodeRank, LABEL.entry];

/** On Pods stand the labels of the service, given or not. */
const isDefault = ({ object, spec }: Claim, key: string): boolean =>
  object.kind === "Pod" &&
  ((key === LABEL.group && spec.group === spec.model) || (key === LABEL.cell && spec.cell === "0"));

interface Found {
  readonly key: string;
  /** For messages. */
  readonly of: string;
}

/** The keys of the contract that are set, each with where it stands. */
function keysOf({ object, namespace }: Claim): readonly Found[] {
  const { labels, annotations } = object.metadata;
  const intent = object.kind === "Pod" ? readIntent(annotationOf(object, STATUS.intent)) : {};
  const here = Object.keys({ ...labels, ...annotations, ...intent }).map((key) => ({ key, of: "" }));
  const defaults = Object.keys(namespace?.metadata.annotations ?? {}).map((key) => ({ key, of: " of the Namespace" }));
  return [...here, ...defaults].filter(({ key }) => OURS.some((prefix) => key.startsWith(prefix)));
}

function keyDenials(rule: PolicyRule, claim: Claim): Verdict[] {
  const { keys, deniedKeys } = rule;
  return keysOf(claim)
    .filter(({ key }) => !ALWAYS.includes(key) && !isDefault(claim, key))
    .flatMap(({ key, of }) => {
      if (deniedKeys !== undefined && fits(deniedKeys, key))
        return [refusal(rule, key, `${key}${of} may not be set`, `all but ${deniedKeys.join(", ")}`)];
      if (keys === undefined || fits(keys, key)) return [];
      return [refusal(rule, key, `${key}${of} may not be set`, keys.join(", "))];
    });
}

type Bound = readonly [
  key: string,
  allowed: (rule: PolicyRule) => readonly string[] | undefined,
  values: (claim: Claim) => readonly string[],
];

const some = (value: string): readonly string[] => (value === "" ? [] : [value]);

/** The scheduler that the pods will have: Tandem replaces the default one alone. */
function schedulerOf({ spec, template }: Claim): string {
  const given = template.spec.schedulerName ?? "default-scheduler";
  return given === "default-scheduler" && spec.scheduler === "volcano" ? VOLCANO.schedulerName : given;
}

/** Volcano takes the queue from Tandem's key or from its own, and puts a pod that names none into `default`. */
function queuesOf(claim: Claim): readonly string[] {
  const own = annotationOf(claim.template, VOLCANO.queueName) ?? "";
  const named = [...some(claim.spec.queue), ...some(own)];
  return named.length === 0 && schedulerOf(claim) === VOLCANO.schedulerName ? ["default"] : named;
}

/** The containers beside the engine's: what they ask for counts, wherever the contract points. */
const besides = ({ spec, template }: Claim): readonly Container[] =>
  [...template.spec.containers, ...(template.spec.initContainers ?? [])].filter(({ name }) => name !== spec.container);

/** A device that no profile knows is bound by the name of its resource. */
function acceleratorsOf(claim: Claim): readonly string[] {
  const { spec, template, settings } = claim;
  const devices = configuredDevices(settings);
  const container = template.spec.containers.find(({ name }) => name === spec.container);
  const foreign = container === undefined ? undefined : foreignRequest(container, devices);
  const others = besides(claim).flatMap(
    (one) => deviceRequest(one, devices)?.device.name ?? foreignRequest(one, devices) ?? [],
  );
  return [...(foreign === undefined ? some(spec.accelerator) : [foreign]), ...others];
}

/** Devices of all containers together; of the engine's, what it asks for or what its sizes come to. */
function countOf(claim: Claim): number {
  const { spec, template, settings } = claim;
  const asked = (one: Container | undefined): number =>
    one === undefined ? 0 : (deviceRequest(one, configuredDevices(settings))?.count ?? 0);
  const engine = template.spec.containers.find(({ name }) => name === spec.container);
  return besides(claim).reduce((sum, one) => sum + asked(one), Math.max(spec.acceleratorsPerPod, asked(engine)));
}

const BOUNDS: readonly Bound[] = [
  [ANNOTATION.mode, ({ modes }) => modes, ({ spec }) => [spec.mode]],
  [ANNOTATION.queue, ({ queues }) => queues, queuesOf],
  [LABEL.model, ({ models }) => models, ({ spec }) => [spec.model]],
  [ANNOTATION.servedModel, ({ servedModels }) => servedModels, ({ spec }) => spec.served],
  [ANNOTATION.accelerator, ({ accelerators }) => accelerators, acceleratorsOf],
  [ANNOTATION.scheduler, ({ schedulers }) => schedulers, (claim) => [schedulerOf(claim)]],
];

const valueDenials = (rule: PolicyRule, claim: Claim): Verdict[] =>
  BOUNDS.flatMap(([key, allowedBy, valuesOf]) => {
    const allowed = allowedBy(rule);
    if (allowed === undefined) return [];
    return valuesOf(claim)
      .filter((value) => !fits(allowed, value))
      .map((value) => refusal(rule, key, `${key}: "${shown(value)}" is not allowed`, allowed.join(", ")));
  });

function countDenials(rule: PolicyRule, claim: Claim): Verdict[] {
  const most = rule.maxAcceleratorsPerPod;
  const count = countOf(claim);
  if (most === undefined || count <= most) return [];
  const key = ANNOTATION.acceleratorsPerPod;
  return [refusal(rule, key, `${key}: ${count} is not allowed`, `up to ${most}`)];
}

/** Longest value and list that a message repeats. */
const SHOWN = 60;
const SHOWN_LIST = 300;
const shown = (text: string, most = SHOWN): string => (text.length > most ? `${text.slice(0, most)}...` : text);

/** Names the rule, so that the operator who is asked finds it. */
const refusal = ({ name }: PolicyRule, subject: string, what: string, allowed: string): Verdict =>
  denied("PolicyForbids", `${what} in this namespace; policy ${name} allows ${shown(allowed, SHOWN_LIST) || "none"}`, {
    subject,
  });
