/**
 * `tandem doctor`: what silently disables gangs, topology and admission, found in the facts of a cluster or of files.
 *
 * Decides from facts alone and repairs nothing. Every check gives exactly one Verdict, whose reason has a hint.
 */
import { hintOf } from "../kinds/hints.ts";
import type { Outcome, Verdict } from "../kinds/verdict.ts";
import { verdictOf, type Check } from "./check.ts";
import { PLACEMENT_CHECKS } from "./checks/placement.ts";
import { SCHEDULER_CHECKS } from "./checks/scheduler.ts";
import { VOLCANO_EXTENDER_CHECKS } from "./checks/volcano-extender.ts";
import { VOLCANO_CHECKS } from "./checks/volcano.ts";
import { WEBHOOK_CHECKS } from "./checks/webhooks.ts";
import type { Facts } from "./facts.ts";

/** In the order in which they are printed. */
export const CHECKS: readonly Check[] = [
  ...WEBHOOK_CHECKS,
  ...VOLCANO_CHECKS,
  ...PLACEMENT_CHECKS,
  ...SCHEDULER_CHECKS,
  ...VOLCANO_EXTENDER_CHECKS,
];

export type State = "ok" | "warn" | "fail" | "skip";

/** One line of the report; the stable form of `-o json`. */
export interface Finding {
  readonly check: string;
  readonly state: State;
  readonly reason: string;
  readonly message: string;
  /** What to do; null where nothing is to be done. */
  readonly hint: string | null;
}

const STATES: Readonly<Record<Outcome, State>> = {
  allowed: "ok",
  changed: "ok",
  kept: "ok",
  skipped: "skip",
  warned: "warn",
  denied: "fail",
};

export const examine = (facts: Facts): readonly Finding[] => CHECKS.map((check) => findingOf(verdictOf(check, facts)));

export function findingOf({ subject = "", outcome, reason, message }: Verdict): Finding {
  const state = STATES[outcome];
  const hint = state === "warn" || state === "fail" ? (hintOf(reason) ?? null) : null;
  return { check: subject, state, reason, message, hint };
}
