/** Engines' metrics as a router sees them that reads them every so often. */
import type { Timers } from "../../../ports.ts";
import type { Signals } from "../fleet.ts";
import type { FleetView } from "../policy.ts";

export interface Scraped {
  /** As read last. */
  readonly now: (engine: number) => Signals;
  /** Mean time of the tokens between two reads: of the last two between which there were any. */
  readonly meanMs: (engine: number, of: TokenTimes) => number | undefined;
}

export type TokenTimes = "firstTokens" | "nextTokens";

export function scraped(fleet: FleetView, time: Timers, everyMs: number): Scraped {
  const read = (): readonly Signals[] => fleet.engines.map(({ number }) => fleet.signals(number));
  const means = { firstTokens: new Map<number, number>(), nextTokens: new Map<number, number>() };
  let now = read();
  time.every(everyMs, () => {
    const before = now;
    now = read();
    for (const which of ["firstTokens", "nextTokens"] as const)
      for (const [engine, signals] of now.entries()) {
        const mean = meanBetween(before[engine]?.[which], signals[which]);
        if (mean !== undefined) means[which].set(engine, mean);
      }
  });
  return { now: (engine) => now[engine] ?? fleet.signals(engine), meanMs: (engine, of) => means[of].get(engine) };
}

const meanBetween = (before: Signals[TokenTimes] | undefined, now: Signals[TokenTimes]): number | undefined =>
  before !== undefined && now.count > before.count
    ? (now.sumMs - before.sumMs) / (now.count - before.count)
    : undefined;
