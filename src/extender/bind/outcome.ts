/** What may be bound, and what the API server's answer to a binding means. Pure. */
import { lackingRoom, questionOf } from "../question.ts";
import type { ClusterView } from "../view.ts";
import { hasEnded } from "../../gang/devices.ts";
import { KubeError } from "../../kinds/kube-error.ts";
import type { KubeObject, Pod } from "../../kinds/kube.ts";
import { allowed, denied, type Verdict } from "../../kinds/verdict.ts";

/** `ExtenderBindingArgs`: one incarnation of a pod, and the node that the scheduler chose. */
export interface Binding {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
}

/** What is known of a pod's binding: `gone` also where another incarnation has its name. */
export type Standing =
  { readonly kind: "gone" } | { readonly kind: "unbound" } | { readonly kind: "bound"; readonly node: string };

/** By the pod as the API server has it. */
export function standingOf(object: KubeObject | undefined, uid: string): Standing {
  if (object === undefined || object.metadata.uid !== uid || hasEnded(object as Pod)) return { kind: "gone" };
  const node = (object as Pod).spec.nodeName ?? "";
  return node === "" ? { kind: "unbound" } : { kind: "bound", node };
}

/** Why the node has no room for the pod beside what is bound to it, kept there and being bound there; or undefined. */
export const roomRefusal = (pod: Pod, node: string, view: ClusterView): Verdict | undefined =>
  lackingRoom(node, questionOf(pod, view), view.ledger);

/**
 * What came of a call that failed. `conflict`: the pod is bound already, or on its way out; it has to be read. `gone`: so is
 * the pod. `refused`: this call did nothing. `unknown`: it may have been done, whatever was heard: without an answer, and with one of 500 and
 * above, behind which etcd may have stored the binding all the same.
 */
export type Failure = "conflict" | "gone" | "refused" | "unknown";

export function failureOf(error: unknown): Failure {
  const status = error instanceof KubeError ? error.status : 0;
  if (status === 409) return "conflict";
  if (status === 404) return "gone";
  return status >= 400 && status < 500 ? "refused" : "unknown";
}

const about = ({ namespace, name }: Binding): string => `${namespace}/${name}`;
const rest = (binding: Binding): { subject: string } => ({ subject: binding.node });

export const bound = (binding: Binding): Verdict =>
  allowed("PodBound", `${about(binding)} is bound to ${binding.node}`, rest(binding));

export const boundElsewhere = (binding: Binding, node: string): Verdict =>
  denied("BindElsewhere", `${about(binding)} is bound to ${node}, not to ${binding.node}`, rest(binding));

export const gone = (binding: Binding): Verdict =>
  denied("BindRefused", `${about(binding)} of uid ${binding.uid} is gone`, rest(binding));

export const refused = (binding: Binding, error: unknown): Verdict =>
  denied("BindRefused", `${about(binding)}: ${(error as Error).message}`, rest(binding));

export const leaving = (binding: Binding): Verdict =>
  denied("BindRefused", `${about(binding)} is on its way out`, rest(binding));

export const unknown = (binding: Binding, node: string): Verdict =>
  denied("BindUnknown", `whether ${about(binding)} was bound to ${node} is not known yet`, rest(binding));

export const late = (binding: Binding): Verdict =>
  denied("BindUnknown", `the binding of ${about(binding)} was not confirmed in time`, rest(binding));

export const busy = (binding: Binding): Verdict =>
  denied("BindBusy", `too many bindings wait for ${binding.node}`, rest(binding));
