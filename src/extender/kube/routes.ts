/** HTTP edge of the extender, as a fastify plugin: `POST /extender/` and `filter`, `prioritize`, `preempt` or `bind`. */
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../../config/schema.ts";
import { keyOf, type Pod } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Clock, Log, Metrics } from "../../ports.ts";
import type { Devices } from "../../profiles/devices.ts";
import { filterNodes, prioritizeNodes } from "../decide.ts";
import { ExtenderMemo, type ClusterView } from "../view.ts";
import { createBinder, type Binder, type BinderOptions } from "../bind/loop.ts";
import type { Binding } from "../bind/outcome.ts";
import { preemptOn } from "../preempt.ts";
import {
  BadCall,
  WholeNodes,
  bindingResult,
  decodeArgs,
  decodeBinding,
  decodePreemption,
  filterError,
  encodeFilterResult,
  preemptionResult,
  priorities,
  type ExtenderArgs,
  type ExtenderPreemptionArgs,
} from "./wire.ts";

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
  /** Given where the extender binds: then it answers `bind`, too. */
  readonly bind?: Pick<BinderOptions, "api" | "timers">;
}

/** What a verb decided: the answer, and the verdicts for metrics and log. */
interface Answer {
  readonly status?: number;
  readonly body: unknown;
  readonly verdicts: Iterable<Verdict>;
}

/** One verb of the protocol. */
interface Verb<Args> {
  readonly name: string;
  decode(body: unknown): Args;
  /** Pod and node, for the log. */
  about(args: Args): string;
  decide(args: Args, view: () => ClusterView): Answer | Promise<Answer>;
  /** The answer where nothing may be judged: it makes the scheduler try again. */
  unjudged(args: Args, message: string): unknown;
  readonly unjudgedStatus?: number;
}

const NOT_SYNCED = "ClusterNotSynced: Tandem's store has not been filled yet";

/** The routes, with one memo of their own. `bind` is served where a port to bind by is given. */
export function extenderRoutes(options: ExtenderOptions): FastifyPluginCallback {
  const memo = memoOf(options);
  return (app, _, done) => {
    parseJson(app);
    app.setErrorHandler((error, request, reply) => answerError(error as Failure, { request, reply, log: options.log }));
    const around: Around = { app, options, memo };
    route(around, FILTER);
    route(around, PRIORITIZE);
    route(around, PREEMPT);
    const binder = binderOf(options, memo);
    if (binder !== undefined) {
      route(around, bindVerb(binder));
      app.addHook("onClose", (_, closed) => {
        binder.stop();
        closed();
      });
    }
    done();
  };
}

/**
 * Plain JSON.parse: fastify's own parser searches each call of 200 KB for `__proto__` besides (0.8 ms). Here fields are
 * decoded one by one, and own keys only.
 */
function parseJson(app: FastifyInstance): void {
  app.removeContentTypeParser("application/json");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_, body, done) => {
    try {
      done(null, JSON.parse(String(body)));
    } catch (error) {
      done(new BadCall(`the body is no JSON: ${(error as Error).message}`));
    }
  });
}

const memoOf = ({ topology, devices, gang, clock }: ExtenderOptions): ExtenderMemo =>
  new ExtenderMemo({ topology, devices, bindMs: gang.bindSeconds * 1000, now: () => clock.now() });

function binderOf({ bind, cluster, clock, log, extender }: ExtenderOptions, memo: ExtenderMemo): Binder | undefined {
  if (bind === undefined) return undefined;
  const view = (): ClusterView => memo.view(cluster().snapshot);
  return createBinder({ ...bind, view, holds: memo.holds, timeoutMs: extender.timeoutMs, clock, log });
}

const aboutPod = ({ pod }: { readonly pod: Pod }): string => keyOf(pod);

const FILTER: Verb<ExtenderArgs> = {
  name: "filter",
  decode: decodeArgs,
  about: aboutPod,
  decide: ({ pod, nodeNames }, view) => {
    const filtered = filterNodes(pod, nodeNames, view());
    return { body: encodeFilterResult(filtered), verdicts: filtered.refused.values() };
  },
  unjudged: (_, message) => filterError(message),
};

