/** Devices of nodes: how many there are, how many pods hold, counted by the planner's own ledger. */
import { DeviceLedger, isDevice, podDemand } from "../../gang/devices.ts";
import type { Node, Pod } from "../../kinds/kube.ts";
import { byText } from "../../topology/tree.ts";

/** Of one resource on some nodes, in whole units. */
export interface DeviceCount {
  readonly resource: string;
  readonly used: number;
  readonly free: number;
}

/**
 * Counts devices on any set of nodes, with these pods on them. Resources that no pod asks for are left out, as long as
 * any pod asks for one.
 */
export function deviceCounts(
  nodes: readonly Node[],
  pods: readonly Pod[],
): (names: readonly string[]) => readonly DeviceCount[] {
  const ledger = new DeviceLedger();
  ledger.update(nodes, pods);
  const there = new Set(nodes.flatMap(({ status }) => Object.keys(status?.allocatable ?? {})).filter(isDevice));
  const asked = new Set(pods.flatMap(({ spec }) => [...podDemand(spec).keys()]).filter((name) => there.has(name)));
  const resources = [...(asked.size > 0 ? asked : there)].sort(byText);
  const sum = (names: readonly string[], of: (name: string) => number): number =>
    names.reduce((total, name) => total + of(name), 0);
  return (names) =>
    resources
      .map((resource) => {
        const all = sum(names, (name) => ledger.allocatable(name, resource));
        const free = sum(names, (name) => ledger.free(name, resource));
        return { resource, used: all - free, free };
      })
      .filter(({ used, free }) => used !== 0 || free !== 0);
}

/** `12 used, 4 free nvidia.com/gpu`; several resources behind semicolons. */
export const countText = (counts: readonly DeviceCount[]): string =>
  counts.map(({ resource, used, free }) => `${used} used, ${free} free ${resource}`).join("; ");
