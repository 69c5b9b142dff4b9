/**
 * Endpoints at the admin address: `/debug/endpoints`, each with what its engine tells, how its KV events are, and the share
 * of the routing history that is believed of it.
 */
import type { KnownEndpoint } from "../../router/directory.ts";
import type { EventIndex } from "../../router/kv/events/index.ts";
import type { HitTrust } from "../../router/kv/trust.ts";
import type { Clock } from "../../ports.ts";
import { json, type Pages } from "../../telemetry/server.ts";

interface Caches {
  readonly events: Pick<EventIndex, "state"> | undefined;
  readonly trust: HitTrust;
}

export function endpointPages(list: () => readonly KnownEndpoint[], { events, trust }: Caches, clock: Clock): Pages {
  const now = clock.monotonic;
  return {
    "/debug/endpoints": () =>
      json(200, {
        endpoints: list().map((known) => ({
          ...shown(known, now()),
          historyTrust: trust.of(known.endpoint.id),
          events: eventsOf(known, events, now()),
        })),
      }),
  };
}

function shown({ endpoint, stats }: KnownEndpoint, now: number): object {
  const { id, name, namespace, address, role, service, group, cell, models, ready, draining, compatibility } = endpoint;
  const engine = stats === undefined ? null : { ...stats, at: undefined, ageMs: Math.round(now - stats.at) };
  return { id, name, namespace, address, role, service, group, cell, models, ready, draining, compatibility, engine };
}

/** Null: they are off, or nobody knows where it would publish. */
function eventsOf(
  { endpoint }: KnownEndpoint,
  events: Pick<EventIndex, "state"> | undefined,
  now: number,
): object | null {
  const known = events?.state(endpoint.id);
  if (known === undefined) return null;
  const { state, cause, since, ranks, blocks } = known;
  return { state, cause, sinceMs: Math.round(now - since), ranks, blocks, told: endpoint.events !== undefined };
}
