/**
 * The request router: from a whole request to where it goes. request -> kv -> pick -> disagg, each a room of its own.
 *
 * Decides from the bytes of the request, the directory of endpoints, the work it sent itself and the prefix index.
 * Keeps nothing of a request beyond its end, never writes a prompt anywhere, and never trusts a header of the client
 * for where to go.
 */
import { jsonAnswer, type Problem } from "./answers.ts";
import { modelsOf } from "./directory.ts";
import { PeerBook } from "./disagg/peers.ts";
import type { Answer, Begun, CompleteRequest, RequestRouter } from "./exchange.ts";
import { HitWatch } from "./hits.ts";
import { Journey, refuse, type JourneyDependencies, type RouterDependencies } from "./journey.ts";
import type { FactsConfig } from "./request/facts.ts";
import { checkHead, isLocated, locate, tooLarge } from "./request/head.ts";
import { TokenRates } from "./tokenize/rates.ts";

export type { RouterDependencies } from "./journey.ts";

/** Not 503: that a proxy takes for the upstream's, and tries again at once. */
const BODIES_FULL: Problem = {
  status: 429,
  reason: "Saturated",
  message: "the router holds as many request bodies as it may",
};
const tooSlow = (seconds: number): Problem => ({
  status: 408,
  reason: "BodyTooSlow",
  message: `the request body was not here within ${seconds} s`,
});

/** For everything but the prefill legs; connections that are refused cost a millisecond each. */
const SLACK_MS = 1000;

export function createRouter(deps: RouterDependencies): RequestRouter {
  const { maxBodyBytes, bodyTimeoutMs, prefill, hold } = deps.config;
  const learned = {
    rates: deps.rates ?? new TokenRates(),
    hits: new HitWatch(deps),
    peers: new PeerBook(deps.client, deps.clock),
  };
  const routing = { ...deps, ...learned, facts: factsConfig(deps) };
  return {
    maxBodyBytes,
    bodyTimeoutMs,
    // A leg that is lost is tried once more.
    get patienceMs() {
      return 2 * prefill.timeoutMs + SLACK_MS + (deps.wakeable?.isEmpty === false ? hold.ttlMs : 0);
    },
    begin: (request) => begin(routing, request),
    precheck: (head) => precheck(deps, head),
    tooLarge: (path) => refuse(deps, tooLarge(maxBodyBytes), path),
    tooSlow: (path) => refuse(deps, tooSlow(bodyTimeoutMs / 1000), path),
    saturated: (path) => refuse(deps, BODIES_FULL, path),
  };
}

const factsConfig = ({ config, saltKey }: RouterDependencies): FactsConfig => ({
  aliases: config.aliases,
  rates: config.index,
  unsalted: config.tenant.unsalted,
  ...(saltKey === undefined ? {} : { saltKey }),
});

function begin(deps: JourneyDependencies, request: CompleteRequest): Begun {
  const journey = new Journey(deps, request);
  return { ticket: journey, routed: journey.run() };
}

function precheck(deps: RouterDependencies, head: Omit<CompleteRequest, "body">): Answer | undefined {
  const problem = checkHead(deps.config, head);
  if (problem !== undefined) return refuse(deps, problem, head.path);
  const located = locate(deps.config, head);
  return isLocated(located) && located.models ? listModels(deps, head.namespace) : undefined;
}

/**
 * The models of all endpoints that the request may reach, or that are started for it, adapters and aliases included, in the shape of
 * OpenAI's list. An alias says what it stands for, as vLLM's list does of adapters.
 */
function listModels({ directory, config, wakeable }: RouterDependencies, namespace: string | undefined): Answer {
  const ready = modelsOf(directory.list(), namespace);
  const served = [...new Set([...ready, ...(wakeable?.models(namespace) ?? [])])].sort();
  const aliases = Object.entries(config.aliases).filter(
    ([alias, model]) => served.includes(model) && !served.includes(alias),
  );
  const model = (id: string, root = id): object => ({ id, object: "model", owned_by: "tandem", root });
  const data = [...served.map((id) => model(id)), ...aliases.map(([alias, root]) => model(alias, root))];
  return jsonAnswer(200, { object: "list", data });
}
