/**
 * How many instances that serve may go at once, by the PodDisruptionBudgets of other people. Kubernetes itself asks no
 * budget when replicas are taken away; who writes one says how many pods the service can spare, and that is heeded here.
 *
 * Budgets that Tandem's controller makes are not read: they follow the replicas, and guard against evictions alone.
 */
import { isObject, labelOf, type KubeObject, type Pod } from "../../kinds/kube.ts";
import { OWNERSHIP } from "../../kinds/names.ts";
import { selectorMatches } from "../../kinds/selector.ts";

export interface Allowance {
  /** Infinity where no budget binds. */
  readonly instances: number;
  /** Name of the budget that binds most. */
  readonly by?: string;
}

const FREE: Allowance = { instances: Infinity };

/** `pods` are those of one workload, which all carry the labels of its template. */
export function allowanceOf(pods: readonly Pod[], nodesPerInstance: number, budgets: readonly KubeObject[]): Allowance {
  const binding = budgets.filter((budget) => isForeign(budget) && pods.some((pod) => selects(budget, pod)));
  return binding.reduce<Allowance>((least, budget) => {
    const instances = wholeInstances(disruptionsAllowed(budget), nodesPerInstance);
    return instances < least.instances ? { instances, by: budget.metadata.name ?? "" } : least;
  }, FREE);
}

const isForeign = (budget: KubeObject): boolean => labelOf(budget, OWNERSHIP.label) !== OWNERSHIP.value;

/** An empty selector selects every pod of the namespace, an absent one none (policy/v1). */
function selects(budget: KubeObject, { metadata }: Pod): boolean {
  const selector = isObject(budget["spec"]) ? budget["spec"]["selector"] : undefined;
  return (
    (budget.metadata.namespace ?? "default") === (metadata.namespace ?? "default") &&
    isObject(selector) &&
    selectorMatches(selector, metadata.labels)
  );
}

/** An instance goes whole with the first of its pods: one allowed disruption is one instance, however many pods it has. */
const wholeInstances = (disruptions: number, nodesPerInstance: number): number =>
  disruptions <= 0 ? 0 : Math.max(1, Math.floor(disruptions / nodesPerInstance));

/** 0 while the disruption controller has not looked at the budget as it is now. */
function disruptionsAllowed(budget: KubeObject): number {
  const status = isObject(budget["status"]) ? budget["status"] : {};
  const { disruptionsAllowed: allowed, observedGeneration } = status;
  const { generation } = budget.metadata;
  const isStale = typeof observedGeneration === "number" && generation !== undefined && observedGeneration < generation;
  return typeof allowed === "number" && !isStale ? allowed : 0;
}
