/** The one code that says why a number is as it is: for annotations and metric labels. */
import type { Reason } from "../kinds/verdict.ts";
import type { WorkloadDecision } from "./group.ts";

/** They say that the number changes or stands, and not why. */
const OUTCOMES: readonly Reason[] = ["ScaleReplicas", "ScaleKept"];

/** Of the last step of the chain that had a say; undefined for a chain without any. */
export const reasonOf = ({ chain }: Pick<WorkloadDecision, "chain">): Reason | undefined =>
  (chain.findLast(({ reason }) => !OUTCOMES.includes(reason)) ?? chain.at(-1))?.reason;
