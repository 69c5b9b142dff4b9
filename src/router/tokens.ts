/** The tokens of one answer and their times, as far as the answer's body is seen (profile `exact`), told to metrics. */
import type { Clock, Metrics } from "../ports.ts";
import type { Usage } from "./exchange.ts";

export class AnswerTokens {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #begun: number;
  #first: number | undefined;

  /** To be made when the request is here whole. */
  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#metrics = metrics;
    this.#begun = clock.monotonic();
  }

  /** The first bytes of the answer's body. */
  started(): void {
    this.#first = this.#clock.monotonic();
    this.#metrics.observe("tandem_router_first_token_seconds", (this.#first - this.#begun) / 1000);
  }

  /** The answer has ended: what it said. */
  ended({ promptTokens, cachedTokens, completionTokens }: Usage): void {
    this.#count("prompt", promptTokens);
    this.#count("cached", cachedTokens);
    this.#count("completion", completionTokens);
    if (this.#first === undefined || completionTokens === undefined || completionTokens < 2) return;
    const ms = this.#clock.monotonic() - this.#first;
    // A whole answer comes in one piece: nothing can be said of its tokens' times.
    if (ms > 0) this.#metrics.observe("tandem_router_output_token_seconds", ms / (completionTokens - 1) / 1000);
  }

  #count(kind: "prompt" | "cached" | "completion", tokens: number | undefined): void {
    if (tokens !== undefined && tokens > 0) this.#metrics.count("tandem_router_answer_tokens_total", { kind }, tokens);
  }
}
