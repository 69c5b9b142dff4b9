/** What the router keeps for the autoscaler, and what it holds on its word: counters, groups that may be woken, held requests. */
import type { Directory } from "../../router/directory.ts";
import { Holding } from "../../router/flow/holding.ts";
import type { LoadBook } from "../../router/load.ts";
import { Statistics } from "../../router/statistics/groups.ts";
import type { StatisticsRoutesOptions } from "../../router/statistics/routes.ts";
import { Wakeable } from "../../router/statistics/wakeable.ts";
import { Wakes } from "../../router/statistics/wakes.ts";
import type { RolePorts } from "./ports.ts";

export interface RouterStatistics {
  readonly statistics: Statistics;
  readonly wakeable: Wakeable;
  readonly holding: Holding;
  /** For the edge that tells the autoscaler of all this. */
  readonly told: Pick<StatisticsRoutesOptions, "page" | "wakeable" | "wakes">;
}

export function routerStatistics(ports: RolePorts, directory: Directory, loads: LoadBook): RouterStatistics {
  const { clock, timers, random, metrics } = ports;
  const { hold, maxBufferedBytes } = ports.config.router;
  const statistics = new Statistics(random.id());
  const wakeable = new Wakeable();
  const wakes = new Wakes(() => holding.work.keys());
  const holding = new Holding({
    // Bodies that wait must leave room for those that go on.
    limits: { ...hold, maxTotalBytes: maxBufferedBytes / 2 },
    ...{ wakeable, wake: (group) => wakes.wake(group), clock, timers, metrics },
  });
  const page = (): ReturnType<Statistics["page"]> =>
    statistics.page({ list: () => directory.list(), loads, held: () => holding.work });
  return { statistics, wakeable, holding, told: { page, wakeable, wakes } };
}
