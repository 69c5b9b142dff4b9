/** HTTP edge of the router's own world: `POST /v1/loads`, by which other replicas tell of their work and picks. */
import { timingSafeEqual } from "node:crypto";
import type { FastifyPluginCallback } from "fastify";
import type { Clock, Metrics } from "../../ports.ts";
import { decodeMessage, MAX_MESSAGE_BYTES } from "./message.ts";
import type { Heard, Peers } from "./peers.ts";

export interface ReplicaRoutesOptions {
  readonly state: Peers;
  /** Callers must know it; empty: the network decides who may call. */
  readonly token: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** The answer of a replica to itself: it need not be told again. */
const SELF = 409;
const FORM = 'a message {"from","all","loads":[[endpoint, requests, prefillMs]],"sent":[[endpoint, keys]]}';

export function replicaRoutes({ state, token, clock, metrics }: ReplicaRoutesOptions): FastifyPluginCallback {
  return (app, _, done) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("application/json", { parseAs: "string", bodyLimit: MAX_MESSAGE_BYTES }, (_, body, next) =>
      next(null, body),
    );
    app.post("/v1/loads", (request, reply) => {
      if (!isKnown(request.headers.authorization, token)) return reply.code(401).send({ error: "not a replica" });
      const message = typeof request.body === "string" ? decodeMessage(request.body) : undefined;
      if (message === undefined) return reply.code(400).send({ error: FORM });
      metrics.count("tandem_router_replica_messages_total");
      const heard = state.hear(message, clock.monotonic());
      if (heard === undefined) return reply.code(SELF).send();
      countPicks(metrics, heard);
      return reply.code(204).send();
    });
    done();
  };
}

function countPicks(metrics: Metrics, { recorded, unknown }: Heard): void {
  if (recorded > 0) metrics.count("tandem_router_replica_picks_total", { outcome: "recorded" }, recorded);
  if (unknown > 0) metrics.count("tandem_router_replica_picks_total", { outcome: "unknown" }, unknown);
}

function isKnown(given: string | undefined, token: string): boolean {
  if (token === "") return true;
  const [a, b] = [Buffer.from(given ?? ""), Buffer.from(`Bearer ${token}`)];
  return a.length === b.length && timingSafeEqual(a, b);
}
