/**
 * The request router: from a whole request to where it goes. request -> kv -> pick -> disagg, each a room of its own.
 *
 * Decides from the bytes of the request, the directory of endpoints, the work it sent itself and the prefix index.
 * Keeps nothing of a request beyond its end, never writes a prompt anywhere, and never trusts a header of the client
 * for where to go.
 */
import { jsonAnswer, type Problem } from "./answers.ts";
import { modelsOf, type Directory } from "./directory.ts";
import type { Answer, Begun, CompleteRequest, RequestRouter } from "./exchange.ts";
import { Journey, refuse, type RouterDependencies } from "./journey.ts";
import { checkHead, MODELS_PATH, pathOf, tooLarge } from "./request/facts.ts";

export type { RouterDependencies } from "./journey.ts";

const BODIES_FULL: Problem = {
  status: 503,
  reason: "Saturated",
  message: "the router holds as many request bodies as it may",
};

export function createRouter(deps: RouterDependencies): RequestRouter {
  const { maxBodyBytes } = deps.config;
  return {
    maxBodyBytes,
    begin: (request) => begin(deps, request),
    precheck: (head) => precheck(deps, head),
    tooLarge: () => refuse(deps, tooLarge(maxBodyBytes)),
    saturated: () => refuse(deps, BODIES_FULL),
  };
}

function begin(deps: RouterDependencies, request: CompleteRequest): Begun {
  const journey = new Journey(deps, request);
  return { ticket: journey, routed: journey.run() };
}

function precheck(deps: RouterDependencies, head: Omit<CompleteRequest, "body">): Answer | undefined {
  const problem = checkHead(head.method, head.path, head.headers, deps.config.maxBodyBytes);
  if (problem !== undefined) return refuse(deps, problem);
  return pathOf(head.path) === MODELS_PATH ? listModels(deps.directory, head.namespace) : undefined;
}

/** The models of all endpoints that the request may reach, in the shape of OpenAI's list. */
const listModels = (directory: Directory, namespace: string | undefined): Answer =>
  jsonAnswer(200, {
    object: "list",
    data: modelsOf(directory.list(), namespace).map((id) => ({ id, object: "model", owned_by: "tandem" })),
  });
