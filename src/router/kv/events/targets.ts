/** Endpoints -> the engines whose KV events are followed: those that are known to publish, and those that may. */
import type { Config } from "../../../config/schema.ts";
import type { KnownEndpoint } from "../../directory.ts";
import type { EventTarget } from "./messages.ts";

/** vLLM's default, where an engine publishes and nobody says so. */
const GUESSED_PORT = 5557;

export function eventTargets(known: readonly KnownEndpoint[], config: Config["router"]): EventTarget[] {
  if (!config.events.enabled) return [];
  return known.flatMap((each) => targetOf(each, config) ?? []);
}

function targetOf({ endpoint, stats }: KnownEndpoint, config: Config["router"]): EventTarget | undefined {
  const { events, id, bootId, address, dataParallelRank } = endpoint;
  if (events === undefined && !config.events.probe) return undefined;
  const { port, ranks, ...rest } = events ?? { port: GUESSED_PORT + dataParallelRank, ranks: 1 };
  const known = stats?.blocks !== undefined && stats.blockSize !== undefined;
  return {
    ...{ id, bootId, port, ranks, host: hostOf(address), guessed: events === undefined },
    ...("replayPort" in rest && rest.replayPort !== undefined ? { replayPort: rest.replayPort } : {}),
    capacityTokens: known ? (stats.blocks ?? 0) * (stats.blockSize ?? 0) : config.index.capacityTokens,
    ...(stats?.blockSize === undefined ? {} : { blockSize: stats.blockSize }),
  };
}

/** Of `ip:port`, without the brackets of IPv6. */
const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
