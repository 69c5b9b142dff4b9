/** One router in virtual time: the real one, from the body of a request to its destination, with what it tells others. */
import type { Config } from "../../config/schema.ts";
import type { EngineClient, Log, Metrics, Random } from "../../ports.ts";
import { idSetOf, type Directory } from "../../router/directory.ts";
import type { RequestRouter } from "../../router/exchange.ts";
import { createBlockHasher } from "../../router/kv/blocks.ts";
import { geometryFor, HistoryIndex } from "../../router/kv/history.ts";
import { LoadBook } from "../../router/load.ts";
import { decodeMessage } from "../../router/replicas/message.ts";
import { Peers, PUSH_MS } from "../../router/replicas/peers.ts";
import { SentLog, ToldIndex } from "../../router/replicas/sent.ts";
import { createRouter } from "../../router/route.ts";
import { indexCapacity } from "../../router/select.ts";
import type { VirtualTime } from "../engine/virtual-time.ts";

export interface ReplicaPorts {
  readonly time: VirtualTime;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Replica {
  readonly router: RequestRouter;
  readonly peers: Peers;
}

/** Role `both` prefills where it decodes: no leg is ever sent. */
const NO_LEGS: EngineClient = { send: () => Promise.resolve({ kind: "refused", detail: "no legs" }) };

/** @param shares the others are told what this one sent where */
export function createReplica(
  config: Config["router"],
  directory: Directory,
  { time, ...ports }: ReplicaPorts,
  shares: boolean,
): Replica {
  const { maxBytes, maxEndpoints } = config.index;
  const loads = new LoadBook(config.maxInflightPerEndpoint);
  const index = new HistoryIndex(
    geometryFor(maxBytes, maxEndpoints),
    indexCapacity({ stats: undefined }, config.index),
  );
  const sent = new SentLog();
  const router = createRouter({
    ...{ config, directory, loads, hasher: createBlockHasher(), client: NO_LEGS, ...ports },
    ...{ index: shares ? new ToldIndex(index, sent) : index, clock: time, timers: time },
    incompatible: () => undefined,
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
