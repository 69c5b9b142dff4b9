/** What the serving thread and the one that follows KV events say to each other. */
import type { StreamCause, StreamState } from "./stream-state.ts";

/** An engine whose events are to be followed. */
export interface EventTarget {
  /** Of the endpoint. */
  readonly id: string;
  readonly bootId: string;
  readonly host: string;
  /** Of the first rank; those of the others follow. */
  readonly port: number;
  readonly replayPort?: number;
  readonly ranks: number;
  /** Nobody said that it publishes: it is tried, and seldom again. */
  readonly guessed: boolean;
  /** Tokens that its KV cache holds. */
  readonly capacityTokens: number;
  /** Tokens of one of its blocks, where it tells. */
  readonly blockSize?: number;
}

export interface ToEvents {
  readonly kind: "targets";
  readonly version: number;
  readonly targets: readonly EventTarget[];
}

/** One stream as it is now. */
export interface StreamStatus {
  /** Which of the targets, and which of its ranks. */
  readonly target: number;
  readonly rank: number;
  /** In the table. */
  readonly number: number;
  readonly state: StreamState;
  readonly cause: StreamCause;
  /** Blocks of the router that it holds. */
  readonly blocks: number;
  /** How often all was forgotten: what was sent before then may not be there either. */
  readonly clears: number;
  /** Some of them were ever in another place than the accelerator's memory. */
  readonly tiered: boolean;
}

export interface FromEvents {
  /** Of the list of targets that the statuses count by. */
  readonly version: number;
  /** Those that changed. */
  readonly streams: readonly StreamStatus[];
  /** Numbers of the table that were ever given. */
  readonly given: number;
  /** Names of adapters that were heard of: a model of that name has keys of its own. */
  readonly adapters: readonly string[];
  /** Metrics since the last message, as the relay took them. */
  readonly told: unknown;
}
