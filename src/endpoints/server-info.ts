/**
 * Where an SGLang engine publishes KV events, as it says itself: `kv_events` of `GET /server_info`, since 2026-05
 * (sglang#25844); null where it publishes none. Its ranks publish at the base port and those behind it.
 */
import type { Endpoint } from "../kinds/endpoint.ts";

/** The newer name first; older servers know the second alone. */
export const SERVER_INFO_PATHS = ["/server_info", "/get_server_info"] as const;

/** Ranks of one server are a few tens at most. */
const MOST_RANKS = 1024;

/** Undefined where it publishes none, or says nothing that can be read. */
export function readServerInfo(text: string): Endpoint["events"] {
  try {
    const value = JSON.parse(text) as { kv_events?: Record<string, unknown> | null } | null;
    const told = value?.kv_events;
    if (told?.["publisher"] !== "zmq") return undefined;
    const port = told["endpoint_port_base"];
    const ranks = told["dp_size"] ?? 1;
    return isWithin(port, 65_535) && isWithin(ranks, MOST_RANKS) ? { port, ranks } : undefined;
  } catch {
    return undefined;
  }
}

const isWithin = (value: unknown, most: number): value is number =>
  typeof value === "number" && Number.isInteger(value) && value > 0 && value <= most;
