/** One router in virtual time: the real one, from the body of a request to its destination, with what it tells others. */
import type { Config } from "../../config/schema.ts";
import type { EngineClient, Log, Metrics, Random } from "../../ports.ts";
import type { Directory } from "../../router/directory.ts";
import type { RequestRouter } from "../../router/exchange.ts";
import { createBlockHasher, type BlockKeys } from "../../router/kv/blocks.ts";
import { geometryFor, HistoryIndex } from "../../router/kv/history.ts";
import type { PrefixIndex } from "../../router/kv/index.ts";
import { LoadBook } from "../../router/load.ts";
import { decodeMessage } from "../../router/replicas/message.ts";
import { Peers, PUSH_MS } from "../../router/replicas/peers.ts";
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
  readonly index: PrefixIndex;
  readonly peers: Peers;
}

/** Role `both` prefills where it decodes: no leg is ever sent. */
const NO_LEGS: EngineClient = { send: () => Promise.resolve({ kind: "refused", detail: "no legs" }) };

/** @param told where a prompt went, as this router knows it at once */
export function createReplica(
  config: Config["router"],
  directory: Directory,
  { time, ...ports }: ReplicaPorts,
  told: (endpoint: string, keys: BlockKeys) => void,
): Replica {
  const { maxBytes, maxEndpoints } = config.index;
  const loads = new LoadBook();
  const index = new HistoryIndex(
    geometryFor(maxBytes, maxEndpoints),
    indexCapacity({ stats: undefined }, config.index),
  );
  const telling = {
    match: (keys: BlockKeys) => index.match(keys),
    resize: (endpoint: string, blocks: number) => index.resize(endpoint, blocks),
    forget: (endpoint: string) => index.forget(endpoint),
    keep: (endpoints: ReadonlySet<string>) => index.keep(endpoints),
    blocks: 0,
    record: (endpoint: string, keys: BlockKeys) => {
      index.record(endpoint, keys);
      told(endpoint, keys);
    },
  } satisfies PrefixIndex;
  const router = createRouter({
    ...{ config, directory, loads, index: telling, hasher: createBlockHasher(), client: NO_LEGS, ...ports },
    ...{ clock: time, timers: time, incompatible: () => undefined },
  });
  return { router, index, peers: new Peers(loads, ports.random.id()) };
}

/** From now on each tells the others what it has on endpoints, as `router/replicas` does; it is there after `deliveryMs`. */
export function connectReplicas(replicas: readonly Replica[], time: VirtualTime, deliveryMs: number): void {
  for (const from of replicas)
    time.every(PUSH_MS, () => {
      const text = from.peers.due(time.monotonic());
      const message = text === undefined ? undefined : decodeMessage(text);
      if (message === undefined) return;
      for (const to of replicas)
        if (to !== from) time.after(deliveryMs, () => to.peers.hear(message, time.monotonic()));
    });
}
