/**
 * What the controller does next, decided from one snapshot: PodGroups of cells, ConfigMaps with sizes, instances over
 * several pods, gates of gangs, labels and places of live pods. Never injects into workloads (admission does), never touches a status, never acts where no webhook reaches.
 */
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { rememberedTree } from "../topology/memo.ts";
import type { TopologyTree } from "../topology/tree.ts";
import type { Action } from "./action.ts";
import { budgetActions } from "./budgets.ts";
import { contractsOf, type Contract, type Contracts, type PlanContext } from "./contracts.ts";
import { domainActions } from "./domains.ts";
import { labelActions, type Managed } from "./labels.ts";
import { missedActions, type MissedFacts } from "./missed.ts";
import { podGroupActions } from "./podgroups.ts";
import { sizesActions } from "./sizes.ts";
import { slotActions } from "./slots.ts";

/** Actions in the order in which they matter. Deciding again after they are done gives none that writes. */
export function controllerPlan(snapshot: ClusterSnapshot, context: PlanContext): readonly Action[] {
  const contracts = contractsOf(snapshot, context);
  const { acts } = context;
  const remembered = context.tree ?? rememberedTree(context.config.topology);
  const tree = (): TopologyTree => remembered(snapshot);
  const managed: Managed = (pod, owner) => missedActions(pod, owner, missedFacts(context));
  const part = (name: string, decide: () => readonly Action[]): readonly Action[] =>
    contracts.guard(name, undefined, decide);
  return [
    ...contracts.cells.flatMap((cell) => sizesOf(cell, snapshot, contracts)),
    ...part("PodGroups", () => podGroupActions({ snapshot, contracts, acts, tree: treeFor(contracts, tree) })),
    ...part("instances", () => slotsOf(snapshot, contracts, context)),
    ...part("gates", () => context.gates?.(contracts, snapshot) ?? []),
    ...part("labels", () => labelActions(snapshot.pods, contracts, acts, managed)),
    ...part("domains", () => domainActions(snapshot.pods, tree, acts)),
    ...part("budgets", () => budgetActions({ budgets: snapshot.budgets, contracts, acts })),
    ...part("explanations", () => context.explain?.(contracts.all, snapshot) ?? []),
    // Last: what failed above is among them.
    ...contracts.actions,
  ];
}

const sizesOf = (
  cell: readonly Contract[],
  snapshot: ClusterSnapshot,
  { guard, unclear }: Contracts,
): readonly Action[] => guard("sizes", cell[0]?.workload, () => sizesActions([cell], { ...snapshot, unclear }));

const missedFacts = ({ config: { admission } }: PlanContext): MissedFacts => ({
  podTarget: admission.target === "pod",
  devices: configuredDevices(admission),
});

const slotsOf = (
  snapshot: ClusterSnapshot,
  contracts: Contracts,
  { acts, config, now }: PlanContext,
): readonly Action[] =>
  slotActions({
    ...snapshot,
    contracts,
    acts,
    devices: configuredDevices(config.admission),
    blocks: config.controller.instancePorts,
    ...(now === undefined ? {} : { patience: { now, ...config.controller.recovery } }),
  });

/** Built only where a workload requires a domain. */
const treeFor = ({ all }: Contracts, tree: () => TopologyTree): TopologyTree | undefined =>
  all.some(({ spec }) => spec.topology === "required") ? tree() : undefined;
