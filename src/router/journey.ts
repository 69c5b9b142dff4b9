/**
 * One request on its way: facts, selection, prefill leg, and where the decode leg goes. Finished exactly once,
 * whichever way it ends; what it holds on endpoints is released then.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import { HEADER } from "../kinds/names.ts";
import type { Reason, Verdict } from "../kinds/verdict.ts";
import type { EngineClient, Log, Metrics, Random, Timers } from "../ports.ts";
import { engineAnswer, problemAnswer, type Problem } from "./answers.ts";
import { wholeBody } from "./disagg/bodies.ts";
import type { LegFailure } from "./disagg/leg.ts";
import type { PeerBook } from "./disagg/peers.ts";
import type { Answer, CompleteRequest, Forward, Routed, Ticket, Usage } from "./exchange.ts";
import type { Explainer } from "./explain/explainer.ts";
import { costHeader, explainHeaders } from "./explain/headers.ts";
import { forecastOf, type Forecast } from "./forecast.ts";
import { mayWait, type Held, type Holding } from "./flow/holding.ts";
import type { HitWatch } from "./hits.ts";
import { headerOf, type HeaderList } from "./headers.ts";
import { judged, type CountedHits } from "./kv/counted.ts";
import { PrefillLegs, type Handover } from "./legs.ts";
import { Placement } from "./placement.ts";
import { promptOf } from "./prompt.ts";
import { isProblem, readFacts, type FactsConfig, type RequestFacts } from "./request/facts.ts";
import { errorsOf, isLocated, locate, type Located } from "./request/head.ts";
import { isRefused, select, servedBy, type SelectDependencies, type Selection } from "./select.ts";
import { groupOf, type GroupCounters, type Statistics } from "./statistics/groups.ts";
import type { TokenRates } from "./tokenize/rates.ts";
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
  /** Keeps picks that can be asked for. */
  readonly explainer?: Explainer;
  /** Judges the history by engines' counters. */
  readonly counted?: CountedHits;
  /** Counts for the autoscaler. */
  readonly statistics?: Statistics;
  /** Keeps requests until an engine is started for them. */
  readonly holding?: Holding;
}

export interface JourneyDependencies extends RouterDependencies {
  readonly facts: FactsConfig;
  readonly rates: TokenRates;
  readonly hits: HitWatch;
  /** What prefill engines said of themselves. */
  readonly peers: PeerBook;
}

const GONE: CompleteRequest = { method: "", path: "", headers: [], body: Buffer.alloc(0) };

/** One for all: it is kept as long as the stream. */
const NO_HEADERS: HeaderList = [];

const LOST: Problem = { status: 503, reason: "PrefillLost", message: "the prefill engine was lost; try again" };

/** The answer to a problem, counted, in the shape that the clients of the path understand. */
export function refuse({ metrics }: { metrics: Metrics }, problem: Problem, path = ""): Answer {
  metrics.count("tandem_router_requests_total", { outcome: String(problem.status), reason: problem.reason });
  return problemAnswer(problem, errorsOf(path));
}

export class Journey implements Ticket {
  readonly #deps: JourneyDependencies;
  #request: CompleteRequest;
  /** There where prefill runs elsewhere. */
  #legs: PrefillLegs | undefined;
  #requestId: string;
  readonly #tokens: AnswerTokens;
  #placement: Placement | undefined;
  /** Prefill ran where the answer is generated, so that its usage tells of the cache. */
  #local = false;
  #streams = false;
  /** An answer began that is no error. */
  #answers = false;
  /** Terms of the cost, where the client may see them. */
  #cost = "";
  /** What engines are asked for. */
  #path = "";
  #over = false;
  /** There while it waits for an engine to start. */
  #held: Held<unknown> | undefined;

