/**
 * One request on its way: facts, selection, prefill leg, and where the decode leg goes. Finished exactly once,
 * whichever way it ends; what it holds on endpoints is released then.
 */
import { HEADER } from "../kinds/names.ts";
import type { Reason, Verdict } from "../kinds/verdict.ts";
import type { EngineClient, EngineRequest, Log, Metrics, Random, Timers } from "../ports.ts";
import { engineAnswer, problemAnswer, type Problem } from "./answers.ts";
import { decodeBody, prefillBody } from "./disagg/bodies.ts";
import { legHeaders } from "./disagg/headers.ts";
import { runPrefillLeg, type LegOutcome, type Meaning } from "./disagg/leg.ts";
import type { Answer, CompleteRequest, Forward, Routed, Ticket, Usage } from "./exchange.ts";
import { headerOf, type HeaderList } from "./headers.ts";
import type { PricedPrefill } from "./pick/pick.ts";
import { Placement, SHUN_MS } from "./placement.ts";
import { isProblem, readFacts, type FactsConfig, type RequestFacts } from "./request/facts.ts";
import { errorsOf, isLocated, locate, pathOf, type Located } from "./request/head.ts";
import { isRefused, select, servedBy, type SelectDependencies, type Selection } from "./select.ts";
import type { PromptTokenizer, PromptTokens } from "./tokenize/tokens.ts";
import { AnswerTokens } from "./tokens.ts";

export interface RouterDependencies extends SelectDependencies {
  readonly client: EngineClient;
  readonly random: Random;
  readonly timers: Timers;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Told of every pick; for people who watch. */
  readonly onPick?: (verdict: Verdict) => void;
  /** Where engines keep the prefix caches of tenants apart. */
  readonly saltKey?: Buffer;
  /** Where tokens of prompts are to be had. */
  readonly tokenizer?: PromptTokenizer;
}

export interface JourneyDependencies extends RouterDependencies {
  readonly facts: FactsConfig;
}

const GONE: CompleteRequest = { method: "", path: "", headers: [], body: Buffer.alloc(0) };

/** One for all: it is kept as long as the stream. */
const NO_HEADERS: HeaderList = [];

type Leg = LegOutcome<PricedPrefill>;

const LOST: Problem = { status: 503, reason: "PrefillLost", message: "the prefill engine was lost; try again" };

/** The answer to a problem, counted, in the shape that the clients of the path understand. */
export function refuse({ metrics }: { metrics: Metrics }, problem: Problem, path = ""): Answer {
  metrics.count("tandem_router_requests_total", { outcome: String(problem.status), reason: problem.reason });
  return problemAnswer(problem, errorsOf(path));
}

export class Journey implements Ticket {
  readonly #deps: JourneyDependencies;
  #request: CompleteRequest;
  /** There while a prefill leg runs. */
  #leg: AbortController | undefined;
  #requestId: string;
  readonly #tokens: AnswerTokens;
  #placement: Placement | undefined;
  /** Prefill ran where the answer is generated, so that its usage tells of the cache. */
  #local = false;
  #streams = false;
  /** What engines are asked for. */
  #path = "";
  #over = false;

  constructor(deps: JourneyDependencies, request: CompleteRequest) {
    this.#deps = deps;
    this.#request = request;
    this.#requestId = uniqueId(headerOf(request.headers, HEADER.requestId), deps.random);
    this.#tokens = new AnswerTokens(deps.clock, deps.metrics);
  }

  /**
   * Where the request goes. To be called once. Then the request, with its body, is let go: answers take minutes, and a
   * path that is a piece of the head's text holds half a kilobyte.
   */
  async run(): Promise<Routed> {
    try {
      return await this.#route();
    } finally {
      this.#request = GONE;
      this.#path = "";
      this.#requestId = "";
    }
  }

  served(address: string): void {
    this.#placement?.served(address);
  }

