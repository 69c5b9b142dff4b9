/**
 * The HTTP edge that both dialects share: when a call may be judged, how long it took, what is counted of it, and what a
 * failed one is told. It knows no verb and no wire format, and decides nothing about pods.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../config/schema.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Verdict } from "../kinds/verdict.ts";
import type { Clock, Log, Metrics } from "../ports.ts";
import type { Devices } from "../profiles/devices.ts";
import { BadCall } from "./bad-call.ts";
import { ExtenderMemo } from "./view.ts";

export interface EdgeOptions {
  readonly config: Pick<Config, "extender" | "gang" | "topology">;
  /** The device profiles there are, and that of workloads that name none. */
  readonly devices: Devices;
  /** The cluster now, and whether the store has been filled once. The same object while nothing changed. */
  readonly cluster: () => { readonly snapshot: ClusterSnapshot; readonly synced: boolean };
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** What a verb decided: the answer, and the verdicts for metrics and log. */
export interface Answer {
  readonly status?: number;
  readonly body: unknown;
  readonly verdicts: Iterable<Verdict>;
}

export const memoOf = ({ config, devices, clock }: EdgeOptions): ExtenderMemo =>
  new ExtenderMemo({
    ...{ topology: config.topology, devices, bindMs: config.gang.bindSeconds * 1000 },
    now: () => clock.now(),
  });

/** A call on its way: its name in metrics and log, and monotonic milliseconds at its first header byte. */
export interface Call {
  readonly verb: string;
  readonly start: number;
}

/** `POST url`, timed from the first header byte on, counted and logged. */
export function serveVerb(
  app: FastifyInstance,
  { url, verb, options }: { readonly url: string; readonly verb: string; readonly options: EdgeOptions },
  answer: (body: unknown, call: Call) => Answer | Promise<Answer>,
): void {
  const { clock, config } = options;
  const began = new WeakMap<FastifyRequest, number>();
  app.post(url, {
    bodyLimit: config.extender.maxBodyBytes,
    onRequest: (request, _, next) => {
      began.set(request, clock.monotonic());
      next();
    },
    handler: async (request, reply) => {
      const call = { verb, start: began.get(request) ?? clock.monotonic() };
      const { status = 200, body, verdicts } = await answer(request.body, call);
      report(call, verdicts, options);
      return reply
        .code(status)
        .type("application/json; charset=utf-8")
        .send(typeof body === "string" ? Buffer.from(body) : body);
    },
  });
}

function report({ verb, start }: Call, verdicts: Iterable<Verdict>, { clock, metrics, log }: EdgeOptions): void {
  const counts = new Map<string, number>();
  for (const { reason } of verdicts) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const ms = clock.monotonic() - start;
  metrics.observe("tandem_extender_duration_seconds", ms / 1000, { verb });
  for (const [reason, count] of counts) metrics.count("tandem_extender_verdicts_total", { verb, reason }, count);
  log.debug("extender", { verb, ms, verdicts: Object.fromEntries(counts) });
}

const NOT_SYNCED = "ClusterNotSynced: Tandem's store has not been filled yet";

/**
 * Why nothing may be judged now. A decision is made in one go, some milliseconds at 5000 nodes; the time that may run out
 * is that of the body on its way in, after which the scheduler no longer listens. `about` is for the log.
 */
export function unjudgeable({ verb, start }: Call, options: EdgeOptions, about: object = {}): string | undefined {
  const { clock, config, cluster, log } = options;
  const { timeoutMs } = config.extender;
  if (clock.monotonic() - start <= timeoutMs) return cluster().synced ? undefined : NOT_SYNCED;
  log.warn("extender call came in too slowly", { verb, ...about });
  return `the call took longer than ${timeoutMs} ms to arrive`;
}

type Failure = Error & { readonly statusCode?: number };

interface Refusal {
  readonly log: Log;
  readonly body: (message: string) => unknown;
}

/** What the caller did wrong is said to the caller; what we did wrong is logged, and the attempt fails. */
export function answerErrors(app: FastifyInstance, { log, body }: Refusal): void {
  app.setErrorHandler((error: Failure, request: FastifyRequest, reply: FastifyReply) => {
    const status = error instanceof BadCall ? error.status : (error.statusCode ?? 500);
    const fields = { path: request.url, error: error.message };
    if (status < 500) log.warn("extender call refused", fields);
    else log.error("extender failed", { ...fields, stack: error.stack });
    return reply.code(status).send(body(status < 500 ? error.message : "internal error of Tandem's extender"));
  });
}