  constructor(deps: JourneyDependencies, request: CompleteRequest) {
    this.#deps = deps;
    this.#request = request;
    this.#requestId = uniqueId(headerOf(request.headers, HEADER.requestId), deps.random);
    this.#tokens = new AnswerTokens(deps);
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
      this.#cost = "";
    }
  }

  served(address: string): void {
    this.#placement?.served(address);
    this.#tokens.served(address);
  }

  responseStarted(failed = false): void {
    this.#answers = !failed;
    this.#placement?.settled();
    if (!this.#streams) this.#placement?.prefilled();
    this.#legs?.started(!this.#streams);
  }

  firstToken(): void {
    this.#tokens.started();
    this.#placement?.prefilled();
    this.#placement?.computed();
    this.#legs?.fetched();
  }

  usage(usage: Usage): void {
    const said = this.#local ? (this.#placement?.found(usage) ?? usage) : usage;
    this.#tokens.ended(said, this.#local);
  }

  finish(complete = false): void {
    this.#over = true;
    this.#held?.leave();
    this.#legs?.end(complete);
    // Profile light does not see whether a stream came to its end; one that began was most likely computed.
    if (this.#answers) this.#placement?.counted();
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
    const asked = this.#deps.tokenizer?.idle === false ? this.#tokensOf(facts) : undefined;
    // Nothing asked, nothing awaited: a turn of the microtask queue is a turn of every stream.
    const selection = select(this.#deps, facts, this.#request, asked === undefined ? undefined : await asked);
    if (isRefused(selection)) return this.#refused(facts, selection);
    this.#deps.metrics.observe("tandem_router_pick_duration_seconds", (this.#deps.clock.monotonic() - started) / 1000);
    this.#assign(selection, facts);
    return this.#send(facts, selection);
  }

  async #send(facts: RequestFacts, selection: Selection): Promise<Routed> {
    const remote = selection.pick.prefill.length > 0;
    return this.#conclude(facts, selection, remote ? await this.#handOver(facts, selection) : LOCAL);
  }

  /** No endpoint: held, where one is started for it. */
  async #refused(facts: RequestFacts, problem: Problem): Promise<Routed> {
    const held = mayWait(problem) ? this.#hold(facts, problem) : undefined;
    if (held === undefined) this.#turnedAway(facts, problem);
    if (held === undefined || "status" in held) return this.#refuse(held ?? problem);
    this.#held = held;
    const made = await held.outcome;
    this.#held = undefined;
    return isRefused(made) ? this.#refuse(made) : this.#send(facts, made);
  }

  #hold(facts: RequestFacts, problem: Problem): Held<Selection | Problem> | Problem | undefined {
    const { holding, statistics } = this.#deps;
    // Of several services none is the one that was meant.
    const isUnnamed = problem.reason === "ModelUnnamed" && this.#deps.directory.list().length > 0;
    if (holding === undefined || this.#over || isUnnamed || problem.reason === "Saturated") return undefined;
    const { tokens } = promptOf(this.#deps, facts, facts.model ?? "", undefined);
    const { body, namespace } = this.#request;
    const held = holding.hold({ model: facts.model, namespace, bytes: body.length, tokens }, () => this.#again(facts));
    if (held !== undefined && !("status" in held)) statistics?.of(held.group).arrived(tokens);
    return held;
  }

  /** What there is no room for is asked of the group all the same. */
  #turnedAway(facts: RequestFacts, { reason }: Problem): void {
    const { statistics } = this.#deps;
    if (statistics === undefined || !WITHOUT_ROOM.has(reason)) return;
    const served = servedBy(this.#deps, facts.model, this.#request.namespace);
    const [known] = [...(served?.fleet.decode ?? []), ...(served?.fleet.prefill ?? [])];
    if (served === undefined || known === undefined) return;
    statistics.of(groupOf(known.endpoint)).arrived(promptOf(this.#deps, facts, served.model, undefined).tokens);
  }

  /** Undefined where it must go on waiting; a pick is work on its endpoints before the next one is made. */
  #again(facts: RequestFacts): Selection | Problem | undefined {
    const selection = select(this.#deps, facts, this.#request);
    if (!isRefused(selection)) this.#assign(selection, facts);
    else if (mayWait(selection)) return undefined;
    return selection;
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

  #assign(selection: Selection, facts: RequestFacts): void {
    const { prompt, pick } = selection;
    this.#deps.onPick?.(pick.verdict);
    const { explainer, config } = this.#deps;
    // Before the request is load itself.
    const forecast = forecastOf(selection, facts);
    const record = explainer?.record(this.#requestId, selection, forecast);
    this.#tokens.expect(forecast, {
      record,
      group: this.#counted(forecast, pick.decode.endpoint),
      isHeld: this.#held !== undefined,
    });
    if (config.explainHeaders) this.#cost = costHeader(selection);
    const sent = { keys: prompt.keys, tokens: prompt.tokens, thought: pick.decode.sentTokens ?? 0 };
    this.#placement = new Placement(this.#deps, pick.decode.endpoint, { ...sent, counts: countable(facts) });
    // The client went away before its request was here whole.
    if (this.#over) this.#placement.end();
    this.#countTokens("prompt", prompt.tokens);
    this.#countTokens("predicted", forecast.cachedTokens);
  }

  #counted(forecast: Forecast, endpoint: Endpoint): GroupCounters | undefined {
    const group = this.#deps.statistics?.of(groupOf(endpoint));
    // One that was held was counted when it came.
    if (this.#held === undefined) group?.arrived(forecast.promptTokens - forecast.cachedTokens);
    return group;
  }

  #handOver(facts: RequestFacts, selection: Selection): Promise<Handover> {
    const { body, headers } = this.#request;
    if (this.#over) return Promise.resolve({ kind: "aborted" });
    const legs = new PrefillLegs(this.#deps, (usage) => this.#tokens.prefilled(usage));
    this.#legs = legs;
    return legs.run({ body, headers, facts, path: this.#path, requestId: this.#requestId }, selection);
  }

  #conclude(facts: RequestFacts, selection: Selection, leg: Handover): Routed {
    if (leg.kind === "refusal") return engineAnswer(leg.status, leg.body);
    if (leg.kind === "failed") return this.#refuse(LOST);
    // The client went away: nobody reads this, and no engine failed.
    if (leg.kind === "aborted") return problemAnswer(LOST);
    this.#local = leg.kind === "local";
    const why = leg.kind === "local" ? (leg.why ?? selection.local) : undefined;
    if (why !== undefined) this.#deps.metrics.count("tandem_router_local_prefills_total", { reason: why });
    if (leg.kind === "local") this.#placement?.prefillHere(selection.pick.localOwnMs, freshTokens(selection));
    else this.#handed(leg);
    const reason: Reason = leg.kind === "local" ? "LocalPrefill" : "Picked";
    this.#deps.metrics.count("tandem_router_requests_total", { outcome: "forwarded", reason });
    return this.#forward(facts, selection, leg);
  }

  /** What a prefill engine said before decode was sent is judged here, and behind that where it comes. */
  #handed({ by, usage, sequential }: Extract<Handover, { kind: "handed" }>): void {
    this.#placement?.handed();
    const { endpoint, sentTokens = 0 } = by.candidate;
    const said = usage && judged(this.#deps, { endpoint: endpoint.id, thought: sentTokens }, usage);
    this.#tokens.handed(said, sequential === true);
  }

  #forward(facts: RequestFacts, selection: Selection, leg: Forwarded): Forward {
    const { decode, fallbacks } = selection.pick;
    const decodeHeaders = leg.kind === "handed" ? leg.leg.headers : NO_HEADERS;
    const destination = [decode.endpoint, ...fallbacks].map(({ address }) => address).join(",");
    return {
      kind: "forward",
      destination,
      requestHeaders: [
        [HEADER.destination, destination],
        [HEADER.requestId, this.#requestId],
        ...decodeHeaders,
        ...this.#newPath(),
      ],
      responseHeaders: this.#deps.config.explainHeaders ? this.#explained(selection, leg) : NO_HEADERS,
      body: leg.kind === "handed" ? leg.leg.body : wholeBody(this.#request.body, facts),
      ...(leg.kind === "handed" && leg.deserted !== undefined ? { deserted: insteadOf(leg.deserted, facts.api) } : {}),
    };
  }

  #explained(selection: Selection, leg: Forwarded): HeaderList {
    return explainHeaders(selection, this.#cost, leg.kind === "handed" ? leg : undefined);
  }

  /** Engines are not asked for the segment that named the tenant. */
  #newPath(): HeaderList {
    return this.#path === this.#request.path ? [] : [[":path", this.#path]];
  }

  #countTokens(kind: "prompt" | "predicted", tokens: number): void {
    if (tokens > 0) this.#deps.metrics.count("tandem_router_cached_tokens_total", { kind }, tokens);
  }
}

/** What is said in the place of an answer, where the prefill fails behind its decode. */
async function insteadOf(deserted: Promise<LegFailure>, { errors }: RequestFacts["api"]): Promise<Answer> {
  const failure = await deserted;
  return failure.kind === "refusal" ? engineAnswer(failure.status, failure.body) : problemAnswer(LOST, errors);
}

const WITHOUT_ROOM: ReadonlySet<Reason> = new Set(["Saturated", "NoPartner", "NoEndpoint"]);

/** What the decode endpoint computes of the prompt, where it prefills. */
const freshTokens = ({ prompt, pick }: Selection): number => prompt.tokens - pick.decode.cachedTokens;

type Forwarded = Extract<Handover, { kind: "handed" | "local" }>;
const LOCAL: Handover = { kind: "local" };

/** One text and one answer, so that its tokens are those that engines count. APIs without either leg know nothing else. */
const countable = ({ api, prompt, oneAnswer }: RequestFacts): boolean =>
  api.work === "generate" && prompt.media === 0 && (oneAnswer || (api.leg === undefined && api.rooms === undefined));

/** The caller's id for its traces, made unique: engines key KV transfers by it, and two callers may share one. */
const uniqueId = (given: string, random: Random): string =>
  [given.replace(/[^\w.-]/g, "").slice(0, 64), random.id()].filter((part) => part !== "").join("-");
