/** Words about a stream of KV events: how it is, what it does to the world, what happened to it, and its bounds. */
export type StreamState = "live" | "replaying" | "blind";

/** Why a stream is as it is: `complete` when live; `gap`, `connected` when replaying; the others when blind. */
export type StreamCause = "complete" | "gap" | "connected" | "unreachable" | "unheard" | "lost" | "garbage";

export interface StreamEffects {
  /** Believes a message. `ok`: it could be read. `whole`: with it, all that is cached was heard of. */
  apply(payload: Uint8Array): { readonly ok: boolean; readonly whole: boolean };
  /** Forgets all that was heard. */
  clear(): void;
  /**
   * Asks for all messages from this number on, in place of what was asked for before: `replayed` for each, then
   * `replayEnded`; or `replayFailed`.
   */
  replay(from: number): void;
}

export interface StreamCounts {
  gaps: number;
  lost: number;
  restarts: number;
  duplicates: number;
  garbage: number;
}

export interface StreamLimits {
  /** Messages, and their bytes, that wait while older ones are asked for. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** Replays in a row that may fail, or leave a gap again. */
  readonly attempts: number;
}

/** A message of an engine. */
export interface Message {
  readonly sequence: number;
  /** When it was published, by the engine's clock, in seconds. */
  readonly time: number;
  readonly payload: Uint8Array;
}
