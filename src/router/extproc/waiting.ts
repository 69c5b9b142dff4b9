/**
 * Streams whose request is not here yet, the longest-waiting first. All may wait equally long, so a look at the first
 * ones finds those that are late, and a stream costs no timer and no reading of the clock.
 */
export class Waiting<T> {
  readonly #since = new Map<T, number>();
  readonly #ticks: number;
  #now = 0;

  /** @param ticks after so many, and before one more, a stream is late */
  constructor(ticks: number) {
    this.#ticks = ticks;
  }

  get size(): number {
    return this.#since.size;
  }

  add(stream: T): void {
    this.#since.set(stream, this.#now);
  }

  delete(stream: T): void {
    this.#since.delete(stream);
  }

  /** To be called at equal times. Those that are late now wait no more. */
  tick(): readonly T[] {
    this.#now += 1;
    const late: T[] = [];
    for (const [stream, since] of this.#since) {
      if (this.#now - since <= this.#ticks) break;
      late.push(stream);
    }
    for (const stream of late) this.#since.delete(stream);
    return late;
  }
}
