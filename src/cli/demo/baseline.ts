/**
 * Round robin for comparison: endpoints in turn, nothing remembered, the same legs over the same wire. It stands behind
 * the same gateway and ext_proc server as the real router, so that the two differ in the choice alone.
 */
import type { EngineClient } from "../../ports.ts";
import { PARAMS, wholeBody } from "../../router/disagg/bodies.ts";
import { runPrefillLeg, type LegOutcome } from "../../router/disagg/leg.ts";
import { pull } from "../../router/disagg/wires/pull.ts";
import type { CompleteRequest, RequestRouter, Routed } from "../../router/exchange.ts";
import { problemAnswer } from "../../router/answers.ts";
import type { HeaderList } from "../../router/headers.ts";
import { apiOf, OPAQUE } from "../../router/request/apis.ts";
import { isProblem, readFacts, type FactsConfig, type RequestFacts } from "../../router/request/facts.ts";
import { pathOf } from "../../router/request/head.ts";
import { HEADER } from "../../kinds/names.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";

const TIMEOUT_MS = 30_000;
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** Nothing but the body counts here. */
const PLAIN: FactsConfig = { aliases: {}, rates: { bytesPerToken: 4, mediaTokens: 0 }, unsalted: "route" };

/** Pulled transfers are told everything by the prefill engine. */
const FIXED = { chance: 0 };
const nothing = (): void => undefined;
const IDLE = { served: nothing, responseStarted: nothing, firstToken: nothing, usage: nothing, finish: nothing };

export function roundRobinRouter(endpoints: readonly Endpoint[], client: EngineClient): RequestRouter {
  const prefill = endpoints.filter(({ role }) => role === "prefill");
  const decode = endpoints.filter(({ role }) => role !== "prefill");
  let turn = 0;
  const route = async (request: CompleteRequest): Promise<Routed> => {
    const { body, headers } = request;
    const api = apiOf(pathOf(request.path)) ?? OPAQUE;
    const facts = readFacts(PLAIN, { api, body, headers, tenant: "", extent: "whole" });
    if (isProblem(facts)) return problemAnswer(facts);
    const chosen = { number: turn, by: prefill[turn % prefill.length], to: decode[turn % decode.length] };
    turn += 1;
    const leg = await runLeg(request, facts, chosen, client);
    return forward(request, facts, { leg, decode: chosen.to?.address ?? "" });
  };
  return {
    maxBodyBytes: MAX_BODY_BYTES,
    bodyTimeoutMs: TIMEOUT_MS,
    patienceMs: TIMEOUT_MS,
    begin: (request) => ({ routed: route(request), ticket: IDLE }),
    precheck: () => undefined,
    tooLarge: () => problemAnswer({ status: 413, reason: "BodyTooLarge", message: "too large" }),
    tooSlow: () => problemAnswer({ status: 408, reason: "BodyTooSlow", message: "too slow" }),
    saturated: () => problemAnswer({ status: 503, reason: "Saturated", message: "saturated" }),
  };
}

interface Turn {
  readonly number: number;
  readonly by: Endpoint | undefined;
  readonly to: Endpoint | undefined;
}

const runLeg = (
  request: CompleteRequest,
  facts: RequestFacts,
  { number, by }: Turn,
  client: EngineClient,
): Promise<LegOutcome<Endpoint>> =>
  runPrefillLeg({
    endpoints: by === undefined ? [] : [by],
    attempts: 1,
    client,
    onStart: () => () => undefined,
    request: (endpoint) => ({
      address: endpoint.address,
      method: "POST",
      path: request.path,
      headers: { "content-type": "application/json", [HEADER.requestId]: `round-robin-${number}` },
      body: pull.prefill({ body: request.body, facts, requestId: "" }, { prefill: endpoint, decode: endpoint }, FIXED)
        .body,
      timeoutMs: TIMEOUT_MS,
    }),
  });

function forward(
  request: CompleteRequest,
  facts: RequestFacts,
  { leg, decode }: { leg: LegOutcome<Endpoint>; decode: string },
): Routed {
  const moved = leg.kind === "transferred" ? leg : undefined;
  const reported: HeaderList =
    moved === undefined ? [] : [[HEADER.cachedTokens, String(moved.usage.cachedTokens ?? 0)]];
  return {
    kind: "forward",
    destination: decode,
    requestHeaders: [[HEADER.destination, decode]],
    responseHeaders: [
      [HEADER.decodeEndpoint, decode],
      [HEADER.prefillEndpoint, moved?.by.address ?? decode],
      ...reported,
    ],
    body:
      moved === undefined
        ? wholeBody(request.body, facts)
        : wholeBody(request.body, facts, new Map([[PARAMS, moved.params]])),
  };
}
