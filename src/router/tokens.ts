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
import type { LoadBook } from "./load.ts";
import type { CostLearner } from "./pick/learn.ts";
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

export class AnswerTokens {
  readonly #deps: AnswerDependencies;
  readonly #begun: number;
  #first: number | undefined;
  /** When a prefill leg was over and decode was sent. */
  #handed: number | undefined;
  #forecast: Forecast | undefined;
  #record: PickRecord | undefined;
  #strayed = false;
  /** Prefill work that the engine of the answer was ever given, at the first token. */
  #givenMs = 0;

  /** To be made when the request is here whole. */
  constructor(deps: AnswerDependencies) {
    this.#deps = deps;
    this.#begun = deps.clock.monotonic();
  }

  /** @param record where somebody may ask for this pick */
  expect(forecast: Forecast, record?: PickRecord): void {
    this.#forecast = forecast;
    this.#record = record;
    this.#deps.hits?.picked(forecast);
  }

  /** Prefill is over, elsewhere; decode goes on from here. */
  handed(): void {
    this.#handed = this.#deps.clock.monotonic();
  }

  /** Where the proxy says that it went: from elsewhere nothing is learned. */
  served(address: string): void {
    if (this.#forecast !== undefined && this.#forecast.address !== address) this.#strayed = true;
  }

  /** The first bytes of the answer's body. */
  started(): void {
    const { clock, metrics } = this.#deps;
    this.#first = clock.monotonic();
    const ms = this.#first - this.#begun;
    metrics.observe("tandem_router_first_token_seconds", ms / 1000);
    if (this.#record !== undefined) this.#record.outcome.firstTokenMs = ms;
    this.#timeFirst(ms);
    const { firstTokenMs = 0 } = this.#forecast ?? {};
    // Below that a ratio says how long a network's round trip is.
    if (firstTokenMs >= LEAST_FORECAST_MS) metrics.observe("tandem_router_first_token_ratio", ms / firstTokenMs);
  }

  /** What the engine that computed the prompt says of its cache; undefined where it does not say. */
  cached(tokens: number | undefined): void {
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
    if (local) this.cached(cachedTokens);
    this.#learn(usage);
    this.#timeTokens(completionTokens);
  }

  /** A whole answer's first byte is its last: only streams say when the first token came. */
  #timeFirst(ms: number): void {
    const [learner, forecast] = [this.#deps.learner, this.#forecast];
    if (learner === undefined || forecast?.streams !== true || this.#strayed) return;
    const { service, prefiller: endpoint, promptTokens, cachedTokens, ownMs, remote } = forecast;
    this.#givenMs = this.#deps.loads.of(forecast.decoder).givenMs;
    const othersMs = forecast.queueMs + this.#givenMs - forecast.givenMs - ownMs;
    const freshTokens = promptTokens - cachedTokens;
    if (!remote) learner.prefilled({ service, endpoint, freshTokens, cachedTokens, othersMs, ownMs, ms });
    else if (this.#handed !== undefined)
      learner.transferred({ service, tokens: promptTokens, ms: (this.#first ?? 0) - this.#handed });
  }

  #learn(usage: Usage): void {
    const { rates, tokenizer } = this.#deps;
    const [forecast, { promptTokens }] = [this.#forecast, usage];
    if (this.#record !== undefined) Object.assign(this.#record.outcome, known(usage));
    if (forecast === undefined || promptTokens === undefined) return;
    rates?.learn(forecast.model, forecast.bytes, promptTokens);
    tokenizer?.counted({ model: forecast.model, tokens: forecast.how, count: forecast.promptTokens }, usage);
  }

  #timeTokens(completionTokens: number | undefined): void {
    if (this.#first === undefined || completionTokens === undefined || completionTokens < 2) return;
    const ms = this.#deps.clock.monotonic() - this.#first;
    // A whole answer comes in one piece: nothing can be said of its tokens' times.
    if (ms <= 0) return;
    this.#deps.metrics.observe("tandem_router_output_token_seconds", ms / (completionTokens - 1) / 1000);
    if (completionTokens >= LEAST_STEPS) this.#stepped(ms, completionTokens - 1);
  }

  /** Prefills of others hold up each answer by as long as they take; where that was most of its time, it says nothing. */
  #stepped(ms: number, steps: number): void {
    const [learner, forecast] = [this.#deps.learner, this.#forecast];
    if (learner === undefined || forecast?.streams !== true || this.#strayed) return;
    const { service, decoder, requests, kvTokens } = forecast;
    const othersMs = this.#deps.loads.of(decoder).givenMs - this.#givenMs;
    if (othersMs <= ms * MOST_HELD_UP)
      learner.stepped({ service, requests, kvTokens, tokens: steps + 1, ms: (ms - othersMs) / steps });
  }

  #count(kind: "prompt" | "cached" | "completion", tokens: number | undefined): void {
    if (tokens === undefined || tokens <= 0) return;
    this.#deps.metrics.count("tandem_router_answer_tokens_total", { kind }, tokens);
  }
}

const LEAST_FORECAST_MS = 1;
/** Shorter answers say little of a step. */
const LEAST_STEPS = 8;
const MOST_HELD_UP = 0.5;

/** A forecast within two blocks of most engines, or a tenth, was right: engines cache whole blocks. */
function outcomeOf(expected: number, actual: number): "right" | "over" | "under" {
  if (Math.abs(expected - actual) <= Math.max(32, actual / 10)) return "right";
  return expected > actual ? "over" : "under";
}

const known = ({ promptTokens, completionTokens }: Usage): object => ({
  ...(promptTokens === undefined ? {} : { promptTokens }),
  ...(completionTokens === undefined ? {} : { completionTokens }),
});
