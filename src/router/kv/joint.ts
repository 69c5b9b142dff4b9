/**
 * The two indexes as one to those who record: what was sent where, by the text of prompts; and, where their tokens are known,
 * what engines are about to hold.
 */
import type { BlockKeys } from "./blocks.ts";
import type { EventIndex } from "./events/index.ts";
import type { PrefixIndex, PrefixMatches } from "./index.ts";

export class JointIndex implements PrefixIndex {
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

  /** These are the keys of one prompt, by its text and by its tokens. */
  join(text: BlockKeys, tokens: BlockKeys): void {
    this.#tokens.set(text, tokens);
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
