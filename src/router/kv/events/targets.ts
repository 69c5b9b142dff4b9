/** Endpoints -> the engines whose KV events are followed: those that are known to publish, and those that may. */
import type { Config } from "../../../config/schema.ts";
import type { KnownEndpoint } from "../../directory.ts";
import type { EventTarget } from "./messages.ts";

/** vLLM's default, where an engine publishes and nobody says so. */
const GUESSED_PORT = 5557;
/** Ranks of one endpoint that are followed: engines have a few tens, and an annotation may say anything. */
const MOST_RANKS = 1024;
const PORTS = 65_536;

export function eventTargets(known: readonly KnownEndpoint[], config: Config["router"]): EventTarget[] {
  if (!config.events.enabled) return [];
  return known.flatMap((each) => targetOf(each, config) ?? []);
}

function targetOf(known: KnownEndpoint, config: Config["router"]): EventTarget | undefined {
  const { events, id, bootId, address, dataParallelRank } = known.endpoint;
  if (events === undefined && !config.events.probe) return undefined;
  const told = events ?? { port: GUESSED_PORT + dataParallelRank, ranks: 1 };
  const place = { id, bootId, host: hostOf(address), guessed: events === undefined };
  return { ...place, ...told, ranks: ranksOf(told), ...sizesOf(known, config) };
}

/** As many as have a port. */
const ranksOf = ({ port, replayPort = 0, ranks }: NonNullable<KnownEndpoint["endpoint"]["events"]>): number =>
  Math.min(ranks, MOST_RANKS, PORTS - Math.max(port, replayPort));

function sizesOf(
  { stats }: KnownEndpoint,
  { index }: Config["router"],
): Pick<EventTarget, "capacityTokens" | "blockSize"> {
  const { blocks, blockSize } = stats ?? {};
  if (blockSize === undefined) return { capacityTokens: index.capacityTokens };
  return { blockSize, capacityTokens: blocks === undefined ? index.capacityTokens : blocks * blockSize };
}

/** Of `ip:port`, without the brackets of IPv6. */
const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
