/**
 * kube-scheduler's extender API, v1 (`k8s.io/kube-scheduler/extender/v1`): JSON with Go's field names, nulls present.
 *
 * Only the names form is served (`nodeCacheCapable: true` in the scheduler's configuration): with whole nodes a call at
 * 1000 nodes is 10 MB and holds the event loop for 90 ms, and the scheduler would score every node as empty
 * (kubernetes#141781).
 */
import { isObject, type Pod } from "../../kinds/kube.ts";
import { isTemplate } from "../../workload/template.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Binding } from "../bind/outcome.ts";
import type { Filtered, Scored } from "../decide.ts";
import type { Candidate, Preempted } from "../preempt.ts";

export interface ExtenderArgs {
  readonly pod: Pod;
  readonly nodeNames: readonly string[];
}

export interface ExtenderFilterResult {
  readonly Nodes: null;
  readonly NodeNames: readonly string[] | null;
  readonly FailedNodes: Readonly<Record<string, string>>;
  /** Those among the failed that evicting pods would not help. */
  readonly FailedAndUnresolvableNodes: Readonly<Record<string, string>>;
  readonly Error: string;
}

export interface HostPriority {
  readonly Host: string;
  readonly Score: number;
}

/** What is wrong with a call, for the caller. */
export class BadCall extends Error {}

/** The scheduler is configured to send whole Nodes: said in `Error`, which it shows, where it would drop a 400's text. */
export class WholeNodes extends BadCall {
  constructor() {
    super(
      "whole Nodes are not accepted: set nodeCacheCapable: true for this extender in kube-scheduler's configuration",
    );
  }
}

/** Names in one call; Kubernetes itself is built for 5000 nodes. */
const MAX_NODES = 50_000;

/** Decodes and bounds a call. Throws BadCall with the place and what is wanted. */
export function decodeArgs(body: unknown): ExtenderArgs {
  if (!isObject(body)) throw new BadCall("the body must be an object: ExtenderArgs");
  const [pod, names] = [body["Pod"], body["NodeNames"]];
  if (names === undefined || names === null)
    throw isObject(body["Nodes"]) ? new WholeNodes() : new BadCall("NodeNames is missing");
  if (!Array.isArray(names) || names.length > MAX_NODES)
    throw new BadCall(`NodeNames must be at most ${MAX_NODES} names`);
  if (!names.every((name) => typeof name === "string")) throw new BadCall("NodeNames must be strings");
  return { pod: decodePod(pod), nodeNames: names };
}

function decodePod(value: unknown): Pod {
  if (!isObject(value) || !isObject(value["metadata"]) || !isTemplate(value))
    throw new BadCall("Pod must be a v1 Pod with metadata and named containers");
  return { ...value, apiVersion: "v1", kind: "Pod", metadata: value["metadata"], spec: value.spec };
}

/** The reason first, so that it can be searched for in a pod's events. */
const textOf = ({ reason, message }: Verdict): string => `${reason}: ${message}`;

/**
 * The result as JSON text. Each refused node is in one of the two maps: kube-scheduler (1.21 and later) joins them. Of 5000
 * nodes most are refused, for few reasons: an object with as many keys would take 5 ms to make and to write, this takes 1.
 */
export function encodeFilterResult({ fit, refused, hopeless }: Filtered): string {
  const texts = new Map<Verdict, string>();
  let [failed, unresolvable] = ["", ""];
  for (const [node, verdict] of refused) {
    const text = texts.get(verdict) ?? JSON.stringify(textOf(verdict));
    texts.set(verdict, text);
    const field = `${JSON.stringify(node)}:${text}`;
    if (hopeless.has(node)) unresolvable += unresolvable === "" ? field : `,${field}`;
    else failed += failed === "" ? field : `,${field}`;
  }
  const names = JSON.stringify(fit);
  return `{"Nodes":null,"NodeNames":${names},"FailedNodes":{${failed}},"FailedAndUnresolvableNodes":{${unresolvable}},"Error":""}`;
}

