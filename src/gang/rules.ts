/**
 * Whether a pod may join its neighbours on a node, judged as kube-scheduler's filters InterPodAffinity, PodTopologySpread
 * and NodePorts judge it: pods that stand count, and so do those that the plan has placed already.
 */
import type { Node, Pod } from "../kinds/kube.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import {
  constraintsOf,
  namespaceOf,
  portsCollide,
  selects,
  termMatches,
  type Constraints,
  type HostPort,
  type Spread,
  type Term,
} from "./constraints.ts";
import type { Room } from "./devices.ts";
import { selectsNode, toleratesNode } from "./fit.ts";
import { place, type Neighbours, type Question } from "./neighbours.ts";

/** What keeps the pod off the node, in words; undefined where nothing does. */
type Check = (node: Node) => string | undefined;

/** The rules for these pods in this room; undefined where nothing of the kind is to be minded. */
export function rulesFor(pods: readonly Pod[], room: Room): Rules | undefined {
  const { neighbours } = room;
  if (neighbours === undefined) return undefined;
  const placed = [...(room.placed?.() ?? [])];
  const constrained = [...pods, ...placed.map(({ pod }) => pod)].some((pod) => constraintsOf(pod) !== undefined);
  if (!constrained && !neighbours.repels) return undefined;
  const rules = new Rules(pods, neighbours);
  for (const { pod, node } of placed) rules.place(pod, node);
  return rules;
}

/** The verdict on a node that the pod may not share with its neighbours. */
export function neighbourVerdict(pod: Pod, node: string, rules: Rules | undefined): Verdict | undefined {
  const objection = rules?.objection(pod, node);
  return objection === undefined
    ? undefined
    : denied("NodeConflicts", `${objection} keeps it off the node`, { subject: node });
}

export class Rules {
  readonly #neighbours: Neighbours;
  readonly #counts = new Map<string, Count>();
  readonly #ports = new Map<string, HostPort[]>();
  readonly #checks: ReadonlyMap<Pod, readonly Check[]>;

  constructor(pods: readonly Pod[], neighbours: Neighbours) {
    this.#neighbours = neighbours;
    const repels = neighbours.repels || pods.some((pod) => (constraintsOf(pod)?.apart.length ?? 0) > 0);
    this.#checks = new Map(pods.map((pod) => [pod, this.#checksOf(pod, repels)]));
  }

  /** Why the pod may not go to the node. */
  objection(pod: Pod, name: string): string | undefined {
    const node = this.#neighbours.node(name);
    if (node === undefined) return undefined;
    for (const check of this.#checks.get(pod) ?? []) {
      const found = check(node);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The pod is placed there, and counts from now on. */
  place(pod: Pod, name: string): void {
    const node = this.#neighbours.node(name);
    const ports = constraintsOf(pod)?.ports ?? [];
    if (ports.length > 0) this.#ports.set(name, [...(this.#ports.get(name) ?? []), ...ports]);
    if (node !== undefined) for (const count of this.#counts.values()) count.add(pod, node);
  }

  #checksOf(pod: Pod, repels: boolean): readonly Check[] {
    const constraints = constraintsOf(pod);
    const checks = constraints === undefined ? [] : this.#ownChecks(pod, constraints);
    return repels ? [...checks, this.#repelled(pod)] : checks;
  }

  #ownChecks(pod: Pod, { affinity, apart, spread, ports }: Constraints): Check[] {
    return [
      ...(ports.length > 0 ? [this.#freePorts(ports)] : []),
      ...(affinity.length > 0 ? [this.#attracted(pod, affinity)] : []),
      ...(apart.length > 0 ? [this.#apart(apart)] : []),
      ...spread.map((one) => this.#spread(pod, one, spread)),
    ];
  }

  #count(question: Question): Count {
    const known = this.#counts.get(question.key) ?? new Count(question, this.#neighbours.count(question));
    this.#counts.set(question.key, known);
    return known;
  }

  #freePorts(ports: readonly HostPort[]): Check {
    return ({ metadata: { name = "" } }) => {
      const taken = [...this.#neighbours.ports(name), ...(this.#ports.get(name) ?? [])];
      return taken.some((one) => ports.some((port) => portsCollide(one, port)))
        ? "a host port that is taken"
        : undefined;
    };
  }

  /**
   * A pod counts only where all terms mean it. The first of a group that attracts itself may go to any node that has
   * the labels.
   */
  #attracted(pod: Pod, terms: readonly Term[]): Check {
    const { namespaceLabels } = this.#neighbours;
    const meant = (other: Pod): boolean => terms.every((term) => termMatches(term, other, namespaceLabels));
    const count = this.#count({
      key: `affinity ${textOf(terms)}`,
      contribution: (other, node) => (meant(other) ? terms.flatMap(({ key }) => place(node, key) ?? []) : []),
    });
    const self = meant(pod);
    return (node) => {
      const places = terms.map(({ key }) => place(node, key));
      if (places.every((one) => one !== undefined && count.of(one) > 0)) return undefined;
      return self && count.total === 0 && !places.includes(undefined) ? undefined : "its pod affinity";
    };
  }

  #apart(terms: readonly Term[]): Check {
    const { namespaceLabels } = this.#neighbours;
    const count = this.#count({
      key: `apart ${textOf(terms)}`,
      contribution: (other, node) =>
        terms.flatMap((term) => (termMatches(term, other, namespaceLabels) ? (place(node, term.key) ?? []) : [])),
    });
    return (node) => (terms.some(({ key }) => count.of(place(node, key)) > 0) ? "its pod anti-affinity" : undefined);
  }

  /** Anti-affinity of the others binds in both directions. */
  #repelled(pod: Pod): Check {
    const { namespaceLabels } = this.#neighbours;
    const count = this.#count({
      key: `repelled ${JSON.stringify([namespaceOf(pod), pod.metadata.labels ?? {}])}`,
      contribution: (other, node) =>
        (constraintsOf(other)?.apart ?? []).flatMap((term) =>
          termMatches(term, pod, namespaceLabels) ? (place(node, term.key) ?? []) : [],
        ),
    });
    return (node) => {
      for (const key of count.keys) if (count.of(place(node, key)) > 0) return "another pod's anti-affinity";
      return undefined;
    };
  }

  #spread(pod: Pod, spread: Spread, all: readonly Spread[]): Check {
    const { key, selector, maxSkew, minDomains } = spread;
    const counts = (node: Node): boolean =>
      all.every((one) => place(node, one.key) !== undefined) &&
      (!spread.honorAffinity || selectsNode(pod, node)) &&
      (!spread.honorTaints || toleratesNode(pod, node));
    const count = this.#count({
      key: `spread ${spreadKey(pod, spread, all)}`,
      names: (nodes) => [...nodes].flatMap((node) => (counts(node) ? (place(node, key) ?? []) : [])),
      contribution: (other, node) =>
        selects(selector, other) &&
        namespaceOf(other) === namespaceOf(pod) &&
        other.metadata.deletionTimestamp === undefined &&
        counts(node)
          ? [place(node, key) ?? ""]
          : [],
    });
    const self = selects(selector, pod) ? 1 : 0;
    return (node) => {
      const here = place(node, key);
      const emptiest = count.domains < minDomains ? 0 : count.least;
      return here === undefined || count.of(here) + self - emptiest > maxSkew ? "its topology spread" : undefined;
    };
  }
}

