/** What the serving thread and a tokenizing one say to each other. */
import type { Job } from "./job.ts";

export interface ToTokenizer {
  readonly id: number;
  /** As the configuration names it. */
  readonly model: string;
  readonly job: Job;
}

/** `untold`: not to be known from here. `failed`: a file, a library or a body was not what it should be. */
export type NoTokens = "untold" | "failed";

export type FromTokenizer =
  | { readonly kind: "done"; readonly id: number; readonly ids: Int32Array<ArrayBuffer> }
  | { readonly kind: "none"; readonly id: number; readonly why: NoTokens }
  | { readonly kind: "state"; readonly models: readonly ModelState[]; readonly pieceBytes: number };

export interface ModelState {
  readonly name: string;
  /** False until its files are read; with them it stays true. */
  readonly ready: boolean;
  /** Whether pieces of prompts are kept, and chats can be rendered. */
  readonly segments: boolean;
  readonly chats: boolean;
  /** Why its files, or the newest of them, are not used. */
  readonly problem?: string;
}
