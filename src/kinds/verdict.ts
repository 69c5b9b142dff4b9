/**
 * Every decision is a Verdict: what was decided, why (a stable code), in words, with the numbers used.
 *
 * The same value becomes the reply, the Event, the metric label, the log line and what `explain` prints.
 */
import type { Reason } from "./reasons.ts";

export { REASONS, type Reason } from "./reasons.ts";

/**
 * - `changed`: something was added or completed   - `kept`: it already was as wanted
 * - `skipped`: does not apply, or was told to leave it   - `warned`: goes on, but a person should know
 * - `denied`: refused   - `allowed`: a check passed, or a node or endpoint is fit
 */
export type Outcome = "changed" | "kept" | "skipped" | "warned" | "denied" | "allowed";

export interface Verdict {
  readonly outcome: Outcome;
  readonly reason: Reason;
  /** For people: names the place, the value found and what is accepted. */
  readonly message: string;
  /** Where: an admission stage, a node, an endpoint, a check. */
  readonly subject?: string;
  readonly numbers?: Readonly<Record<string, number>>;
}

type Rest = Pick<Verdict, "subject" | "numbers">;

const maker =
  (outcome: Outcome) =>
  (reason: Reason, message: string, rest: Rest = {}): Verdict => ({ outcome, reason, message, ...rest });

export const changed = maker("changed");
export const kept = maker("kept");
export const skipped = maker("skipped");
export const warned = maker("warned");
export const denied = maker("denied");
export const allowed = maker("allowed");

export const isDenied = (verdict: Verdict): boolean => verdict.outcome === "denied";
export const isWarned = (verdict: Verdict): boolean => verdict.outcome === "warned";
