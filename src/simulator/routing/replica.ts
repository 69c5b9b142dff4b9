/** One router in virtual time: the real one, with its housekeeping and what it tells other replicas. */
import type { Config } from "../../config/schema.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { EngineClient, Log, Metrics, Random } from "../../ports.ts";
import { compatible } from "../../profiles/connectors.ts";
import { idSetOf, type Directory } from "../../router/directory.ts";
import type { RequestRouter } from "../../router/exchange.ts";
import { Housekeeping } from "../../router/housekeeping.ts";
import { createBlockHasher } from "../../router/kv/blocks.ts";
import { geometryFor, HistoryIndex } from "../../router/kv/history.ts";
import { HitTrust } from "../../router/kv/trust.ts";
import { LoadBook } from "../../router/load.ts";
import { decodeMessage } from "../../router/replicas/message.ts";
import { Peers, PUSH_MS } from "../../router/replicas/peers.ts";
import { SentLog, ToldIndex } from "../../router/replicas/sent.ts";
import { CostLearner } from "../../router/pick/learn.ts";
import { createRouter } from "../../router/route.ts";
import { indexCapacity } from "../../router/select.ts";
import type { VirtualTime } from "../engine/virtual-time.ts";

export interface ReplicaPorts {
  readonly config: Config["router"];
  readonly time: VirtualTime;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Takes prefill legs. */
  readonly client: EngineClient;
}

export interface Replica {
  readonly router: RequestRouter;
  readonly peers: Peers;
}

const TIDY_MS = 1000;

/** @param shares the others are told what this one sent where */
export function createReplica(
  directory: Directory,
  { time, config, ...ports }: ReplicaPorts,
  shares: boolean,
): Replica {
  const { maxBytes, maxEndpoints } = config.index;
  const loads = new LoadBook(config.maxInflightPerEndpoint);
  const index = new HistoryIndex(
    geometryFor(maxBytes, maxEndpoints),
    indexCapacity({ stats: undefined }, config.index),
  );
  const housekeeping = new Housekeeping({ index, loads, config, metrics: ports.metrics });
  housekeeping.tidy(directory.list());
  time.every(TIDY_MS, () => housekeeping.tidy(directory.list()));
  const sent = new SentLog();
  const trust = new HitTrust();
  const slow = (endpoint: string, slowness: number): void => loads.slow(endpoint, slowness);
  const learner = config.cost.learn ? { learner: new CostLearner(config.cost, time, slow) } : {};
  const router = createRouter({
    ...learner,
    ...{ config, trust, directory, loads, hasher: createBlockHasher(), ...ports },
    ...{ index: shares ? new ToldIndex(index, sent) : index, clock: time, timers: time },
    incompatible: (prefill: Endpoint, decode: Endpoint) => compatible(prefill.compatibility, decode.compatibility),
  });
  const history = { index, endpoints: () => idSetOf(directory.list()), sent };
  return { router, peers: new Peers(loads, ports.random.id(), history) };
}

/**
 * From now on each tells the others, as `router/replicas` does; it is there after `deliveryMs`.
 * @param withLoads false: the work that each has is left out
 */
export function connectReplicas(
  replicas: readonly Replica[],
  time: VirtualTime,
  { deliveryMs, withLoads }: { readonly deliveryMs: number; readonly withLoads: boolean },
): void {
  if (replicas.length < 2) return;
  const tell = (from: Replica, to: Replica, address: string): void => {
    const telling = from.peers.next(address);
    const message = telling === undefined ? undefined : decodeMessage(telling.body);
    if (telling === undefined || message === undefined) return;
    telling.arrived();
    const heard = withLoads ? message : { ...message, loads: new Map() };
    time.after(deliveryMs, () => to.peers.hear(heard, time.monotonic()));
    tell(from, to, address);
  };
  for (const from of replicas)
    time.every(PUSH_MS, () => {
      from.peers.advance(time.monotonic());
      for (const [number, to] of replicas.entries()) if (to !== from) tell(from, to, `replica-${number}`);
    });
}
