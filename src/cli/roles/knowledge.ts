/**
 * What the router knows of engines, kept in step with those that exist: which there are and how they stand, what they hold,
 * what work they have, and what was learned of them.
 */
import { EndpointDirectory } from "../../endpoints/directory.ts";
import type { RemoteScraper } from "../../endpoints/remote.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { Metrics } from "../../ports.ts";
import { idSetOf, type KnownEndpoint } from "../../router/directory.ts";
import { createEngineClient } from "../../router/disagg/client.ts";
import { Housekeeping } from "../../router/housekeeping.ts";
import { CountedHits } from "../../router/kv/counted.ts";
import { eventTargets } from "../../router/kv/events/targets.ts";
import { geometryFor, HistoryIndex } from "../../router/kv/history.ts";
import { secretOf } from "../../router/kv/table.ts";
import { JointIndex } from "../../router/kv/joint.ts";
import { HitTrust } from "../../router/kv/trust.ts";
import { LoadBook } from "../../router/load.ts";
import { CostLearner } from "../../router/pick/learn.ts";
import { indexCapacity } from "../../router/select.ts";
import { TokenRates } from "../../router/tokenize/rates.ts";
import { engineAccess } from "./engine.ts";
import { startFollowing } from "./following.ts";
import type { RolePorts } from "./ports.ts";
import type { Started } from "./running.ts";
import { startScraping } from "./scraping.ts";

export interface Knowledge {
  readonly client: ReturnType<typeof createEngineClient>;
  readonly directory: EndpointDirectory;
  readonly scraper: RemoteScraper;
  readonly loads: LoadBook;
  readonly index: HistoryIndex | JointIndex;
  /** There where engines' events are followed. */
  readonly joint: JointIndex | undefined;
  readonly following: ReturnType<typeof startFollowing>;
  readonly rates: TokenRates;
  readonly trust: HitTrust;
  readonly counted: CountedHits;
  /** Absent where the cost is as configured. */
  readonly learner: CostLearner | undefined;
}

const TIDY_MS = 1000;

/** What begins is noted in `begun`. */
export function startKnowledge(ports: RolePorts, endpoints: () => readonly Endpoint[], begun: Started): Knowledge {
  const { clock, timers, metrics } = ports;
  const config = ports.config.router;
  const { client, scraper } = reach(ports, endpoints, begun);
  const loads = new LoadBook(config.maxInflightPerEndpoint);
  const { maxBytes, maxEndpoints } = config.index;
  const history = new HistoryIndex(
    { ...geometryFor(maxBytes, maxEndpoints), secret: secretOf(ports.random) },
    indexCapacity({ stats: undefined }, config.index),
    (blocks) => metrics.count("tandem_router_index_full_total", {}, blocks),
  );
  const following = startFollowing(ports);
  if (following !== undefined) begun.add(() => following.feed.stop());
  const joint = following && new JointIndex(history, following.index);
  const slow = (endpoint: string, slowness: number): void => loads.slow(endpoint, slowness);
  const trust = new HitTrust();
  const known: Knowledge = {
    ...{ client, scraper, loads, following, joint, index: joint ?? history },
    directory: new EndpointDirectory(endpoints, scraper),
    ...{ rates: new TokenRates(), trust, counted: new CountedHits({ trust, metrics, pageMs: config.scrapeTimeoutMs }) },
    learner: config.cost.learn ? new CostLearner(config.cost, clock, slow) : undefined,
  };
  begun.add(timers.every(TIDY_MS, tidying(known, ports)));
  return known;
}

/** Calls to engines, and their metrics; with credentials that are read again. */
function reach(
  ports: RolePorts,
  endpoints: () => readonly Endpoint[],
  begun: Started,
): Pick<Knowledge, "client" | "scraper"> {
  const engines = engineAccess(ports);
  const { scrapeIntervalMs: intervalMs, scrapeTimeoutMs: timeoutMs } = ports.config.router;
  const client = createEngineClient(engines.current());
  begun.add(() => client.close());
  const scraper = startScraping(ports, endpoints, engines.current(), { intervalMs, timeoutMs });
  begun.add(() => scraper.stop());
  begun.add(
    engines.onChange((access) => {
      client.use(access);
      scraper.use(access);
    }),
  );
  return { client, scraper };
}

/** What is gone is forgotten, and what came is followed. */
function tidying({ directory, following, ...known }: Knowledge, { config, metrics }: RolePorts): () => void {
  const { index, loads, rates, trust, counted, learner } = known;
  const housekeeping = new Housekeeping({ index, loads, config: config.router, metrics, rates });
  return () => {
    const list = directory.list();
    housekeeping.tidy(list);
    for (const { endpoint, stats } of list) counted.read(endpoint.id, stats?.lookups, stats?.at ?? 0);
    for (const book of [trust, counted]) book.keep(idSetOf(list));
    reportTrust(trust, list, metrics);
    learner?.keep(idSetOf(list));
    following?.feed.follow(eventTargets(list, config.router));
  };
}

/** The endpoint that is believed least, and all of them: one that falls behind stands out. */
function reportTrust(trust: HitTrust, list: readonly KnownEndpoint[], metrics: Metrics): void {
  const shares = list.map(({ endpoint }) => trust.of(endpoint.id));
  const mean = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length);
  metrics.gauge("tandem_router_history_trust", shares.length === 0 ? 1 : mean, { stat: "mean" });
  metrics.gauge("tandem_router_history_trust", Math.min(1, ...shares), { stat: "least" });
}
