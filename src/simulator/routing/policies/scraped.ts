/** Engines' metrics as a router sees them that reads them every so often. */
import type { Timers } from "../../../ports.ts";
import type { Signals } from "../fleet.ts";
import type { FleetView } from "../policy.ts";

export interface Scraped {
  /** As read last. */
  readonly now: (engine: number) => Signals;
  /** As read the time before. */
  readonly before: (engine: number) => Signals;
}

export function scraped(fleet: FleetView, time: Timers, everyMs: number): Scraped {
  const read = (): readonly Signals[] => fleet.engines.map(({ number }) => fleet.signals(number));
  let [before, now] = [read(), read()];
  time.every(everyMs, () => {
    before = now;
    now = read();
  });
  const of = (list: readonly Signals[], engine: number): Signals => list[engine] ?? fleet.signals(engine);
  return { now: (engine) => of(now, engine), before: (engine) => of(before, engine) };
}
