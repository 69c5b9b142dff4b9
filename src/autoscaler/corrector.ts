/**
 * A slow factor on the demand of a role: up while the 90th percentile of its latency comes near what was promised, down
 * while it is far below. It mends what is learned wrongly of capacities; it never sizes alone, because latencies are flat
 * and then vertical (reference autoscaling.md 4.4, 5.3).
 */
const STEP_MS = 15_000;
const RISE = 1.1;
const FALL = 0.995;
const NEAR = 0.8;
const FAR = 0.35;
const MOST = 2;

export class Corrector {
  #factor = 1;
  #movedAt: number | undefined;

  /** 1 to 2 */
  get factor(): number {
    return this.#factor;
  }

  /**
   * @param share the 90th percentile of the last moments to what was promised; undefined: no answers, nothing is learned
   * @param isSettled what is asked for serves: else latencies tell of pods that start, and the factor would wind up
   */
  see(at: number, share: number | undefined, isSettled: boolean): void {
    this.#movedAt ??= at;
    if (share === undefined || at - this.#movedAt < STEP_MS) return;
    this.#movedAt = at;
    if (share > NEAR && isSettled) this.#factor = Math.min(MOST, this.#factor * RISE);
    else if (share < FAR) this.#factor = Math.max(1, this.#factor * FALL);
  }
}
