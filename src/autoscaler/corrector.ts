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

  /** @param latencyMs its 90th percentile of the last moments; undefined: no answers, nothing is learned */
  see(at: number, latencyMs: number | undefined, promisedMs: number): void {
    this.#movedAt ??= at;
    if (latencyMs === undefined || at - this.#movedAt < STEP_MS) return;
    this.#movedAt = at;
    const share = latencyMs / promisedMs;
    if (share > NEAR) this.#factor = Math.min(MOST, this.#factor * RISE);
    else if (share < FAR) this.#factor = Math.max(1, this.#factor * FALL);
  }
}
