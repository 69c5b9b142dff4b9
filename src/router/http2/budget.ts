/** So many at once, and so many a second from then on: what a peer may send of frames that cost us and not it. */
import type { Clock } from "../../ports.ts";
import { CODE, ConnectionError } from "./frames.ts";

/** A connection begins with so much, or with so many seconds' worth: who is sent away gains nothing by coming again. */
const FIRST = 50;
const FIRST_SECONDS = 1 / 40;

export class Budget {
  readonly #perSecond: number;
  readonly #clock: Clock;
  readonly #what: string;
  #left: number;
  #at: number;

  /** @param what is too much, for the log */
  constructor(perSecond: number, clock: Clock, what: string) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#what = what;
    this.#left = Math.min(perSecond, Math.max(FIRST, perSecond * FIRST_SECONDS));
    this.#at = clock.monotonic();
  }

  /** Throws a ConnectionError where it is used up. The clock is asked only then: a frame costs nanoseconds. */
  take(): void {
    if (this.#left < 1) this.#refill(this.#clock.monotonic());
    this.#left -= 1;
    if (this.#left < 0) throw new ConnectionError(CODE.calm, `too many ${this.#what}`);
  }

  #refill(now: number): void {
    this.#left = Math.min(this.#perSecond, this.#left + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
  }
}