/** The whole scheduling attempt of the pod fails with this message, and is made again. */
export const filterError = (message: string): ExtenderFilterResult => ({
  Nodes: null,
  NodeNames: null,
  FailedNodes: {},
  FailedAndUnresolvableNodes: {},
  Error: message,
});

export const priorities = (scores: readonly Scored[]): readonly HostPriority[] =>
  scores.map(({ host, score }) => ({ Host: host, Score: score }));

export interface ExtenderPreemptionArgs {
  readonly pod: Pod;
  readonly candidates: readonly Candidate[];
}

interface MetaVictims {
  readonly Pods: readonly { readonly UID: string }[];
  readonly NumPDBViolations: number;
}

export interface ExtenderPreemptionResult {
  readonly NodeNameToMetaVictims: Readonly<Record<string, MetaVictims>>;
}

/** The kubelet's default is 110 pods a node; the largest anybody runs is some 1000. */
const MAX_VICTIMS = 5000;

/** Decodes and bounds a call of either form: victims as uids (`nodeCacheCapable: true`), or as whole Pods. */
export function decodePreemption(body: unknown): ExtenderPreemptionArgs {
  if (!isObject(body)) throw new BadCall("the body must be an object: ExtenderPreemptionArgs");
  const nodes = body["NodeNameToMetaVictims"] ?? body["NodeNameToVictims"];
  if (!isObject(nodes)) throw new BadCall("NodeNameToMetaVictims or NodeNameToVictims is missing");
  const entries = Object.entries(nodes);
  if (entries.length > MAX_NODES) throw new BadCall(`victims must be of at most ${MAX_NODES} nodes`);
  return { pod: decodePod(body["Pod"]), candidates: entries.map(([node, victims]) => decodeVictims(node, victims)) };
}

function decodeVictims(node: string, value: unknown): Candidate {
  const pods = isObject(value) ? (value["Pods"] ?? []) : undefined;
  if (!isObject(value) || !Array.isArray(pods) || pods.length > MAX_VICTIMS)
    throw new BadCall(`the victims of a node must be an object with at most ${MAX_VICTIMS} Pods`);
  const found = value["NumPDBViolations"];
  return {
    node,
    victims: pods.map(decodeUid),
    violations: typeof found === "number" && Number.isSafeInteger(found) && found > 0 ? found : 0,
  };
}

function decodeUid(value: unknown): string {
  const uid = isObject(value)
    ? (value["UID"] ?? (isObject(value["metadata"]) ? value["metadata"]["uid"] : null))
    : null;
  if (typeof uid !== "string" || uid === "") throw new BadCall("every victim must have a UID");
  return uid;
}

export const preemptionResult = ({ kept }: Preempted): ExtenderPreemptionResult => ({
  NodeNameToMetaVictims: Object.fromEntries(
    kept.map(({ node, victims, violations }) => [
      node,
      { Pods: victims.map((UID) => ({ UID })), NumPDBViolations: violations },
    ]),
  ),
});

/** Names and uids of Kubernetes have 253 characters at most. */
const MAX_NAME = 253;

/** Decodes and bounds `ExtenderBindingArgs`. */
export function decodeBinding(body: unknown): Binding {
  if (!isObject(body)) throw new BadCall("the body must be an object: ExtenderBindingArgs");
  const text = (field: string): string => {
    const value = body[field];
    if (typeof value !== "string" || value === "" || value.length > MAX_NAME)
      throw new BadCall(`${field} must be a string of 1 to ${MAX_NAME} characters`);
    return value;
  };
  return { namespace: text("PodNamespace"), name: text("PodName"), uid: text("PodUID"), node: text("Node") };
}

export interface ExtenderBindingResult {
  /** Empty where the pod is bound; else the scheduler tries again. */
  readonly Error: string;
}

export const bindingResult = (verdict: Verdict): ExtenderBindingResult => ({
  Error: verdict.outcome === "allowed" ? "" : textOf(verdict),
});
