/**
 * KV events: the ports at which an engine publishes what it caches, as its arguments tell.
 *
 * Format: vLLM's KVEventsConfig, which SGLang takes over. Data-parallel rank r publishes at its port + r, and answers
 * replay requests at the replay port + r.
 */
import type { EngineId } from "../profiles/engines.ts";
import { jsonFlag, type Flags } from "./arguments.ts";

export const EVENTS_FLAG = "--kv-events-config";

/** Ports of data-parallel rank 0; those of the other ranks follow. */
export interface EventPorts {
  readonly port: number;
  readonly replayPort?: number;
}

/** Port without an `endpoint`. */
const DEFAULT_PORT = 5557;

/** The port of an endpoint that binds; one that connects pushes to somebody, and cannot be subscribed to. */
function boundPort(endpoint: unknown): number | undefined {
  const match = typeof endpoint === "string" ? /^tcp:\/\/(\*|0\.0\.0\.0|\[?::\]?):(\d{1,5})$/.exec(endpoint) : null;
  const port = Number(match?.[2]);
  return port > 0 && port < 65536 ? port : undefined;
}

const isOn = (value: unknown): boolean => value === true || /^true$/i.test(String(value));

/** vLLM wants them enabled; SGLang wants a publisher, and its default is none. */
const publishes = (engine: EngineId, { enable_kv_cache_events: on, publisher }: Record<string, unknown>): boolean =>
  engine === "sglang" ? publisher === "zmq" : isOn(on) && (publisher ?? "zmq") === "zmq";

/** Where an engine publishes by a configuration of the user's own; undefined where it does not, or cannot be told. */
export function readEvents(flags: Flags, engine: EngineId): EventPorts | undefined {
  const { given, value } = jsonFlag(flags, EVENTS_FLAG);
  if (!given || !publishes(engine, value)) return undefined;
  const port = value["endpoint"] === undefined ? DEFAULT_PORT : boundPort(value["endpoint"]);
  const replayPort = boundPort(value["replay_endpoint"]);
  if (port === undefined) return undefined;
  return replayPort === undefined ? { port } : { port, replayPort };
}

/** Ports that something else listens on. */
export interface PortRange {
  readonly first: number;
  readonly count: number;
}

/** The first run of `count` ports from `from` on that meets none of the taken ones. */
export function freePorts(from: number, count: number, taken: readonly PortRange[]): number {
  let at = from;
  // In order, so that no range left behind can be met again.
  for (const range of taken.toSorted((a, b) => a.first - b.first))
    if (at < range.first + range.count && range.first < at + count) at = range.first + range.count;
  return at;
}
