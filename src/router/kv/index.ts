/**
 * Which endpoint holds which prefix: the question that the pick asks, and the answer from routing history.
 *
 * Decides from what the router itself sent where; never asks an engine. The history keeps, for each endpoint, the block
 * keys of recent prompts, as many as the engine's KV cache holds: with the true capacity its picks are within 6 % of an
 * exact index (reference kv-cache-and-pd.md, section 2.2). An index fed by engine events implements the same interface.
 */
import type { BlockKeys } from "./blocks.ts";

export interface PrefixIndex {
  /** Leading blocks of `keys` that each endpoint holds; valid until the next call. */
  match(keys: BlockKeys): PrefixMatches;
  /** The endpoint is about to hold all of `keys`: told at pick time, so that siblings of a burst meet. */
  record(endpoint: string, keys: BlockKeys): void;
  /** KV capacity of the endpoint in blocks; what no longer fits is forgotten, oldest first. */
  resize(endpoint: string, blocks: number): void;
  /** The engine is new and its cache empty. */
  forget(endpoint: string): void;
  /** Forgets every endpoint that is not among these, however its keys came here. */
  keep(endpoints: ReadonlySet<string>): void;
  /** Blocks held over all endpoints. */
  readonly blocks: number;
}

export interface PrefixMatches {
  of(endpoint: string): number;
  /** Of each of these endpoints, in their order; for lists that are asked about again and again. */
  all(endpoints: readonly string[]): Uint32Array;
}
