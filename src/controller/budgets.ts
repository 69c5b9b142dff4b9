/**
 * `tandem.sh/disruption: budget`: a PodDisruptionBudget for each such workload, where no other one selects its pods.
 *
 * A budget carries one number. Which one, with 8 prefill pods of which the minimum viable set asks for 2:
 * - `minAvailable: 2`: a drain of three nodes may take 6 of 8 at once. It serves, with a quarter of its capacity.
 * - `maxUnavailable: 1`: one at a time; but of 2 replicas one goes as well, and the gang is broken.
 * - `minAvailable: 7`, and 2 of 2: one at a time, and none at the minimum. Where the controller is away while replicas
 *   change, it errs to the safe side: too few evictions after a scale-in, never fewer pods than the minimum.
 * So it is `minAvailable`, one pod less than there are, or all of them where the role can spare no instance. An instance
 * over 4 pods goes whole when one of them is evicted, and nothing more may until all 4 are back: one pod less lets one
 * instance go, four less would let four. The role spares what it has beyond the minimum over all of its workloads.
 * Pods that are not ready serve nobody and may always be evicted, else one that crashes would hold up a drain for ever.
 * Without a gang (`off`, skipped, role `both` alone) nothing is broken by the last pod: one may be away, however many.
 */
import { keyOf, labelOf, type KubeObject, type LabelSelector, type Workload } from "../kinds/kube.ts";
import { OWNERSHIP } from "../kinds/names.ts";
import { gangMembers, instancesOf, minimumViableSet } from "../gang/podgroup.ts";
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
  const wanted = contracts.cells.flatMap((cell) =>
    contracts.guard("budgets", cell[0]?.workload, () => wantedOf(cell, foreign)),
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

function wantedOf(cell: readonly Contract[], foreign: readonly KubeObject[]): readonly Wanted[] {
  const ours = cell.filter((contract) => wants(contract, foreign));
  const floors = floorsOf(cell, ours);
  return ours.map((contract) => {
    const stay = floors.get(contract);
    return { contract, stay, object: budgetOf(contract, stay) };
  });
}

/**
 * Pods of each workload that must stay, where its cell is held together. While each of them spares one instance, those of
 * a role keep the rest; where that is less than the minimum, as many of them as it takes spare none. What stands under
 * somebody else's budget is not counted on.
 */
function floorsOf(cell: readonly Contract[], ours: readonly Contract[]): ReadonlyMap<Contract, number> {
  const specs = cell.map(({ spec }) => spec);
  if (specs.every(({ role }) => role === "both")) return new Map();
  const members = new Set(gangMembers(specs));
  const held = Map.groupBy(
    ours.filter(({ spec }) => members.has(spec)),
    ({ spec }) => spec.role,
  );
  return new Map(
    [...held].flatMap(([role, contracts]) => {
      const minimum = minimumViableSet(specs).filter((share) => share.role === role);
      return floorsOfRole(contracts, sum(minimum.map(({ instances }) => instances)));
    }),
  );
}

function floorsOfRole(contracts: readonly Contract[], minimum: number): (readonly [Contract, number])[] {
  let short = minimum - sum(contracts.map(({ spec }) => Math.max(0, instancesOf(spec) - 1)));
  return contracts.map((contract) => {
    const pods = instancesOf(contract.spec) * contract.spec.nodesPerInstance;
    const all = pods === 0 || short > 0;
    if (pods > 0) short -= 1;
    return [contract, all ? pods : pods - 1];
  });
}

const sum = (amounts: readonly number[]): number => amounts.reduce((total, amount) => total + amount, 0);

function budgetOf(contract: Contract, stay: number | undefined): KubeObject {
  const { spec, workload } = contract;
  const limit = stay === undefined ? { maxUnavailable: 1 } : { minAvailable: stay };
  return sealed({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: ownedMeta(workloadObjectName(spec), [contract]),
    spec: { ...limit, selector: selectorOf(workload), unhealthyPodEvictionPolicy: "AlwaysAllow" },
  });
}

interface Wanted {
  readonly contract: Contract;
  /** Pods that must stay; undefined: all but one, however many there are. */
  readonly stay: number | undefined;
  readonly object: KubeObject;
}

const apply = ({ contract, stay, object }: Wanted): Action => ({
  do: "apply",
  key: `budget/${keyOf(object)}`,
  verdict: changed("BudgetApplied", `PodDisruptionBudget ${keyOf(object)}: ${allowance(contract, stay)}`, {
    subject: keyOf(object),
  }),
  about: [contract.workload],
  object,
});

function allowance({ spec }: Contract, stay: number | undefined): string {
  if (stay === undefined) return "one pod may be away";
  const pods = instancesOf(spec) * spec.nodesPerInstance;
  if (stay < pods) return `one of ${pods} pods may be evicted at a time`;
  return `no ready pod may be evicted: the minimum viable set needs all ${pods}; scale out before a drain`;
}

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