  responseStarted(): void {
    this.#placement?.settled();
    if (!this.#streams) this.#placement?.prefilled();
  }

  firstToken(): void {
    this.#tokens.started();
    this.#placement?.prefilled();
  }

  usage(usage: Usage): void {
    this.#tokens.ended(usage);
    if (this.#local) this.#countTokens("actual", usage.cachedTokens ?? 0);
  }

  finish(): void {
    this.#over = true;
    this.#leg?.abort();
    this.#placement?.end();
  }

  async #route(): Promise<Routed> {
    const started = this.#deps.clock.monotonic();
    const located = locate(this.#deps.config, this.#request);
    if (!isLocated(located)) return this.#refuse(located);
    this.#path = located.path;
    const facts = this.#read(located);
    if (isProblem(facts)) return this.#refuse(facts);
    this.#streams = facts.stream;
    const asked = this.#deps.tokenizer === undefined ? undefined : this.#tokensOf(facts);
    // Nothing asked, nothing awaited: a turn of the microtask queue is a turn of every stream.
    const selection = select(this.#deps, facts, this.#request, asked === undefined ? undefined : await asked);
    if (isRefused(selection)) return this.#refuse(selection);
    this.#deps.metrics.observe("tandem_router_pick_duration_seconds", (this.#deps.clock.monotonic() - started) / 1000);
    this.#deps.onPick?.(selection.pick.verdict);
    this.#assign(selection);
    const leg: Leg = selection.pick.prefill.length === 0 ? { kind: "local" } : await this.#prefillLeg(facts, selection);
    this.#leg = undefined;
    return this.#conclude(facts, selection, leg);
  }

  #read({ api, tenant, opaque }: Located): RequestFacts | Problem {
    const { body, headers, scan, extent = "whole" } = this.#request;
    const input = { api, body, headers, tenant, extent: opaque ? ("none" as const) : extent };
    return readFacts(this.#deps.facts, scan === undefined ? input : { ...input, scan });
  }

  #tokensOf(facts: RequestFacts): Promise<PromptTokens | undefined> | undefined {
    const served = servedBy(this.#deps, facts.model, this.#request.namespace);
    if (served === undefined) return undefined;
    const { model, fleet } = served;
    return this.#deps.tokenizer?.tokens({
      ...{ facts, model, body: this.#request.body },
      endpoints: [fleet.decode, fleet.prefill],
    });
  }

  #refuse(problem: Problem): Answer {
    return refuse(this.#deps, problem, this.#request.path);
  }

  #assign({ prompt, pick }: Selection): void {
    this.#placement = new Placement(this.#deps, pick.decode.endpoint, prompt.keys);
    // The client went away before its request was here whole.
    if (this.#over) this.#placement.end();
    this.#countTokens("prompt", prompt.tokens);
    this.#countTokens("predicted", (pick.prefill[0]?.candidate ?? pick.decode).cachedTokens);
  }

  #prefillLeg(facts: RequestFacts, { prompt, pick }: Selection): Promise<Leg> {
    const abort = new AbortController();
    this.#leg = abort;
    return runPrefillLeg({
      endpoints: pick.prefill,
      attempts: this.#deps.config.prefill.attempts,
      client: this.#deps.client,
      request: (priced) => this.#legRequest(facts, priced, abort.signal),
      onStart: (priced) => {
        this.#deps.index.record(priced.candidate.endpoint.id, prompt.keys);
        return this.#trackLeg(priced);
      },
    });
  }

  #legRequest(facts: RequestFacts, { candidate: { endpoint } }: PricedPrefill, signal: AbortSignal): EngineRequest {
    return {
      address: endpoint.address,
      method: "POST",
      path: pathOf(this.#path),
      headers: legHeaders(this.#request.headers, this.#deps.config.prefill.headers, this.#requestId),
      body: prefillBody(this.#request.body, facts, endpoint.compatibility.connector),
      timeoutMs: this.#deps.config.prefill.timeoutMs,
      signal,
    };
  }

  /** Work on the prefill endpoint until the returned function tells how it ended. */
  #trackLeg({ candidate: { endpoint }, ownMs }: PricedPrefill): (meaning: Meaning) => void {
    const { loads, metrics, clock, log } = this.#deps;
    const started = clock.monotonic();
    const releases = [loads.request(endpoint.id), loads.prefill(endpoint.id, ownMs)];
    return (outcome) => {
      for (const release of releases) release();
      metrics.count("tandem_router_prefill_legs_total", { outcome });
      if (outcome === "done")
        metrics.observe("tandem_router_prefill_duration_seconds", (clock.monotonic() - started) / 1000);
      if (outcome === "untouched") loads.shun(endpoint.id, clock.monotonic() + SHUN_MS);
      if (outcome === "untouched" || outcome === "lost") log.warn("prefill leg", { endpoint: endpoint.name, outcome });
    };
  }

  #conclude(facts: RequestFacts, selection: Selection, leg: Leg): Routed {
    if (leg.kind === "refusal") return engineAnswer(leg.status, leg.body);
    if (leg.kind === "failed") return this.#refuse(LOST);
    // The client went away: nobody reads this, and no engine failed.
    if (leg.kind === "aborted") return problemAnswer(LOST);
    this.#local = leg.kind === "local";
    if (leg.kind === "local") this.#placement?.prefillHere(selection.pick.localOwnMs);
    else this.#countTokens("actual", leg.cachedTokens ?? 0);
    const reason: Reason = leg.kind === "local" ? "LocalPrefill" : "Picked";
    this.#deps.metrics.count("tandem_router_requests_total", { outcome: "forwarded", reason });
    return this.#forward(facts, selection, leg);
  }

  #forward(facts: RequestFacts, selection: Selection, leg: Extract<Leg, { kind: "transferred" | "local" }>): Forward {
    const { decode, fallbacks } = selection.pick;
    const destination = [decode.endpoint, ...fallbacks].map(({ address }) => address).join(",");
    return {
      kind: "forward",
      destination,
      requestHeaders: [[HEADER.destination, destination], [HEADER.requestId, this.#requestId], ...this.#newPath()],
      responseHeaders: this.#deps.config.explainHeaders ? explain(selection, leg) : NO_HEADERS,
      body: decodeBody(this.#request.body, facts, leg.kind === "transferred" ? leg.params : undefined),
    };
  }

  /** Engines are not asked for the segment that named the tenant. */
  #newPath(): HeaderList {
    return this.#path === this.#request.path ? [] : [[":path", this.#path]];
  }

  #countTokens(kind: "prompt" | "predicted" | "actual", tokens: number): void {
    if (tokens > 0) this.#deps.metrics.count("tandem_router_cached_tokens_total", { kind }, tokens);
  }
}

/** What was chosen and expected, for the client who may see it. */
function explain({ pick }: Selection, leg: Extract<Leg, { kind: "transferred" | "local" }>): HeaderList {
  const { endpoint } = pick.decode;
  const by = leg.kind === "transferred" ? leg.by.candidate : pick.decode;
  const reported: HeaderList =
    leg.kind === "transferred" && leg.cachedTokens !== undefined
      ? [[HEADER.cachedTokens, String(leg.cachedTokens)]]
      : [];
  return [
    [HEADER.decodeEndpoint, endpoint.address],
    [HEADER.prefillEndpoint, by.endpoint.address],
    [HEADER.predictedCachedTokens, String(by.cachedTokens)],
    [HEADER.reason, leg.kind === "local" ? "LocalPrefill" : "Picked"],
    ...reported,
  ];
}

/** The caller's id for its traces, made unique: engines key KV transfers by it, and two callers may share one. */
const uniqueId = (given: string, random: Random): string =>
  [given.replace(/[^\w.-]/g, "").slice(0, 64), random.id()].filter((part) => part !== "").join("-");
