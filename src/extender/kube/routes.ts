/** HTTP edge of the extender: `POST /extender/filter` and `POST /extender/prioritize`, as a fastify plugin. */
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../../config/schema.ts";
import { keyOf } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Clock, Log, Metrics } from "../../ports.ts";
import type { Devices } from "../../profiles/devices.ts";
import { filterNodes, prioritizeNodes } from "../decide.ts";
import { ExtenderMemo, type ClusterView } from "../view.ts";
import { BadCall, WholeNodes, decodeArgs, filterError, filterResult, priorities, type ExtenderArgs } from "./wire.ts";

export interface ExtenderOptions {
  readonly extender: Config["extender"];
  readonly topology: Config["topology"];
  readonly gang: Config["gang"];
  /** The device profiles there are, and that of workloads that name none. */
  readonly devices: Devices;
  /** The cluster now, and whether the store has been filled once. The same object while nothing changed. */
  readonly cluster: () => { readonly snapshot: ClusterSnapshot; readonly synced: boolean };
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

type Verb = "filter" | "prioritize";

/** What a verb decided: the answer, and the verdicts for metrics and log. */
interface Answer {
  readonly body: unknown;
  readonly verdicts: Iterable<Verdict>;
}

const NOT_SYNCED = "ClusterNotSynced: Tandem's store has not been filled yet";

/** The routes, with one memo of their own. */
export function extenderRoutes(options: ExtenderOptions): FastifyPluginCallback {
  const memo = memoOf(options);
  return (app, _, done) => {
    app.setErrorHandler((error, request, reply) => answerError(error as Failure, { request, reply, log: options.log }));
    const route = routeOf(app, options, memo);
    route("filter", filter);
    route("prioritize", prioritize);
    done();
  };
}

const memoOf = ({ topology, devices, gang, clock }: ExtenderOptions): ExtenderMemo =>
  new ExtenderMemo({ topology, devices, bindMs: gang.bindSeconds * 1000, now: () => clock.now() });

type Decide = (args: ExtenderArgs, view: ClusterView) => Answer;

function filter({ pod, nodeNames }: ExtenderArgs, view: ClusterView): Answer {
  const filtered = filterNodes(pod, nodeNames, view);
  return { body: filterResult(filtered), verdicts: filtered.refused.values() };
}

function prioritize({ pod, nodeNames }: ExtenderArgs, view: ClusterView): Answer {
  const scores = prioritizeNodes(pod, nodeNames, view);
  return { body: priorities(scores), verdicts: scores.map(({ verdict }) => verdict) };
}

function routeOf(
  app: FastifyInstance,
  options: ExtenderOptions,
  memo: ExtenderMemo,
): (verb: Verb, decide: Decide) => void {
  const { clock, metrics, log, extender } = options;
  return (verb, decide) => {
    const began = new WeakMap<FastifyRequest, number>();
    app.post(`/extender/${verb}`, {
      bodyLimit: extender.maxBodyBytes,
      onRequest: (request, _, next) => {
        began.set(request, clock.monotonic());
        next();
      },
      handler: (request, reply) => {
        const start = began.get(request) ?? clock.monotonic();
        const answer = answerTo(verb, request.body, { decide, options, memo, start });
        metrics.observe("tandem_extender_duration_seconds", (clock.monotonic() - start) / 1000, { verb });
        for (const [reason, count] of tally(answer.verdicts))
          metrics.count("tandem_extender_verdicts_total", { verb, reason }, count);
        log.debug("extender", {
          verb,
          ms: clock.monotonic() - start,
          verdicts: Object.fromEntries(tally(answer.verdicts)),
        });
        return reply.send(answer.body);
      },
    });
  };
}

interface Call {
  readonly decide: Decide;
  readonly options: ExtenderOptions;
  readonly memo: ExtenderMemo;
  /** Monotonic milliseconds at the first header byte. */
  readonly start: number;
}

/**
 * One call. A decision is made in one go, some milliseconds at 5000 nodes; the time that may run out is that of the body
 * on its way in, after which the scheduler no longer listens. Without a full store nothing may be judged: filter fails
 * the attempt, which is made again, and prioritize, whose errors the scheduler ignores, prefers no node.
 */
function answerTo(verb: Verb, body: unknown, { decide, options, memo, start }: Call): Answer {
  const args = decodeArgs(body);
  const { extender, clock, cluster, log } = options;
  const { snapshot, synced } = cluster();
  const late = clock.monotonic() - start > extender.timeoutMs;
  if (late) log.warn("extender call came in too slowly", { verb, pod: keyOf(args.pod) });
  if (synced && !late) return decide(args, memo.view(snapshot));
  const message = late ? `the call took longer than ${extender.timeoutMs} ms to arrive` : NOT_SYNCED;
  const none = args.nodeNames.map((host) => ({ Host: host, Score: 0 }));
  return { body: verb === "filter" ? filterError(message) : none, verdicts: [] };
}

function tally(verdicts: Iterable<Verdict>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { reason } of verdicts) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return counts;
}

type Failure = Error & { readonly statusCode?: number };

interface Broken {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly log: Log;
}

function statusOf(error: Failure): number {
  if (error instanceof WholeNodes) return 200;
  return error instanceof BadCall ? 400 : (error.statusCode ?? 500);
}

/** What the caller did wrong is said to the caller; what we did wrong is logged, and the attempt fails. */
function answerError(error: Failure, { request, reply, log }: Broken): FastifyReply {
  const status = statusOf(error);
  const fields = { path: request.url, error: error.message };
  if (status < 500) log.warn("extender call refused", fields);
  else log.error("extender failed", { ...fields, stack: error.stack });
  return reply.code(status).send(filterError(status < 500 ? error.message : "internal error of Tandem's extender"));
}
