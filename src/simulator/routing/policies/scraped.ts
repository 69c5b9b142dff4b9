/** Engines' metrics as a router sees them that reads them every so often. */
import type { VirtualTime } from "../../engine/virtual-time.ts";
import type { Fleet, Signals } from "../fleet.ts";

export interface Scraped {
  /** As read last. */
  readonly now: (engine: number) => Signals;
  /** As read the time before. */
  readonly before: (engine: number) => Signals;
}

export function scraped(fleet: Fleet, time: VirtualTime, everyMs: number): Scraped {
  const read = (): readonly Signals[] => fleet.engines.map(({ number }) => fleet.signals(number));
  let [before, now] = [read(), read()];
  time.every(everyMs, () => {
    before = now;
    now = read();
  });
  const of = (list: readonly Signals[], engine: number): Signals => list[engine] ?? fleet.signals(engine);
  return { now: (engine) => of(now, engine), before: (engine) => of(before, engine) };
}
