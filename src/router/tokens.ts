/**
 * The tokens of one answer and their times, told to metrics, and beside them what the pick expected: cached tokens, time to
 * the first token. What engines count teaches the estimate of the next prompts. Profile `exact` sees all of it, `light`
 * what prefill engines say.
 */
import type { Clock, Metrics } from "../ports.ts";
import type { Usage } from "./exchange.ts";
import type { PickRecord } from "./explain/record.ts";
import type { Forecast } from "./forecast.ts";
import type { HitWatch } from "./hits.ts";
import { Lessons } from "./lessons.ts";
import type { LoadBook } from "./load.ts";
import type { CostLearner } from "./pick/learn.ts";
import type { GroupCounters } from "./statistics/groups.ts";
import type { TokenRates } from "./tokenize/rates.ts";
import type { PromptTokenizer } from "./tokenize/tokens.ts";

export interface AnswerDependencies {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly rates?: TokenRates;
  readonly hits?: HitWatch;
  readonly tokenizer?: PromptTokenizer;
  readonly learner?: CostLearner;
  readonly loads: LoadBook;
}

/** Who else is told of an answer. */
export interface AnswerReaders {
  /** Where somebody may ask for this pick. */
  readonly record?: PickRecord | undefined;
  /** Of the group that answers. */
  readonly group?: GroupCounters | undefined;
  /** It waited for an endpoint: the time to its first token says nothing of engines. */
  readonly isHeld?: boolean;
}

export class AnswerTokens {
  readonly #deps: AnswerDependencies;
  readonly #begun: number;
  #first: number | undefined;
  #forecast: Forecast | undefined;
  #record: PickRecord | undefined;
  #group: GroupCounters | undefined;
  /** The time to its first token is one of the group's. */
  #isTimed = false;
  #learned = false;
  #lessons: Lessons | undefined;

  /** To be made when the request is here whole. */
  constructor(deps: AnswerDependencies) {
    this.#deps = deps;
    this.#begun = deps.clock.monotonic();
  }

  expect(forecast: Forecast, { record, group, isHeld = false }: AnswerReaders = {}): void {
    this.#forecast = forecast;
    this.#record = record;
    this.#group = group;
    this.#isTimed = forecast.streams && !isHeld;
    this.#deps.hits?.picked(forecast);
    const { learner, loads } = this.#deps;
    if (learner !== undefined) this.#lessons = new Lessons(learner, loads, forecast);
  }

  /** A prefill leg handed over; `ended`: and is over, so that what is left is the transfer. */
  handed(usage: Usage | undefined, ended: boolean): void {
    this.prefilled(usage);
    if (ended) this.#lessons?.handed(this.#deps.clock.monotonic());
  }

  /** Where the proxy says that it went. */
  served(address: string): void {
    this.#lessons?.served(address);
  }

  /** The first bytes of the answer's body. */
  started(): void {
    const { clock, metrics } = this.#deps;
    this.#first = clock.monotonic();
    const ms = this.#first - this.#begun;
    metrics.observe("tandem_router_first_token_seconds", ms / 1000);
    this.#lessons?.first(this.#first, ms);
    if (this.#isTimed) this.#group?.firstToken(ms);
    if (this.#record !== undefined) this.#record.outcome.firstTokenMs = ms;
    const { firstTokenMs = 0 } = this.#forecast ?? {};
    // Below that a ratio says how long a network's round trip is.
    if (firstTokenMs >= LEAST_FORECAST_MS) metrics.observe("tandem_router_first_token_ratio", ms / firstTokenMs);
  }

  /** What the engine that computed the prompt says of it, as far as it does. */
  prefilled({ promptTokens, cachedTokens: tokens }: Usage = {}): void {
    this.#learn(promptTokens);
    if (tokens === undefined || this.#forecast === undefined) return;
    const { metrics, hits } = this.#deps;
    const { cachedTokens: expected } = this.#forecast;
    if (tokens > 0) metrics.count("tandem_router_cached_tokens_total", { kind: "actual" }, tokens);
    if (expected > 0) metrics.count("tandem_router_cached_tokens_total", { kind: "expected" }, expected);
    metrics.count("tandem_router_cache_forecasts_total", { outcome: outcomeOf(expected, tokens) });
    hits?.saw(this.#forecast, tokens);
    if (this.#record !== undefined) this.#record.outcome.cachedTokens = tokens;
  }

  /** The answer has ended: what it said. `local`: prefill ran where the answer was made. */
  ended(usage: Usage, local: boolean): void {
    const { promptTokens, cachedTokens, completionTokens } = usage;
    this.#count("prompt", promptTokens);
    this.#count("cached", cachedTokens);
    this.#count("completion", completionTokens);
    if (local) this.prefilled(usage);
    else this.#learn(promptTokens);
    if (this.#record !== undefined && completionTokens !== undefined)
      this.#record.outcome.completionTokens = completionTokens;
    if (completionTokens !== undefined) this.#group?.answered(completionTokens);
    this.#timeTokens(completionTokens);
  }

  /** Once: both engines of a request count the same prompt. */
  #learn(promptTokens: number | undefined): void {
    const { rates, tokenizer } = this.#deps;
    const forecast = this.#forecast;
    if (forecast === undefined || promptTokens === undefined || this.#learned) return;
    this.#learned = true;
    rates?.learn(forecast.model, forecast.bytes, promptTokens);
    const { model, api, tenant, how: tokens, promptTokens: count } = forecast;
    tokenizer?.counted({ model, api, tenant, tokens, count }, promptTokens);
    if (this.#record !== undefined) this.#record.outcome.promptTokens = promptTokens;
  }

  #timeTokens(completionTokens: number | undefined): void {
    if (this.#first === undefined || completionTokens === undefined || completionTokens < 2) return;
    const ms = this.#deps.clock.monotonic() - this.#first;
    // A whole answer comes in one piece: nothing can be said of its tokens' times.
    if (ms <= 0) return;
    this.#deps.metrics.observe("tandem_router_output_token_seconds", ms / (completionTokens - 1) / 1000);
    if (this.#forecast?.streams === true) this.#group?.paced(ms / (completionTokens - 1));
    this.#lessons?.ended(ms, completionTokens - 1);
  }

  #count(kind: "prompt" | "cached" | "completion", tokens: number | undefined): void {
    if (tokens === undefined || tokens <= 0) return;
    this.#deps.metrics.count("tandem_router_answer_tokens_total", { kind }, tokens);
  }
}

const LEAST_FORECAST_MS = 1;

/** A forecast within two blocks of most engines, or a tenth, was right: engines cache whole blocks. */
function outcomeOf(expected: number, actual: number): "right" | "over" | "under" {
  if (Math.abs(expected - actual) <= Math.max(32, actual / 10)) return "right";
  return expected > actual ? "over" : "under";
}
