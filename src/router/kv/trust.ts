/**
 * How far the routing history is to be believed of each endpoint: of the tokens that it thought to be cached, the share that
 * engines then said were, in their answers (`told`) or in their counters (`counted`).
 *
 * An engine that says less has less room than was thought, caches nothing at all, or sees another prompt than we do. Not the
 * prompt that was asked for is at fault: its engine holds it now, having just computed it. So all that was sent there is
 * believed a little less, and a little more when it was right.
 */

/** Less is not worth a judgement: an engine's last block, a template that differs a little. */
export const WORTH_TOKENS = 256;
/** Of the newest answer: a dozen answers settle it, and one burst of siblings that met no cache yet does not. */
const WEIGHT = 1 / 16;

/** What an answer says of its prompt. */
export interface AnswerCounts {
  readonly promptTokens?: number;
  readonly cachedTokens?: number;
}

export class HitTrust {
  readonly #shares = new Map<string, number>();
  /** Endpoints whose answers say what was cached. */
  readonly #speaks = new Set<string>();

  /** 0 to 1; 1 where nothing was said. */
  of(endpoint: string): number {
    return this.#shares.get(endpoint) ?? 1;
  }

  /** So many tokens were thought to be cached, and so many were. */
  told(endpoint: string, thought: number, cached: number): void {
    if (thought < WORTH_TOKENS) return;
    this.#move(endpoint, Math.min(1, cached / thought), WEIGHT);
  }

  /**
   * Prompt tokens that were cached, by what one answer said. Engines leave out a zero (vLLM's and SGLang's servers alike):
   * of one that has told before, an answer that counts its prompt and names no cached tokens had none.
   */
  cachedIn(endpoint: string, { promptTokens, cachedTokens }: AnswerCounts): number | undefined {
    if (cachedTokens !== undefined) this.#speaks.add(endpoint);
    else if (promptTokens !== undefined && this.#speaks.has(endpoint)) return 0;
    return cachedTokens;
  }

  /** Of so many prompts together, the share lies within these bounds, 0 to 1. As much is learned as of so many answers. */
  counted(endpoint: string, { least, most }: { readonly least: number; readonly most: number }, prompts: number): void {
    const share = Math.min(most, Math.max(least, this.of(endpoint)));
    this.#move(endpoint, share, 1 - (1 - WEIGHT) ** prompts);
  }

  /** Forgets every endpoint that is not among these. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#shares.keys()) if (!endpoints.has(endpoint)) this.#shares.delete(endpoint);
    for (const endpoint of this.#speaks) if (!endpoints.has(endpoint)) this.#speaks.delete(endpoint);
  }

  #move(endpoint: string, share: number, weight: number): void {
    this.#shares.set(endpoint, this.of(endpoint) + weight * (share - this.of(endpoint)));
  }
}
