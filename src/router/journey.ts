/**
 * One request on its way: facts, selection, prefill leg, and where the decode leg goes. Finished exactly once,
 * whichever way it ends; what it holds on endpoints is released then.
 */
import { HEADER } from "../kinds/names.ts";
import type { Reason, Verdict } from "../kinds/verdict.ts";
import type { EngineClient, EngineRequest, Log, Metrics, Random, Timers } from "../ports.ts";
import { engineAnswer, problemAnswer, type Problem } from "./answers.ts";
import { decodeBody, prefillBody } from "./disagg/bodies.ts";
import { runPrefillLeg, type LegOutcome, type Meaning } from "./disagg/leg.ts";
import type { Answer, CompleteRequest, Forward, Routed, Ticket } from "./exchange.ts";
import { headerOf, type HeaderList } from "./headers.ts";
import type { Release } from "./load.ts";
import type { PricedPrefill } from "./pick/pick.ts";
import { isProblem, pathOf, readFacts, type RequestFacts } from "./request/facts.ts";
import { isRefused, select, type SelectDependencies, type Selection } from "./select.ts";

export interface RouterDependencies extends SelectDependencies {
  readonly client: EngineClient;
  readonly random: Random;
  readonly timers: Timers;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Told of every pick; for people who watch. */
  readonly onPick?: (verdict: Verdict) => void;
}

/** An endpoint that refused a connection is left alone this long: two scrapes see whether it is back. */
const SHUN_MS = 2000;

/** Client headers that go along on the prefill leg: credentials of the engine, and the trace. */
const LEG_HEADERS = ["authorization", "traceparent", "tracestate"];

const GONE: CompleteRequest = { method: "", path: "", headers: [], body: Buffer.alloc(0) };

type Leg = LegOutcome<PricedPrefill>;

const LOST: Problem = { status: 503, reason: "PrefillLost", message: "the prefill engine was lost; try again" };

/** The answer to a problem, counted. */
export function refuse({ metrics }: { metrics: Metrics }, problem: Problem): Answer {
  metrics.count("tandem_router_requests_total", { outcome: String(problem.status), reason: problem.reason });
  return problemAnswer(problem);
}

export class Journey implements Ticket {
  readonly #deps: RouterDependencies;
  #request: CompleteRequest;
  /** There while a prefill leg runs. */
  #leg: AbortController | undefined;
  readonly #requestId: string;
  #held: Release[] = [];
  #releasePrefill: Release = () => undefined;
  #streams = false;
  #over = false;

  constructor(deps: RouterDependencies, request: CompleteRequest) {
    this.#deps = deps;
    this.#request = request;
    this.#requestId = uniqueId(headerOf(request.headers, HEADER.requestId), deps.random);
  }

  /** Where the request goes. To be called once. Then the request, with its body, is let go: answers take minutes. */
  async run(): Promise<Routed> {
    try {
      return await this.#route();
    } finally {
      this.#request = GONE;
    }
  }

  responseStarted(): void {
    if (!this.#streams) this.#releasePrefill();
  }

  firstToken(): void {
    this.#releasePrefill();
  }

  finish(): void {
    this.#over = true;
    this.#leg?.abort();
    for (const release of this.#held) release();
    this.#held = [];
  }

  async #route(): Promise<Routed> {
    const started = this.#deps.clock.monotonic();
    const facts = readFacts(this.#request.path, this.#request.body);
    if (isProblem(facts)) return refuse(this.#deps, facts);
    this.#streams = facts.stream;
    const selection = select(this.#deps, facts, this.#request.namespace);
    if (isRefused(selection)) return refuse(this.#deps, selection);
    this.#deps.metrics.observe("tandem_router_pick_duration_seconds", (this.#deps.clock.monotonic() - started) / 1000);
    this.#deps.onPick?.(selection.pick.verdict);
    this.#assign(selection);
    const leg: Leg = selection.pick.prefill.length === 0 ? { kind: "local" } : await this.#prefillLeg(facts, selection);
    this.#leg = undefined;
    return this.#conclude(facts, selection, leg);
  }

  /** Told now, not when the answer comes: siblings of a burst then meet where the first one went. */
  #assign({ prompt, pick }: Selection): void {
    const { loads, index } = this.#deps;
    this.#hold(loads.request(pick.decode.endpoint.id));
    index.record(pick.decode.endpoint.id, prompt.keys);
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
      path: pathOf(this.#request.path),
      headers: legHeaders(this.#request.headers, this.#requestId),
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
    if (leg.kind === "failed") return refuse(this.#deps, LOST);
    // The client went away: nobody reads this, and no engine failed.
    if (leg.kind === "aborted") return problemAnswer(LOST);
    const { decode, localOwnMs } = selection.pick;
    if (leg.kind === "local") this.#prefillHere(decode.endpoint.id, localOwnMs);
    else this.#countTokens("actual", leg.cachedTokens ?? 0);
    const reason: Reason = leg.kind === "local" ? "LocalPrefill" : "Picked";
    this.#deps.metrics.count("tandem_router_requests_total", { outcome: "forwarded", reason });
    return this.#forward(facts, selection, leg);
  }

  #forward(facts: RequestFacts, selection: Selection, leg: Extract<Leg, { kind: "transferred" | "local" }>): Forward {
    const { address } = selection.pick.decode.endpoint;
    return {
      kind: "forward",
      destination: address,
      requestHeaders: [
        [HEADER.destination, address],
        [HEADER.requestId, this.#requestId],
      ],
      responseHeaders: this.#deps.config.explainHeaders ? explain(selection, leg) : [],
      body: decodeBody(this.#request.body, facts, leg.kind === "transferred" ? leg.params : undefined),
    };
  }

  /**
   * Prefill work now waits on the decode endpoint, until its first token. Where first tokens are not seen (profile
   * `light`), the work that waits there is taken at its word: it is over after that many milliseconds.
   */
  #prefillHere(endpoint: string, ownMs: number): void {
    const { loads, timers } = this.#deps;
    this.#releasePrefill = loads.prefill(endpoint, ownMs);
    this.#hold(this.#releasePrefill);
    this.#hold(timers.after(loads.of(endpoint).prefillMs, this.#releasePrefill));
  }

  #hold(release: Release): void {
    if (this.#over) release();
    else this.#held.push(release);
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

function legHeaders(headers: HeaderList, requestId: string): Record<string, string> {
  const along = LEG_HEADERS.map((name) => [name, headerOf(headers, name)] as const).filter(([, value]) => value !== "");
  return Object.fromEntries([...along, ["content-type", "application/json"], [HEADER.requestId, requestId]]);
}
