/** kube-scheduler's dialect, as a fastify plugin: `POST /extender/` and `filter`, `prioritize`, `preempt` or `bind`. */
import type { FastifyInstance, FastifyPluginCallback } from "fastify";
import type { Config } from "../../config/schema.ts";
import { keyOf, type Pod } from "../../kinds/kube.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import { BadCall } from "../bad-call.ts";
import { createBinder, type Binder, type BinderOptions } from "../bind/loop.ts";
import type { Binding } from "../bind/outcome.ts";
import { filterNodes, prioritizeNodes, shortlist, type Filtered } from "../decide.ts";
import { answerErrors, memoOf, serveVerb, unjudgeable, type Answer, type Call, type EdgeOptions } from "../server.ts";
import { preemptOn } from "../preempt.ts";
import type { ClusterView, ExtenderMemo } from "../view.ts";
import {
  bindingResult,
  decodeArgs,
  decodeBinding,
  decodePreemption,
  encodeFilterResult,
  encodePriorities,
  filterError,
  preemptionResult,
  type ExtenderArgs,
  type ExtenderPreemptionArgs,
} from "./wire.ts";

export interface ExtenderOptions extends EdgeOptions {
  /** Given where the extender binds: then it answers `bind`, too. */
  readonly bind?: Pick<BinderOptions, "api" | "timers">;
}

/** One verb of the protocol. */
interface Verb<Args> {
  readonly name: string;
  decode(body: unknown): Args;
  /** Pod and node, for the log. */
  about(args: Args): string;
  decide(args: Args, view: () => ClusterView, config: Config["extender"]): Answer | Promise<Answer>;
  /** The answer where nothing may be judged: it makes the scheduler try again. */
  unjudged(args: Args, message: string): unknown;
  readonly unjudgedStatus?: number;
}

/** The routes, with one memo of their own. `bind` is served where a port to bind by is given. */
export function extenderRoutes(options: ExtenderOptions): FastifyPluginCallback {
  const memo = memoOf(options);
  return (app, _, done) => {
    parseJson(app);
    answerErrors(app, { log: options.log, body: filterError });
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

function binderOf({ bind, cluster, clock, log, config }: ExtenderOptions, memo: ExtenderMemo): Binder | undefined {
  if (bind === undefined) return undefined;
  const view = (): ClusterView => memo.view(cluster().snapshot);
  return createBinder({ ...bind, view, holds: memo.holds, timeoutMs: config.extender.timeoutMs, clock, log });
}

const aboutPod = ({ pod }: { readonly pod: Pod }): string => keyOf(pod);

const FILTER: Verb<ExtenderArgs> = {
  name: "filter",
  decode: decodeArgs,
  about: aboutPod,
  decide: ({ pod, nodeNames }, view, config) => {
    const short = config.shortlist ? shortlist(pod, nodeNames, view()) : undefined;
    const filtered = short === undefined ? filterNodes(pod, nodeNames, view()) : { fit: short, refused: NONE_REFUSED };
    return { body: encodeFilterResult(filtered), verdicts: verdictsOf(filtered) };
  },
  unjudged: (_, message) => filterError(message),
};

/** Nodes that are neither taken nor refused are out of the running all the same, and need no words. */
const NONE_REFUSED: Filtered["refused"] = new Map();

/** One for each refused node. */
function* verdictsOf({ refused }: Filtered): Iterable<Verdict> {
  for (const [{ verdict }, names] of refused) for (let count = names.length; count > 0; count--) yield verdict;
}

/** The scheduler ignores its errors: no node is preferred then. */
const PRIORITIZE: Verb<ExtenderArgs> = {
  name: "prioritize",
  decode: decodeArgs,
  about: aboutPod,
  decide: ({ pod, nodeNames }, view) => {
    const scores = prioritizeNodes(pod, nodeNames, view());
    return { body: encodePriorities(scores), verdicts: scores.map(({ verdict }) => verdict) };
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
  serveVerb(app, { url: `/extender/${verb.name}`, verb: verb.name, options }, async (body, call) => {
    const answer = await answerTo(verb, body, { call, options, memo });
    options.metrics.gauge("tandem_extender_holds", memo.holds.size);
    return answer;
  });
}

function answerTo<Args>(
  verb: Verb<Args>,
  body: unknown,
  { call, options, memo }: Pick<Around, "options" | "memo"> & { readonly call: Call },
): Answer | Promise<Answer> {
  const args = verb.decode(body);
  const why = unjudgeable(call, options, { about: verb.about(args) });
  if (why === undefined) return verb.decide(args, () => memo.view(options.cluster().snapshot), options.config.extender);
  return { body: verb.unjudged(args, why), status: verb.unjudgedStatus ?? 200, verdicts: [] };
}
