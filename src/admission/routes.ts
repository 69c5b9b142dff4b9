/**
 * The webhooks over HTTP: POST /admission/mutate and /admission/validate.
 *
 * Bounds what comes in (size, bytes in flight, depth) before anything walks it, hands it to `review`, and counts. No I/O:
 * an answer takes milliseconds, and a large review waits only until those before it were answered. Objects are never
 * logged.
 */
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from "fastify";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Clock, Log, Metrics } from "../ports.ts";
import { readBody } from "./body.ts";
import { review, type ReviewReply, type Webhook } from "./review.ts";
import type { Settings } from "./stage.ts";

export interface AdmissionRoutesOptions {
  readonly settings: Settings;
  /** The cluster as known now. */
  readonly snapshot: () => ClusterSnapshot;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

/**
 * Bytes of bodies held at once; above, 503. Two of the largest reviews: each keeps the thread for 0.3 s, and a
 * webhook has two. With 64 MiB, 200 large reviews at once took 533 MiB of memory and /readyz 5 s; with these, 253 MiB.
 */
const MOST_BYTES_IN_FLIGHT = 16777216;

/** How long a caller that was refused may take to read its answer. */
const LINGER_MS = 1000;

const WEBHOOKS: readonly Webhook[] = ["mutate", "validate"];

/** A fastify plugin; its parser is its own, and leaves the rest of the server as it is. */
export const admissionRoutes =
  (options: AdmissionRoutesOptions): FastifyPluginCallback =>
  (server, _, done) => {
    bound(server, options.settings.maxBodyBytes);
    server.removeAllContentTypeParsers();
    server.addContentTypeParser(
      "application/json",
      { parseAs: "buffer", bodyLimit: options.settings.maxBodyBytes },
      (_request, body, parsed) => parsed(null, body),
    );
    const turn = createTurns();
    for (const webhook of WEBHOOKS)
      server.post(`/admission/${webhook}`, { bodyLimit: options.settings.maxBodyBytes }, async (request, response) => {
        const arrived = options.clock.monotonic();
        if (isLarge(request.body)) await turn();
        return serve(webhook, { ...options, arrived }, request, response);
      });
    done();
  };

/** Bytes from which a review is large: below, one takes less than 5 ms. */
const LARGE_BYTES = 65536;
const isLarge = (body: unknown): boolean => Buffer.isBuffer(body) && body.length >= LARGE_BYTES;

/**
 * One large review after the other, each in a turn of the event loop of its own, so that health, other callers and
 * refusals come in between: 7 MiB keep the thread for 0.3 s.
 */
function createTurns(): () => Promise<void> {
  const waiting: (() => void)[] = [];
  const next = (): void => {
    waiting.shift()?.();
    if (waiting.length > 0) setImmediate(next);
  };
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve);
      if (waiting.length === 1) setImmediate(next);
    });
}

/** What a body may come to: the length is the caller's word, and without one it is the largest that is taken. */
function announced({ headers }: FastifyRequest, most: number): number {
  const length = headers["content-length"];
  return length === undefined ? most : Number(length) || 0;
}

/**
 * Answers before the body has come, and leaves the rest of it unread: a connection closed at once with bytes under way is
 * reset, and half of the callers would never see the answer; reading them all would cost more than it protects from.
 */
function refuse({ raw: { socket } }: FastifyRequest, response: FastifyReply, status: 413 | 503): void {
  const body = JSON.stringify({ error: status === 413 ? "the body is too large" : "too many bytes in flight" });
  response.hijack();
  const headers = { "content-type": "application/json", "content-length": body.length, connection: "close" };
  response.raw.writeHead(status, headers).write(body);
  socket.setTimeout(LINGER_MS, () => socket.destroy());
}

/** Holds back bodies that together would not fit; the parser's limit holds each to its length. */
function bound(server: FastifyInstance, most: number): void {
  let held = 0;
  server.addHook("onRequest", (request, response, next) => {
    const size = announced(request, most);
    if (size > most || held + size > MOST_BYTES_IN_FLIGHT) {
      refuse(request, response, size > most ? 413 : 503);
      return;
    }
    held += size;
    // Answered or torn: fastify's own hooks miss a caller who leaves while his review waits for its turn.
    response.raw.once("close", () => (held -= size));
    next();
  });
}

/** With the time at which the review was there, in ms. */
type Serving = AdmissionRoutesOptions & { readonly arrived: number };

/** A caller who left while his review waited is spared the work: he asks again. */
function serve(webhook: Webhook, options: Serving, request: FastifyRequest, response: FastifyReply): FastifyReply {
  if (request.raw.socket.destroyed) return response.hijack();
  const { settings, snapshot, clock, arrived } = options;
  const reply = review(readBody(request.body), webhook, { settings, snapshot: snapshot() });
  count(webhook, options, reply);
  options.metrics.observe("tandem_admission_duration_seconds", (clock.monotonic() - arrived) / 1000, { webhook });
  return response.code(reply.status).send(reply.body);
}

function count(webhook: Webhook, { metrics, log }: AdmissionRoutesOptions, reply: ReviewReply): void {
  const kind = ["Deployment", "StatefulSet", "Pod"].includes(reply.kind) ? reply.kind : "other";
  metrics.count("tandem_admission_requests_total", { webhook, kind, outcome: reply.outcome });
  for (const { outcome, reason } of reply.verdicts)
    metrics.count("tandem_admission_verdicts_total", { outcome, reason });
  if (reply.outcome !== "denied" && reply.outcome !== "malformed") return;
  const reasons = reply.verdicts.filter(({ outcome }) => outcome === "denied").map(({ reason }) => reason);
  log.info("admission refused", { webhook, kind, outcome: reply.outcome, reasons });
}
