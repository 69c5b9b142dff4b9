/** A check: what it needs to know, and its judgement of it, as one Verdict. */
import { allowed, denied, skipped, warned, type Reason, type Verdict } from "../kinds/verdict.ts";
import type { FactKind, Facts, Found } from "./facts.ts";

/** A part of the facts that may be unknown. */
export type Need = FactKind | "volcano" | "schedulers";

export interface Check {
  /** Lower case with dashes; stable. */
  readonly name: string;
  /** Without one of these the check is skipped. */
  readonly needs: readonly Need[];
  readonly judge: (facts: Facts) => Verdict;
}

export const good = (message: string): Verdict => allowed("CheckPassed", message);
export const idle = (message: string): Verdict => skipped("CheckSkipped", message);

const factOf = (facts: Facts, need: Need): Found<unknown> =>
  need === "volcano" || need === "schedulers" ? facts[need] : facts.objects[need];

/** The verdict of a check; its subject is the check's name. */
export function verdictOf(check: Check, facts: Facts): Verdict {
  const unknown = check.needs.map((need) => factOf(facts, need)).find(({ known }) => !known);
  const verdict = unknown !== undefined && !unknown.known ? idle(unknown.why) : check.judge(facts);
  return { ...verdict, subject: check.name };
}

/** Names in a message: more than these are counted. */
const MOST_NAMED = 3;

export function listed(names: readonly string[]): string {
  const more = names.length - MOST_NAMED;
  return names.slice(0, MOST_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

export interface Complaint {
  readonly reason: Reason;
  readonly message: string;
  /** Only a warning. */
  readonly mild?: boolean;
}

/** The worst of some complaints, with the rest of them in its words; what is good where there are none. */
export function worst(complaints: readonly Complaint[], otherwise: string): Verdict {
  const bad = complaints.filter(({ mild }) => mild !== true);
  const [first] = bad.length > 0 ? bad : complaints;
  if (first === undefined) return good(otherwise);
  const message = listed([...new Set([...bad, ...complaints].map(({ message }) => message))]);
  return bad.length > 0 ? denied(first.reason, message) : warned(first.reason, message);
}
