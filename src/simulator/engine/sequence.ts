/** One sequence in the engine: what is asked, how far it is, what becomes of it. */
import type { Cancel } from "../../ports.ts";
import type { FinishReason } from "./output.ts";

/** A pinned prefix on another engine, as `kv_transfer_params` of the decode leg name it. */
export interface RemoteSource {
  readonly engineId: string;
  readonly requestId: string;
  readonly host: string;
  readonly port: number;
  /** It may still be prefilled there: waited for, and without it the request fails. */
  readonly waits?: true;
}

export interface SequenceSpec {
  readonly id: string;
  readonly promptTokens: number;
  /** Length of the answer, decided beforehand; at least 1. */
  readonly outputTokens: number;
  /** Keys of every full block of prompt and answer together. */
  readonly keys: readonly number[];
  /** Of the whole prompt: what both legs of a transfer must agree on. */
  readonly digest: number;
  /** Decode leg: where the KV of the prompt should be. */
  readonly remote?: RemoteSource;
  readonly leg: "prefill" | "decode";
  /** How the answer will end, decided beforehand. */
  readonly finish: FinishReason;
  /** Blocks survive the sequence and belong to the listener, who must `free` them. */
  readonly keep: boolean;
}

/** Where the KV of the prompt came from: another engine, or here (cache and compute). */
export type PrefillPlace = "remote" | "local";

export interface SequenceEnd {
  /** Prompt tokens not computed here: local hits, and what was pulled. */
  readonly cachedTokens: number;
  readonly prefill: PrefillPlace;
  /** Blocks handed over because of `keep`; empty otherwise. */
  readonly kept: readonly number[];
}

export interface SequenceListener {
  /** Token number `count` of the answer exists. */
  token(count: number): void;
  /** After the last token; never after an abort. */
  finished(end: SequenceEnd): void;
  /** In its place: the KV that it waited for never came. */
  failed?(): void;
}

export type Phase = "arriving" | "waiting" | "pulling" | "ready" | "running" | "done";

export interface Sequence {
  readonly spec: SequenceSpec;
  readonly listener: SequenceListener;
  phase: Phase;
  remote: RemoteSource | undefined;
  prefill: PrefillPlace;
  blocks: number[];
  /** Tokens whose KV exists here, and how many of the blocks are sealed. */
  computed: number;
  sealed: number;
  generated: number;
  /** Undefined until first admitted. */
  cachedTokens: number | undefined;
  readonly arrivedAt: number;
  lastTokenAt: number;
  cancelTimer: Cancel;
}

export const newSequence = (spec: SequenceSpec, listener: SequenceListener, now: number): Sequence => ({
  spec,
  listener,
  phase: "arriving",
  remote: spec.remote,
  prefill: "local",
  blocks: [],
  computed: 0,
  sealed: 0,
  generated: 0,
  cachedTokens: undefined,
  arrivedAt: now,
  lastTokenAt: now,
  cancelTimer: () => undefined,
});

/** Tokens that exist, prompt and answer; the KV of the newest one is computed by the step that reads it. */
export const knownTokens = (sequence: Sequence): number => sequence.spec.promptTokens + sequence.generated;
