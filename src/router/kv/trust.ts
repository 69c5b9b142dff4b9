/**
 * How far the routing history is to be believed of each endpoint: of the tokens that it thought to be cached, the share that
 * engines then said were.
 *
 * An engine that says less has less room than was thought, caches nothing at all, or sees another prompt than we do. Not the
 * prompt that was asked for is at fault: its engine holds it now, having just computed it. So all that was sent there is
 * believed a little less, and a little more when it was right.
 */

/** Less is not worth a judgement: an engine's last block, a template that differs a little. */
const WORTH_TOKENS = 256;
/** Of the newest answer: a dozen answers settle it, and one burst of siblings that met no cache yet does not. */
const WEIGHT = 1 / 16;

export class HitTrust {
  readonly #shares = new Map<string, number>();

  /** 0 to 1; 1 where nothing was said. */
  of(endpoint: string): number {
    return this.#shares.get(endpoint) ?? 1;
  }

  /** So many tokens were thought to be cached, and so many were. */
  told(endpoint: string, thought: number, cached: number): void {
    if (thought < WORTH_TOKENS) return;
    const share = Math.min(1, cached / thought);
    this.#shares.set(endpoint, this.of(endpoint) + WEIGHT * (share - this.of(endpoint)));
  }

  /** Forgets every endpoint that is not among these. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#shares.keys()) if (!endpoints.has(endpoint)) this.#shares.delete(endpoint);
  }
}
