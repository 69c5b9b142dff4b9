/**
 * What the times of one answer teach of its engines: told as they come, passed on where they say something. An answer that
 * is no stream, or that came from elsewhere than was picked, teaches nothing.
 */
import type { Forecast } from "./forecast.ts";
import type { LoadBook } from "./load.ts";
import type { CostLearner } from "./pick/learn.ts";

/** Shorter answers say little of a step. */
const LEAST_STEPS = 8;
/** Where prefills of others were more of an answer's time, the rest says little of its steps. */
const MOST_HELD_UP = 0.5;

export class Lessons {
  readonly #learner: CostLearner;
  readonly #loads: LoadBook;
  readonly #forecast: Forecast;
  #strayed = false;
  /** Monotonic time at which a prefill leg was over and decode was sent. */
  #handedAt: number | undefined;
  /** Prefill work that the engine of the answer was ever given, at the first token. */
  #givenMs = 0;

  constructor(learner: CostLearner, loads: LoadBook, forecast: Forecast) {
    this.#learner = learner;
    this.#loads = loads;
    this.#forecast = forecast;
    this.#strayed = !forecast.streams;
  }

  /** Prefill is over, elsewhere; decode goes on from here. */
  handed(now: number): void {
    this.#handedAt = now;
  }

  /** Where the proxy says that it went. */
  served(address: string): void {
    if (address !== this.#forecast.address) this.#strayed = true;
  }

  /** The first token, `ms` after the request was here whole. */
  first(now: number, ms: number): void {
    if (this.#strayed) return;
    const { service, prefiller: endpoint, promptTokens, cachedTokens, ownMs, remote } = this.#forecast;
    this.#givenMs = this.#given();
    if (remote) {
      if (this.#handedAt !== undefined)
        this.#learner.transferred({ service, tokens: promptTokens, ms: now - this.#handedAt });
      return;
    }
    const othersMs = this.#forecast.queueMs + this.#givenMs - this.#forecast.givenMs - ownMs;
    const freshTokens = promptTokens - cachedTokens;
    this.#learner.prefilled({ service, endpoint, freshTokens, cachedTokens, othersMs, ownMs, ms });
  }

  /** The tokens behind the first one, `ms` all of them together. Prefills of others hold them up by as long as they take. */
  ended(ms: number, steps: number): void {
    if (this.#strayed || steps < LEAST_STEPS) return;
    const othersMs = this.#given() - this.#givenMs;
    const { service, requests, kvTokens } = this.#forecast;
    if (othersMs <= ms * MOST_HELD_UP)
      this.#learner.stepped({ service, requests, kvTokens, tokens: steps + 1, ms: (ms - othersMs) / steps });
  }

  #given(): number {
    return this.#loads.of(this.#forecast.decoder).givenMs;
  }
}
