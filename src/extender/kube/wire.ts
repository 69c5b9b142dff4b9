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
import { BadCall } from "../bad-call.ts";
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

/** The scheduler is configured to send whole Nodes: said in `Error`, which it shows, where it would drop a 400's text. */
export class WholeNodes extends BadCall {
  override readonly status = 200;

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
 * nodes most are refused, for few reasons: an object with as many keys would take 5 ms to make and to write.
 */
export function encodeFilterResult({ fit, refused }: Filtered): string {
  const fields: Record<"failed" | "unresolvable", string[]> = { failed: [], unresolvable: [] };
  for (const [{ verdict, hopeless }, names] of refused)
    fields[hopeless ? "unresolvable" : "failed"].push(fieldsOf(names, JSON.stringify(textOf(verdict))));
  const [failed, unresolvable] = [fields.failed.join(), fields.unresolvable.join()];
  return `{"Nodes":null,"NodeNames":${JSON.stringify(fit)},"FailedNodes":{${failed}},"FailedAndUnresolvableNodes":{${unresolvable}},"Error":""}`;
}

const fieldsOf = (names: readonly string[], value: string): string => `${joined(names, `:${value},`)}:${value}`;

/** `"a"<between>"b"`. Inside a name a quote is escaped, so that `","` only ever separates two. */
const joined = (names: readonly string[], between: string): string =>
  JSON.stringify(names)
    .slice(1, -1)
    .replaceAll('","', () => `"${between}"`);

/** The whole scheduling attempt of the pod fails with this message, and is made again. */
export const filterError = (message: string): ExtenderFilterResult => ({
  Nodes: null,
  NodeNames: null,
  FailedNodes: {},
  FailedAndUnresolvableNodes: {},
  Error: message,
});

/** A list of HostPriority as JSON text, by score: the scheduler adds each to its node's, in any order. */
export function encodePriorities(scores: readonly Scored[]): string {
  const byScore = new Map<number, string[]>();
  for (const { host, score } of scores) {
    const names = byScore.get(score);
    if (names === undefined) byScore.set(score, [host]);
    else names.push(host);
  }
  const lists = [...byScore].map(
    ([score, names]) => `{"Host":${joined(names, `,"Score":${score}},{"Host":`)},"Score":${score}}`,
  );
  return `[${lists.join()}]`;
}

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
