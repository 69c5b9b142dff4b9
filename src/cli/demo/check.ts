/** Whether every step of the demo did what it should. */
import { labelOf } from "../../kinds/kube.ts";
import { LABEL } from "../../kinds/names.ts";
import type { Admitted, Scheduled } from "../../simulator/cluster.ts";
import type { PodEngine } from "./fleet.ts";
import { hitRate, type DemoResult } from "./traffic.ts";

export interface DemoOutcome {
  readonly fleet: readonly PodEngine[];
  readonly results: readonly DemoResult[];
  readonly baseline: readonly DemoResult[];
  /** What stood in front of the router. */
  readonly frontend: string;
}

export interface DemoFacts extends DemoOutcome {
  readonly admitted: readonly Admitted[];
  readonly scheduled: readonly Scheduled[];
}

type Check = (facts: DemoFacts) => string | undefined;

const roleAt = (address: string, fleet: readonly PodEngine[]): string =>
  fleet.find(({ engine }) => engine.address === address)?.endpoint.role ?? "none";

const CHECKS: readonly Check[] = [
  ({ admitted }) =>
    admitted.length > 0 && admitted.every(({ stored }) => stored) ? undefined : "an object was denied",
  ({ admitted }) => (admitted.every(({ before, after }) => before !== after) ? undefined : "an object was not changed"),
  ({ scheduled }) =>
    scheduled.length > 0 && scheduled.every(({ node }) => node !== null) ? undefined : "a pod was not placed",
  ({ scheduled }) => {
    const roles = new Set(scheduled.map(({ pod }) => labelOf(pod, LABEL.role)));
    return roles.has("prefill") && roles.has("decode") ? undefined : "prefill or decode pods are missing";
  },
  ({ results }) => (results.every(({ status }) => status === 200) ? undefined : "a request failed"),
  ({ baseline }) => (baseline.every(({ status }) => status === 200) ? undefined : "a round robin request failed"),
  ({ results, fleet }) =>
    results.every(({ decode }) => roleAt(decode, fleet) === "decode") ? undefined : "a decode leg ran elsewhere",
  ({ results, fleet }) =>
    results.every(({ prefill }) => roleAt(prefill, fleet) !== "none") ? undefined : "a prefill leg ran nowhere",
  ({ results, baseline }) =>
    hitRate(results) > hitRate(baseline) ? undefined : "the hit rate is not above round robin's",
];

/** What went wrong, one line each. */
export const problemsOf = (facts: DemoFacts): string[] =>
  CHECKS.flatMap((check) => {
    const problem = check(facts);
    return problem === undefined ? [] : [problem];
  });
