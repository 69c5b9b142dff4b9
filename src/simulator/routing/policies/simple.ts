/** Policies without any index: random, round robin, least request. */
import type { Chooser, View } from "../policy.ts";
import { Tracked } from "./tracked.ts";

/** Uniform, for either leg: what a Service of Kubernetes does. */
export function random({ fleet, random }: View): Chooser {
  const one = (of: readonly number[]): number => of[Math.floor(random.next() * of.length)] ?? 0;
  return { choose: () => ({ engine: one(fleet.decoders), ...prefillOf(fleet.prefillers, one) }) };
}

export function roundRobin({ fleet }: View): Chooser {
  let turn = 0;
  const one = (of: readonly number[]): number => of[turn % of.length] ?? 0;
  return {
    choose: () => {
      turn += 1;
      return { engine: one(fleet.decoders), ...prefillOf(fleet.prefillers, one) };
    },
  };
}

/** Requests that this router has on each engine; the first of equals by chance (Envoy's LEAST_REQUEST with a full scan). */
export function leastRequest({ fleet, random }: View): Chooser {
  const tracked = new Tracked(fleet.engines.length);
  const one = (of: readonly number[]): number => least(of, (engine) => tracked.inflight(engine), random.next());
  return {
    choose: () => ({ engine: one(fleet.decoders), ...prefillOf(fleet.prefillers, one) }),
    sent: (_, engine) => tracked.sent(engine),
  };
}

const prefillOf = (engines: readonly number[], one: (of: readonly number[]) => number): { prefill?: number } =>
  engines.length === 0 ? {} : { prefill: one(engines) };

/** The engine of the lowest cost; of equals one by chance, `dice` in [0, 1). */
export function least(engines: readonly number[], cost: (engine: number) => number, dice: number): number {
  const costs = engines.map(cost);
  const lowest = Math.min(...costs);
  const best = engines.filter((_, index) => costs[index] === lowest);
  return best[Math.floor(dice * best.length)] ?? 0;
}
