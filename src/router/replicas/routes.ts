/** HTTP edge of the router's own world: `POST /v1/loads`, by which other replicas tell of their work and picks. */
import type { FastifyPluginCallback, FastifyReply } from "fastify";
import type { Clock, Metrics } from "../../ports.ts";
import { refusalOf } from "./callers.ts";
import { decodeMessage, MAX_MESSAGE_BYTES } from "./message.ts";
import type { Heard, Peers } from "./peers.ts";

export interface ReplicaRoutesOptions {
  readonly state: Peers;
  /** Callers must know it, and may be anywhere; empty: callers must be members. */
  readonly token: string;
  /** Without a token: whether a sender at this IP address is one of the replicas. */
  readonly isMember: (remote: string | undefined) => Promise<boolean>;
  /** Endpoints in one message. */
  readonly maxEndpoints: number;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** The answer of a replica to itself: it need not be told again. */
const SELF = 409;
const STRANGERS = { 401: "not a replica", 403: "not an address of router.replicas.peers" } as const;
const FORM = 'a message {"from","all","loads":[[endpoint, requests, prefillMs]],"sent":[[endpoint, keys]]}';

/** Why a message is not heard: its status, the label of the count, and what the sender reads. */
const REFUSALS = {
  form: [400, FORM],
  tooMany: [429, "32 other replicas are heard"],
} as const;

export function replicaRoutes(options: ReplicaRoutesOptions): FastifyPluginCallback {
  const { state, token, isMember, maxEndpoints, clock, metrics } = options;
  const refuse = (reply: FastifyReply, reason: keyof typeof REFUSALS): FastifyReply => {
    const [status, error] = REFUSALS[reason];
    metrics.count("tandem_router_replica_refused_total", { reason });
    return reply.code(status).send({ error });
  };
  return (app, _, done) => {
    // Before the body is read: a stranger costs no more than its headers.
    app.addHook("onRequest", async (request, reply) => {
      const caller = { authorization: request.headers.authorization, remote: request.socket.remoteAddress };
      const status = await refusalOf({ token, isMember, metrics }, caller);
      return status === undefined ? undefined : reply.code(status).send({ error: STRANGERS[status] });
    });
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("application/json", { parseAs: "string", bodyLimit: MAX_MESSAGE_BYTES }, (_, body, next) =>
      next(null, body),
    );
    app.post("/v1/loads", (request, reply) => {
      const message = typeof request.body === "string" ? decodeMessage(request.body, maxEndpoints) : undefined;
      if (message === undefined) return refuse(reply, "form");
      const heard = state.hear(message, clock.monotonic());
      if (heard === "tooMany") return refuse(reply, heard);
      metrics.count("tandem_router_replica_messages_total");
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
