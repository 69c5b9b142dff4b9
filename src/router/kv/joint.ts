/**
 * The two indexes as one to those who record: what was sent where, by the text of prompts; and, where their tokens are known,
 * what engines are about to hold.
 */
import type { BlockKeys } from "./blocks.ts";
import type { Asked, EventIndex, EventMatches } from "./events/index.ts";
import type { PrefixIndex, PrefixMatches } from "./index.ts";

/** The question that only tokens can ask. */
export interface TokenLookup {
  /**
   * Who holds how much of a prompt whose tokens are known, as events tell; undefined where they tell of nobody, or cannot.
   * @param text its keys by its text, under which it will be recorded
   */
  ofTokens(text: BlockKeys, ids: Int32Array, asked: Asked): EventMatches | undefined;
}

export class JointIndex implements PrefixIndex, TokenLookup {
  readonly #history: PrefixIndex;
  readonly #events: EventIndex;
  /** Keys of the tokens of a prompt by the keys of its text, for as long as somebody has those. */
  readonly #tokens = new WeakMap<BlockKeys, BlockKeys>();

  constructor(history: PrefixIndex, events: EventIndex) {
    this.#history = history;
    this.#events = events;
  }

  get blocks(): number {
    return this.#history.blocks;
  }

  ofTokens(text: BlockKeys, ids: Int32Array, asked: Asked): EventMatches | undefined {
    if (!this.#events.anyLive) return undefined;
    const keys = this.#events.keys(ids, asked);
    if (keys === undefined) return undefined;
    this.#tokens.set(text, keys);
    return this.#events.match(keys);
  }

  match(keys: BlockKeys): PrefixMatches {
    return this.#history.match(keys);
  }

  record(endpoint: string, keys: BlockKeys): void {
    this.#history.record(endpoint, keys);
    const tokens = this.#tokens.get(keys);
    if (tokens !== undefined) this.#events.record(endpoint, tokens);
  }

  resize(endpoint: string, blocks: number): void {
    this.#history.resize(endpoint, blocks);
  }

  forget(endpoint: string): void {
    this.#history.forget(endpoint);
    this.#events.forget(endpoint);
  }

  keep(endpoints: ReadonlySet<string>): void {
    this.#history.keep(endpoints);
    this.#events.keep(endpoints);
  }
}
