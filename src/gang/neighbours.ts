/**
 * Who stands where: the bound pods, as far as they decide where others may go.
 *
 * A question (how many pods that match this term are in each zone?) is counted once over all pods and then kept up to
 * date, pod by pod. So a plan that asks again after one binding pays for that binding, not for 100 000 pods; and
 * questions that nobody asks cost nothing.
 */
import { labelOf, type Namespace, type Node, type Pod, type StringMap } from "../kinds/kube.ts";
import { namespaceLabels } from "../kinds/selector.ts";
import { constraintsOf, type HostPort } from "./constraints.ts";

/** What one pod on one node adds to a count: names of what is counted. */
export type Contribution = (pod: Pod, node: Node) => readonly string[];

export interface Question {
  /** Questions of the same key are the same. */
  readonly key: string;
  readonly contribution: Contribution;
  /** Names that count although nothing stands there. */
  readonly names?: (nodes: Iterable<Node>) => Iterable<string>;
}

type Counts = Map<string, number>;

/** Questions kept at once: a cluster has some tens; each costs one look at each pod that comes or goes. */
const MAX_QUESTIONS = 256;

export class Neighbours {
  readonly #nodes = new Map<string, Node>();
  readonly #pods = new Set<Pod>();
  /** Pods with required anti-affinity. */
  readonly #repelling = new Set<Pod>();
  readonly #ports = new Map<string, Set<Pod>>();
  readonly #answers = new Map<string, { question: Question; counts: Counts }>();
  #namespaces: readonly Namespace[] = [];
  #labels = new Map<string, StringMap>();

  node(name: string): Node | undefined {
    return this.#nodes.get(name);
  }

  /** True where some pod keeps others away. */
  get repels(): boolean {
    return this.#repelling.size > 0;
  }

  /** Host ports of the pods on a node. */
  *ports(node: string): Iterable<HostPort> {
    for (const pod of this.#ports.get(node) ?? []) yield* constraintsOf(pod)?.ports ?? [];
  }

  readonly namespaceLabels = (name: string): StringMap => this.#labels.get(name) ?? namespaceLabels(name, undefined);

  /** What stands, by the question's names. Lives until the next change of the cluster. */
  count(question: Question): ReadonlyMap<string, number> {
    const known = this.#answers.get(question.key);
    if (known !== undefined) return known.counts;
    if (this.#answers.size >= MAX_QUESTIONS) this.#answers.clear();
    const counts: Counts = new Map();
    for (const name of question.names?.(this.#nodes.values()) ?? []) counts.set(name, 0);
    for (const pod of this.#pods) this.#add(pod, 1, { question, counts });
    this.#answers.set(question.key, { question, counts });
    return counts;
  }

  pod(pod: Pod, sign: 1 | -1): void {
    const constraints = constraintsOf(pod);
    change(this.#pods, pod, sign);
    if (constraints !== undefined && constraints.apart.length > 0) change(this.#repelling, pod, sign);
    if (constraints !== undefined && constraints.ports.length > 0) this.#port(pod, sign);
    for (const answer of this.#answers.values()) this.#add(pod, sign, answer);
  }

  #port(pod: Pod, sign: 1 | -1): void {
    const node = pod.spec.nodeName ?? "";
    const pods = this.#ports.get(node) ?? new Set();
    this.#ports.set(node, pods);
    change(pods, pod, sign);
  }

  #add(pod: Pod, sign: 1 | -1, { question, counts }: { question: Question; counts: Counts }): void {
    const node = this.#nodes.get(pod.spec.nodeName ?? "");
    if (node === undefined) return;
    for (const name of question.contribution(pod, node)) counts.set(name, (counts.get(name) ?? 0) + sign);
  }

  /** Nodes that left and came; heartbeats change no answer. */
  nodes(left: readonly Node[], came: readonly Node[]): void {
    const before = new Map(left.map((node) => [node.metadata.name ?? "", node]));
    const same = (node: Node): boolean => standing(before.get(node.metadata.name ?? "")) === standing(node);
    if (this.#answers.size > 0 && (left.length !== came.length || !came.every(same))) this.#answers.clear();
    for (const { metadata } of left) this.#nodes.delete(metadata.name ?? "");
    for (const node of came) this.#nodes.set(node.metadata.name ?? "", node);
  }

  namespaces(namespaces: readonly Namespace[]): void {
    if (namespaces === this.#namespaces) return;
    this.#namespaces = namespaces;
    this.#labels = new Map(
      namespaces.map((namespace) => {
        const name = namespace.metadata.name ?? "";
        return [name, namespaceLabels(name, namespace)];
      }),
    );
    this.#answers.clear();
  }
}

const change = <T>(set: Set<T>, item: T, sign: 1 | -1): void => {
  if (sign === 1) set.add(item);
  else set.delete(item);
};

/** What an answer may depend on. */
const standing = (node: Node | undefined): string =>
  node === undefined
    ? ""
    : JSON.stringify([node.metadata.labels ?? {}, node.spec?.taints ?? [], node.spec?.unschedulable ?? false]);

/** A name for one value of one node label; undefined where the node has not the label. */
export function place(node: Node, key: string): string | undefined {
  const value = labelOf(node, key);
  return value === undefined ? undefined : `${key}\u0000${value}`;
}
