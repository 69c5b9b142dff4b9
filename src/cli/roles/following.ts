/** The thread that follows KV events, and what the serving thread knows by it: `src/router/kv/events/worker.ts`. */
import { EventIndex } from "../../router/kv/events/index.ts";
import { createBlockHasher } from "../../router/kv/blocks.ts";
import { eventGeometry } from "../../router/kv/events/quota.ts";
import { EventFeed } from "../../router/kv/events/remote.ts";
import { bytesOf, secretOf, type Geometry } from "../../router/kv/table.ts";
import { markClock, type ClockMark } from "../../telemetry/process.ts";
import { retell } from "../../telemetry/relay.ts";
import type { RolePorts } from "./ports.ts";
import { startThread } from "./threads.ts";

/** What the thread is born with. */
export interface EventData {
  readonly mark: ClockMark;
  readonly geometry: Geometry;
  readonly buffer: SharedArrayBuffer;
  readonly blockTokens: number;
  readonly blocksPerSecond: number;
  readonly poolMs: number;
}

export interface Following {
  readonly index: EventIndex;
  readonly feed: EventFeed;
}

/** From source by type stripping, or beside the bundle (scripts/build.ts). */
const ENTRY = new URL(import.meta.url.endsWith(".ts") ? "./event-worker.ts" : "./event-worker.js", import.meta.url);

/** The table knows so many engines at most. */
const MOST_NUMBERS = 8190;
/** Numbers for each endpoint: of its ranks, and of caches that are gone and wait to be given up. */
const NUMBERS = 4;

/** Undefined where KV events are off. */
export function startFollowing(ports: RolePorts): Following | undefined {
  const { clock, metrics, random } = ports;
  const { events, index: history } = ports.config.router;
  if (!events.enabled) return undefined;
  const { blockTokens, maxBytes, maxBlocksPerSecond: blocksPerSecond, poolMs, speculateMs } = events;
  const numbers = Math.min(MOST_NUMBERS, NUMBERS * history.maxEndpoints);
  const geometry = { ...eventGeometry(maxBytes, numbers), secret: secretOf(random) };
  const endpoints = history.maxEndpoints;
  const index = new EventIndex({ geometry, hasher: createBlockHasher(), blockTokens, endpoints, speculateMs, clock });
  // A thread that failed may have left half a change behind: the next one begins with memory of its own.
  const data = (): EventData => {
    const buffer = new SharedArrayBuffer(bytesOf(geometry));
    index.attach(buffer);
    return { mark: markClock(), geometry, buffer, blockTokens, blocksPerSecond, poolMs };
  };
  const feed = new EventFeed({
    ...{ index, metrics, retell },
    thread: (listener) => startThread({ name: "events", entry: ENTRY, data, ...listener }, ports),
  });
  return { index, feed };
}
