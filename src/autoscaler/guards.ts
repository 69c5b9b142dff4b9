/**
 * Guards over a whole group: the ratio of prefill to decode, and its accelerators. They move numbers that are wanted; each
 * says what it did. Counts are instances by workload.
 */
import { kept, warned, type Verdict } from "../kinds/verdict.ts";
import type { Role } from "../kinds/endpoint.ts";
import type { GroupScaling } from "../workload/scaling.ts";

export interface Guarded {
  readonly id: string;
  readonly role: Role;
  readonly least: number;
  readonly most: number;
  readonly step: number;
  readonly accelerators: number;
  /** What the workload wants; guards move it. */
  wanted: number;
}

/** The side that is short is raised; where its maximum does not let it, the other one is lowered. */
export function keepRatio(workloads: readonly Guarded[], { prefillPerDecode }: GroupScaling): readonly Verdict[] {
  if (prefillPerDecode === undefined) return [];
  const [least, most] = prefillPerDecode;
  const [prefill, decode] = [sum(workloads, "prefill"), sum(workloads, "decode")];
  // A group that sleeps, or has one role only, has no ratio.
  if (prefill === 0 || decode === 0) return [];
  const share = prefill / decode;
  if (share >= least - EPSILON && share <= most + EPSILON) return [];
  if (share < least) {
    const got = moveTo(workloads, "prefill", Math.ceil(least * decode - EPSILON));
    moveTo(workloads, "decode", Math.floor(got / least + EPSILON));
  } else {
    const got = moveTo(workloads, "decode", Math.ceil(prefill / most - EPSILON));
    moveTo(workloads, "prefill", Math.floor(got * most + EPSILON));
  }
  const now = `${sum(workloads, "prefill")} prefill, ${sum(workloads, "decode")} decode`;
  return [kept("RatioKept", `prefill-per-decode ${least}-${most}: ${prefill} prefill, ${decode} decode -> ${now}`)];
}

const EPSILON = 1e-9;

const sum = (workloads: readonly Guarded[], role: Role): number =>
  workloads.reduce((total, workload) => total + (workload.role === role ? workload.wanted : 0), 0);

/** Brings the sum of a role to a number, up or down as it must, within bounds and in steps: what it came to. */
function moveTo(workloads: readonly Guarded[], role: Role, target: number): number {
  const mine = workloads.filter((workload) => workload.role === role);
  for (const workload of mine) {
    const gap = target - sum(mine, role);
    if (gap > 0)
      workload.wanted = Math.max(workload.wanted, Math.min(workload.most, up(workload.wanted + gap, workload.step)));
    if (gap < 0)
      workload.wanted = Math.max(workload.least, Math.min(workload.wanted, down(workload.wanted + gap, workload.step)));
  }
  return sum(mine, role);
}

const up = (count: number, step: number): number => Math.ceil(count / step) * step;
const down = (count: number, step: number): number => Math.floor(count / step) * step;

/** All roles shrink by the same share of what they have above their minimums. */
export function keepBudget(workloads: readonly Guarded[], { maxAccelerators }: GroupScaling): readonly Verdict[] {
  if (maxAccelerators === undefined) return [];
  const wanted = devices(workloads, ({ wanted: count }) => count);
  if (wanted <= maxAccelerators) return [];
  const least = devices(workloads, (workload) => Math.min(workload.least, workload.wanted));
  const share = wanted > least ? Math.max(0, (maxAccelerators - least) / (wanted - least)) : 0;
  for (const workload of workloads) {
    const floor = Math.min(workload.least, workload.wanted);
    workload.wanted = Math.max(floor, down(floor + (workload.wanted - floor) * share, workload.step));
  }
  const now = devices(workloads, ({ wanted: count }) => count);
  const message = `max-accelerators ${maxAccelerators}: ${wanted} devices -> ${now}`;
  return [now > maxAccelerators ? warned("BudgetUnkeepable", message) : kept("BudgetKept", message)];
}

const devices = (workloads: readonly Guarded[], of: (workload: Guarded) => number): number =>
  workloads.reduce((total, workload) => total + workload.accelerators * of(workload), 0);
