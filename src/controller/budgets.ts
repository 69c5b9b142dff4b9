/**
 * `tandem.sh/disruption: budget`: a PodDisruptionBudget for each such workload, where no other one selects its pods.
 *
 * One pod may be away at a time. A percentage or the minimum viable set would let a drain take capacity that serves, or
 * hold it up for ever once replicas are at the minimum; one pod never does either. In an instance over several pods the
 * rest of the members is replaced with the evicted one, and the budget lets nothing more go until all of them are back.
 */
import { keyOf, labelOf, type KubeObject, type LabelSelector, type Workload } from "../kinds/kube.ts";
import { OWNERSHIP } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { selectorMatches } from "../kinds/selector.ts";
import { changed } from "../kinds/verdict.ts";
import { workloadObjectName } from "../workload/cell.ts";
import { templateOf } from "../workload/template.ts";
import type { Action } from "./action.ts";
import type { Acts, Contract, Contracts } from "./contracts.ts";
import { isApplied, ownedMeta, sealed } from "./owned.ts";

export interface BudgetFacts {
  /** All that are known; undefined where they are not watched, and then nothing is done. */
  readonly budgets: readonly KubeObject[] | undefined;
  readonly contracts: Contracts;
  readonly acts: Acts;
}

export function budgetActions({ budgets, contracts, acts }: BudgetFacts): readonly Action[] {
  if (budgets === undefined) return [];
  const foreign = budgets.filter((budget) => !isOurs(budget));
  const wanted = contracts.all.flatMap((contract) =>
    contracts.guard("budgets", contract.workload, () =>
      wants(contract, foreign) ? [{ contract, object: budgetOf(contract) }] : [],
    ),
  );
  const stored = new Map(budgets.filter(isOurs).map((budget) => [keyOf(budget), budget]));
  const kept = new Set(wanted.map(({ object }) => keyOf(object)));
  const stale = [...stored.values()].filter((budget) => {
    const { namespace = "default", deletionTimestamp } = budget.metadata;
    return (
      !kept.has(keyOf(budget)) &&
      deletionTimestamp === undefined &&
      acts(namespace) &&
      !contracts.unclear.has(namespace)
    );
  });
  return [
    // First: the eviction API refuses pods that two budgets select.
    ...stale.map(remove),
    ...wanted.filter(({ object }) => !isApplied(stored.get(keyOf(object)), object)).map(apply),
  ];
}

const isOurs = (budget: KubeObject): boolean => labelOf(budget, OWNERSHIP.label) === OWNERSHIP.value;

function wants({ spec, workload }: Contract, foreign: readonly KubeObject[]): boolean {
  if (spec.disruption !== "budget" || spec.mode === "observe" || selectorOf(workload) === undefined) return false;
  const labels = { ...templateOf(workload)?.template.metadata?.labels, ...selectorOf(workload)?.matchLabels };
  return !foreign.some((budget) => {
    const selector = (budget["spec"] as { selector?: LabelSelector } | undefined)?.selector;
    return (
      (budget.metadata.namespace ?? "default") === spec.namespace &&
      selector !== undefined &&
      selectorMatches(selector, labels)
    );
  });
}

/** The workload's own selector: it counts pods that no label of ours reaches. A LeaderWorkerSet has a label for its pods. */
function selectorOf({ kind, metadata, spec }: Workload): LabelSelector | undefined {
  if (kind !== "LeaderWorkerSet") return spec.selector;
  return { matchLabels: { [LWS_NAME]: metadata.name ?? "" } };
}

const LWS_NAME = "leaderworkerset.sigs.k8s.io/name";

function budgetOf(contract: Contract): KubeObject {
  const { spec, workload } = contract;
  return sealed({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: ownedMeta(workloadObjectName(spec), [contract]),
    spec: { maxUnavailable: 1, selector: selectorOf(workload) },
  });
}

interface Wanted {
  readonly contract: Contract;
  readonly object: KubeObject;
}

const apply = ({ contract, object }: Wanted): Action => ({
  do: "apply",
  key: `budget/${keyOf(object)}`,
  verdict: changed("BudgetApplied", `PodDisruptionBudget ${keyOf(object)}: one pod may be away`, {
    subject: keyOf(object),
  }),
  about: [contract.workload],
  object,
});

const remove = (budget: KubeObject): Action => ({
  do: "remove",
  key: `budget/${keyOf(budget)}`,
  verdict: changed("BudgetRemoved", `PodDisruptionBudget ${keyOf(budget)}: not wanted, or another selects its pods`, {
    subject: keyOf(budget),
  }),
  about: [],
  kind: "PodDisruptionBudget",
  ref: refOf(budget),
  uid: budget.metadata.uid,
});
