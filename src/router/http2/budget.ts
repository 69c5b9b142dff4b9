/** So many in a moment, and so many a second from then on: what a peer may send of frames that cost us and not it. */
export class Budget {
  readonly #perSecond: number;
  #left: number;
  #at: number;

  /** @param now monotonic milliseconds */
  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond;
    this.#left = perSecond;
    this.#at = now;
  }

  /** False where it is used up. The clock is asked only then: a frame costs nanoseconds. */
  take(clock: () => number): boolean {
    if (this.#left < 1) this.#refill(clock());
    this.#left -= 1;
    return this.#left >= 0;
  }

  #refill(now: number): void {
    this.#left = Math.min(this.#perSecond, this.#left + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
  }
}