const textOf = (terms: readonly Term[]): string =>
  JSON.stringify(
    terms.map(({ key, selector, namespaces, namespaceSelector }) => [
      ...[key, selector ?? null, [...namespaces], namespaceSelector ?? null],
    ]),
  );

const spreadKey = (pod: Pod, spread: Spread, all: readonly Spread[]): string => {
  const { nodeSelector = {}, affinity, tolerations = [] } = pod.spec;
  const nodes = spread.honorAffinity ? [nodeSelector, affinity?.nodeAffinity ?? {}] : [];
  const keys = all.map(({ key }) => key);
  return JSON.stringify([spread, namespaceOf(pod), keys, nodes, spread.honorTaints ? tolerations : []]);
};

/** A question's count with what the plan has placed on top. */
class Count {
  readonly #question: Question;
  readonly #below: ReadonlyMap<string, number>;
  readonly #added = new Map<string, number>();
  #least: number | undefined;
  /** How many names have no more than the least. */
  #atLeast = 0;
  #total: number | undefined;
  #keys: ReadonlySet<string> | undefined;

  constructor(question: Question, below: ReadonlyMap<string, number>) {
    this.#question = question;
    this.#below = below;
  }

  of(name: string | undefined): number {
    return name === undefined ? 0 : (this.#below.get(name) ?? 0) + (this.#added.get(name) ?? 0);
  }

  #names(): readonly string[] {
    return [...new Set([...this.#below.keys(), ...this.#added.keys()])];
  }

  /** Node labels that the names are of. */
  get keys(): ReadonlySet<string> {
    this.#keys ??= new Set(this.#names().map((name) => name.slice(0, name.indexOf("\u0000"))));
    return this.#keys;
  }

  get domains(): number {
    return this.#below.size;
  }

  /** The count of the emptiest; without any name no limit binds. */
  get least(): number {
    if (this.#least !== undefined && this.#atLeast > 0) return this.#least;
    let least = Infinity;
    for (const name of this.#below.keys()) {
      const count = this.of(name);
      if (count < least) [least, this.#atLeast] = [count, 0];
      if (count === least) this.#atLeast += 1;
    }
    this.#least = least;
    return least;
  }

  get total(): number {
    this.#total ??= this.#names().reduce((sum, name) => sum + this.of(name), 0);
    return this.#total;
  }

  add(pod: Pod, node: Node): void {
    for (const name of this.#question.contribution(pod, node)) {
      if (this.of(name) === this.#least) this.#atLeast -= 1;
      this.#added.set(name, (this.#added.get(name) ?? 0) + 1);
      this.#total = undefined;
      this.#keys = undefined;
    }
  }
}