/** The scheduler ignores its errors: no node is preferred then. */
const PRIORITIZE: Verb<ExtenderArgs> = {
  name: "prioritize",
  decode: decodeArgs,
  about: aboutPod,
  decide: ({ pod, nodeNames }, view) => {
    const scores = prioritizeNodes(pod, nodeNames, view());
    return { body: priorities(scores), verdicts: scores.map(({ verdict }) => verdict) };
  },
  unjudged: ({ nodeNames }) => nodeNames.map((host) => ({ Host: host, Score: 0 })),
};

/** Its result has no place for an error; any other status than 200 is one. */
const PREEMPT: Verb<ExtenderPreemptionArgs> = {
  name: "preempt",
  decode: decodePreemption,
  about: aboutPod,
  decide: ({ pod, candidates }, view) => {
    const preempted = preemptOn(pod, candidates, view());
    return { body: preemptionResult(preempted), verdicts: preempted.verdicts.values() };
  },
  unjudged: (_, message) => filterError(message),
  unjudgedStatus: 503,
};

const bindVerb = (binder: Binder): Verb<Binding> => ({
  name: "bind",
  decode: decodeBinding,
  about: ({ namespace, name, node }) => `${namespace}/${name} to ${node}`,
  decide: async (binding) => {
    const verdict = await binder.bind(binding);
    return { body: bindingResult(verdict), verdicts: [verdict] };
  },
  unjudged: (_, message) => ({ Error: message }),
});

interface Around {
  readonly app: FastifyInstance;
  readonly options: ExtenderOptions;
  readonly memo: ExtenderMemo;
}

function route<Args>({ app, options, memo }: Around, verb: Verb<Args>): void {
  const { clock, metrics, log, extender } = options;
  const began = new WeakMap<FastifyRequest, number>();
  app.post(`/extender/${verb.name}`, {
    bodyLimit: extender.maxBodyBytes,
    onRequest: (request, _, next) => {
      began.set(request, clock.monotonic());
      next();
    },
    handler: async (request, reply) => {
      const start = began.get(request) ?? clock.monotonic();
      const answer = await answerTo(verb, request.body, { options, memo, start });
      const ms = clock.monotonic() - start;
      metrics.observe("tandem_extender_duration_seconds", ms / 1000, { verb: verb.name });
      metrics.gauge("tandem_extender_holds", memo.holds.size);
      const counts = tally(answer.verdicts);
      for (const [reason, count] of counts)
        metrics.count("tandem_extender_verdicts_total", { verb: verb.name, reason }, count);
      log.debug("extender", { verb: verb.name, ms, verdicts: Object.fromEntries(counts) });
      return reply
        .code(answer.status ?? 200)
        .type("application/json; charset=utf-8")
        .send(answer.body);
    },
  });
}

interface Call {
  readonly options: ExtenderOptions;
  readonly memo: ExtenderMemo;
  /** Monotonic milliseconds at the first header byte. */
  readonly start: number;
}

/**
 * One call. A decision is made in one go, some milliseconds at 5000 nodes; the time that may run out is that of the body
 * on its way in, after which the scheduler no longer listens, and that of a binding, which has a deadline of its own.
 * Without a full store nothing may be judged.
 */
function answerTo<Args>(verb: Verb<Args>, body: unknown, { options, memo, start }: Call): Answer | Promise<Answer> {
  const args = verb.decode(body);
  const { extender, clock, cluster, log } = options;
  const { snapshot, synced } = cluster();
  const late = clock.monotonic() - start > extender.timeoutMs;
  if (late) log.warn("extender call came in too slowly", { verb: verb.name, about: verb.about(args) });
  if (synced && !late) return verb.decide(args, () => memo.view(snapshot));
  const message = late ? `the call took longer than ${extender.timeoutMs} ms to arrive` : NOT_SYNCED;
  return { body: verb.unjudged(args, message), status: verb.unjudgedStatus ?? 200, verdicts: [] };
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
