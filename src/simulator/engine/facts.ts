/** What one engine has done, counted. Read by the metrics page, by tests and by the demo. */
import type { FinishReason } from "./output.ts";

/**
 * Why a decode leg that named a source computed its prompt itself: its parameters were incomplete; nobody answered at
 * the source; nothing is pinned there under that id (unknown, expired, pulled before); or another prompt is.
 */
export type TransferFailure = "broken" | "unreachable" | "unknown" | "mismatch";

/** Tokens, sequences and transfers since the start. */
export interface EngineCounts {
  requests: number;
  aborted: number;
  readonly finished: Record<FinishReason, number>;
  prefillLegs: number;
  /** Sequences that are no prefill leg, by where the KV of their prompt came from. */
  decodeLegsRemote: number;
  decodeLegsLocal: number;
  readonly transferFailures: Record<TransferFailure, number>;
  promptTokens: number;
  /** Prompt tokens looked up in the prefix cache. */
  queriedTokens: number;
  /** Prompt tokens found in the prefix cache, and pulled from other engines. */
  cachedTokens: number;
  pulledTokens: number;
  generatedTokens: number;
  preemptions: number;
  /** Prefixes that other engines pulled from here or kept pinned, and that nobody pulled before the lease ended. */
  pinsPulled: number;
  pinsRenewed: number;
  pinsExpired: number;
}

/** Counts, and how the engine stands now. */
export interface EngineFacts extends Readonly<EngineCounts> {
  readonly running: number;
  /** Waiting for blocks, for a place in the batch, or for a transfer. */
  readonly waiting: number;
  readonly deferred: number;
  readonly pinnedRequests: number;
  readonly usedBlocks: number;
  readonly capacityBlocks: number;
}

export const newCounts = (): EngineCounts => ({
  requests: 0,
  aborted: 0,
  finished: { stop: 0, length: 0 },
  prefillLegs: 0,
  decodeLegsRemote: 0,
  decodeLegsLocal: 0,
  transferFailures: { broken: 0, unreachable: 0, unknown: 0, mismatch: 0 },
  promptTokens: 0,
  queriedTokens: 0,
  cachedTokens: 0,
  pulledTokens: 0,
  generatedTokens: 0,
  preemptions: 0,
  pinsPulled: 0,
  pinsRenewed: 0,
  pinsExpired: 0,
});
