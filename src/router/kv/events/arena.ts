/** Runs of 32-bit words of any short length in one array, given back by length: few blocks need them, and then of one kind. */

/** No place, or none was asked for. */
export const NOWHERE = -1;

/** Longer runs are not given. */
const LONGEST = 640;

export class WordArena {
  words: Int32Array<ArrayBuffer> = new Int32Array(0);
  readonly #most: number;
  readonly #free: (number[] | undefined)[] = [];
  #used = 0;

  /** @param most words it may ever hold */
  constructor(most: number) {
    this.#most = most;
  }

  get bytes(): number {
    return this.words.byteLength;
  }

  /** Where so many words may be written, or NOWHERE. */
  take(count: number): number {
    if (count > LONGEST) return NOWHERE;
    const free = this.#free[count]?.pop();
    if (free !== undefined) return free;
    if (this.#used + count > this.#most) return NOWHERE;
    const at = this.#used;
    this.#used += count;
    if (this.#used > this.words.length) this.#grow();
    return at;
  }

  giveBack(at: number, count: number): void {
    if (at !== NOWHERE) (this.#free[count] ??= []).push(at);
  }

  #grow(): void {
    const larger = new Int32Array(Math.min(this.#most, Math.max(1024, this.#used, 2 * this.words.length)));
    larger.set(this.words);
    this.words = larger;
  }
}
