/** What a router counts of its own requests on each engine. */
import type { Sent } from "../policy.ts";

export class Tracked {
  readonly #inflight: Float64Array;

  constructor(engines: number) {
    this.#inflight = new Float64Array(engines);
  }

  inflight(engine: number): number {
    return this.#inflight[engine] ?? 0;
  }

  sent(engine: number): Sent {
    this.#inflight[engine] = this.inflight(engine) + 1;
    return { over: () => (this.#inflight[engine] = this.inflight(engine) - 1) };
  }
}
