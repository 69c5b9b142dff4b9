/**
 * The operator's policy: what the workloads of a namespace may ask for, whatever says it: their own keys, the defaults on
 * their Namespace, or what is read off their template.
 *
 * Every rule whose selector matches binds, in no order, so that a further rule can only narrow. A namespace that no rule
 * matches is not bound; a rule without a selector binds all. Rules never change an object: they deny.
 */
import type { PolicyRule } from "../config/schema.ts";
import { globMatches } from "../kinds/glob.ts";
import { annotationOf, type LabelSelector } from "../kinds/kube.ts";
import {
  ANNOTATION,
  AUTOSCALING_PREFIX,
  AUTOSCALING_STATUS,
  LABEL,
  PREFIX,
  ROUTING_PREFIX,
  STATUS,
} from "../kinds/names.ts";
import { NAMESPACE_LABEL, namespaceLabels, selectorMatches } from "../kinds/selector.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { readIntent } from "../workload/intent.ts";
import {
  acceleratorsOf,
  countOf,
  modelsOf,
  modesOf,
  originOf,
  queuesOf,
  schedulersOf,
  servedOf,
  type Asked,
  type Claim,
} from "./asks.ts";

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
/** Without the first two nothing is a workload of Tandem's; the others it writes itself. */
const ALWAYS: readonly string[] = [
  ...[LABEL.model, LABEL.role, LABEL.instance, LABEL.nodeRank, LABEL.entry],
  ...Object.values(AUTOSCALING_STATUS),
];

/** On Pods stand the labels of the service, given or not. */
const isDefault = ({ object, spec }: Claim, key: string): boolean =>
  object.kind === "Pod" &&
  ((key === LABEL.group && spec.group === spec.model) || (key === LABEL.cell && spec.cell === "0"));

interface Found {
  readonly key: string;
  /** Where it stands, for messages. */
  readonly of: string;
}

/** The keys of the contract that are set, each with where it stands. */
function keysOf(claim: Claim): readonly Found[] {
  const { object, namespace } = claim;
  const { labels, annotations } = object.metadata;
  const intent = object.kind === "Pod" ? readIntent(annotationOf(object, STATUS.intent)) : {};
  const here = Object.keys({ ...labels, ...annotations, ...intent }).map((key) => ({
    key,
    of: originOf(claim, key) ?? "",
  }));
  const defaults = Object.keys(namespace?.metadata.annotations ?? {}).map((key) => ({
    key,
    of: "set on the Namespace",
  }));
  return [...here, ...defaults].filter(({ key }) => OURS.some((prefix) => key.startsWith(prefix)));
}

function keyDenials(rule: PolicyRule, claim: Claim): Verdict[] {
  const { keys, deniedKeys } = rule;
  return keysOf(claim)
    .filter(({ key }) => !ALWAYS.includes(key) && !isDefault(claim, key))
    .flatMap(({ key, of }) => {
      if (deniedKeys !== undefined && fits(deniedKeys, key))
        return [refusal(rule, key, `${key} (${of}) may not be set`, `all but ${deniedKeys.join(", ")}`)];
      if (keys === undefined || fits(keys, key)) return [];
      return [refusal(rule, key, `${key} (${of}) may not be set`, keys.join(", "))];
    });
}

type Bound = readonly [
  key: string,
  allowed: (rule: PolicyRule) => readonly string[] | undefined,
  asked: (claim: Claim) => readonly Asked[],
];

const BOUNDS: readonly Bound[] = [
  [ANNOTATION.mode, ({ modes }) => modes, modesOf],
  [ANNOTATION.queue, ({ queues }) => queues, queuesOf],
  [LABEL.model, ({ models }) => models, modelsOf],
  [ANNOTATION.servedModel, ({ servedModels }) => servedModels, servedOf],
  [ANNOTATION.accelerator, ({ accelerators }) => accelerators, acceleratorsOf],
  [ANNOTATION.scheduler, ({ schedulers }) => schedulers, schedulersOf],
];

const valueDenials = (rule: PolicyRule, claim: Claim): Verdict[] =>
  BOUNDS.flatMap(([key, allowedBy, askedBy]) => {
    const allowed = allowedBy(rule);
    if (allowed === undefined) return [];
    return askedBy(claim)
      .filter(({ value }) => !fits(allowed, value))
      .map(({ value, from }) =>
        refusal(rule, key, `${key}: "${shown(value)}" (${from}) is not allowed`, allowed.join(", ")),
      );
  });

function countDenials(rule: PolicyRule, claim: Claim): Verdict[] {
  const most = rule.maxAcceleratorsPerPod;
  const { count, from } = countOf(claim);
  if (most === undefined || count <= most) return [];
  const key = ANNOTATION.acceleratorsPerPod;
  return [refusal(rule, key, `${key}: ${count} (${from}) is not allowed`, `up to ${most}`)];
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
