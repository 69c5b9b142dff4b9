/**
 * Gates of gangs: carries out what `gang/gates.ts` decides for the cells that wait, and records which of them stand.
 *
 * Nothing is worked out while nobody waits. What is remembered here (free devices, failures in a row) only spares work
 * and haste: it can be lost at any time. It never looks at pods of Volcano's, which its PodGroup holds.
 */
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Pod } from "../kinds/kube.ts";
import { VOLCANO } from "../kinds/names.ts";
import { Trial } from "../gang/devices.ts";
import { gateSteps, type GateField, type GateStep } from "../gang/gates.ts";
import { GroundMemo, type Ground } from "../gang/ground.ts";
import { podRole, shortOf, topologyPolicy } from "../gang/members.ts";
import { holdsByInstance, instanceGroupName, minimumViableSet } from "../gang/podgroup.ts";
import { hasServed, isHeld, liftedTo } from "../gang/waiting.ts";
import { isBound } from "../gang/devices.ts";
import type { Config } from "../config/schema.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { domainExpression } from "../topology/expression.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Action } from "./action.ts";
import type { Contracts } from "./contracts.ts";
import { gatedCells, type GatedCell } from "./gates/cells.ts";
import { fallenAction, recordActions, recordOf } from "./gates/record.ts";
import { instanceOf } from "./podgroups.ts";
import { giveBackAction, liftAction, waitAction } from "./gates/writes.ts";

export type Gates = (contracts: Contracts, snapshot: ClusterSnapshot) => readonly Action[];

/** `now`: milliseconds since the Unix epoch. */
export function createGates(config: Pick<Config, "topology" | "gang" | "admission">, now: () => number): Gates {
  const grounds = new GroundMemo(config.topology, configuredDevices(config.admission).profiles);
  const failures = new Failures();
  return (contracts, snapshot) => {
    const cells = gatedCells(contracts, snapshot);
    failures.keep(cells);
    const waiting = cells.filter(({ members, record }) => record === undefined || members.some(isWaiting));
    if (waiting.length === 0) return cells.flatMap(fallen);
    const ground = grounds.of(snapshot);
    const times = {
      now: now(),
      bindMs: config.gang.bindSeconds * 1000,
      liftAfterMs: config.gang.liftAfterSeconds * 1000,
    };
    const scenes = waiting.map((cell) => ({ ...cell, failures: failures.of(cell.key) }));
    const steps = gateSteps(scenes, fieldOf(ground), times);
    return [
      ...waiting.flatMap((cell) => {
        const step = steps.get(cell.key);
        if (step === undefined) return [];
        if (step.do === "giveBack") failures.count(cell.key, step.pods);
        return actionsOf(step, cell, { ground, snapshot, now: times.now });
      }),
      ...cells.flatMap(fallen),
    ];
  };
}

const isWaiting = (pod: Pod): boolean => isHeld(pod) || liftedTo(pod) !== undefined;

/** How often in a row the pods of a cell could not be bound; pods that are asked for again count once. */
class Failures {
  readonly #cells = new Map<string, { readonly uids: ReadonlySet<string>; readonly count: number }>();

  of(key: string): number {
    return this.#cells.get(key)?.count ?? 0;
  }

  count(key: string, pods: readonly Pod[]): void {
    const before = this.#cells.get(key);
    const uids = new Set(pods.map(({ metadata }) => metadata.uid ?? ""));
    if (before !== undefined && !uids.isDisjointFrom(before.uids)) return;
    this.#cells.set(key, { uids, count: (before?.count ?? 0) + 1 });
  }

  keep(cells: readonly GatedCell[]): void {
    const open = new Set(cells.filter(({ stood }) => !stood).map(({ key }) => key));
    for (const key of this.#cells.keys()) if (!open.has(key)) this.#cells.delete(key);
  }
}

/** The record of a cell that neither served nor is whole. */
const fallen = ({ record, members, specs }: GatedCell): readonly Action[] =>
  record === undefined || record.metadata.deletionTimestamp !== undefined || upholds(members.filter(isBound), specs)
    ? []
    : [fallenAction(record)];

/**
 * Whether a cell stands by these bound pods: one that is ready serves, and one that was may again in a moment; a minimum
 * viable set that is bound loads. What is left of one that never served is a half: its pods were made while it was scaled
 * to zero and back, or their partners died while it loaded.
 */
const upholds = (bound: readonly Pod[], specs: readonly WorkloadSpec[]): boolean =>
  bound.length > 0 && (bound.some(hasServed) || shortOf(minimumViableSet(specs), bound) === undefined);

const fieldOf = ({ tree, ledger, patterns, tallies }: Ground): GateField => ({
  tree,
  tallies,
  room: new Trial(ledger),
  demand: (pod) => ledger.demand(pod),
  pattern: (pod) => patterns.of(pod, ledger.demand(pod)),
});

interface Around {
  readonly ground: Ground;
  readonly snapshot: Pick<ClusterSnapshot, "nodes">;
  readonly now: number;
}

function actionsOf(step: GateStep, cell: GatedCell, around: Around): readonly Action[] {
  const { owners, record, key } = cell;
  const about = owners.map(({ workload }) => workload);
  const { tree } = around.ground;
  const { nodes } = around.snapshot;
  switch (step.do) {
    case "stand": {
      const { mode } = topologyPolicy(cell.specs, tree);
      return recordActions(record, recordOf(owners, mode === "off" ? undefined : step.domain, { tree, nodes }), owners);
    }
    case "giveBack":
      return step.pods.map((pod) => ({ ...giveBackAction(pod, step.verdict), about }));
    case "hold":
      return [
        { do: "tell", key: `gang/${key}`, verdict: step.verdict, about },
        ...step.fresh.flatMap((pod) => waitAction(pod, around.now)),
      ];
    case "lift":
      return [{ do: "tell", key: `gang/${key}`, verdict: step.verdict, about }, ...lifts(step, cell, around)];
  }
}

function lifts(
  { pods, domain, verdict }: Extract<GateStep, { do: "lift" }>,
  { specs }: GatedCell,
  { ground: { tree }, snapshot: { nodes }, now }: Around,
): readonly Action[] {
  const expression = domain === undefined ? undefined : domainExpression(domain, tree, nodes);
  const required = topologyPolicy(specs, tree).mode === "required";
  return [...pods].map(([pod, node]) =>
    liftAction(pod, { node, at: now, expression, required, groupName: groupOf(pod, specs) }, verdict),
  );
}

/** The PodGroup of the pod's instance, where Volcano is given one for each. */
function groupOf(pod: Pod, specs: readonly WorkloadSpec[]): string | undefined {
  if (pod.spec.schedulerName !== VOLCANO.schedulerName) return undefined;
  const spec = specs.find((one) => one.role === podRole(pod) && holdsByInstance(one));
  const id = spec === undefined ? undefined : instanceOf(pod, spec);
  return spec === undefined || id === undefined ? undefined : instanceGroupName(spec, id);
}
