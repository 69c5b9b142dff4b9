/** An affinity that keeps a pod in a domain, added to one that it has. */
import type { Affinity, NodeSelectorTerm } from "../kinds/kube.ts";
import type { DomainExpression } from "./expression.ts";

/** Outweighs other wishes: each step of closeness is worth more than any of them (100 is the highest that there is). */
const WEIGHT = 100;

/**
 * The affinity with the domain: required, in every term, since terms are alternatives and a gated pod's may only be
 * narrowed (KEP-3838); or preferred.
 */
export function confined(affinity: Affinity | undefined, expression: DomainExpression, required: boolean): Affinity {
  const inside = { key: expression.key, operator: "In" as const, values: [...expression.values] };
  if (isConfined(affinity, expression)) return affinity ?? {};
  const { requiredDuringSchedulingIgnoredDuringExecution: must, ...given } = affinity?.nodeAffinity ?? {};
  if (!required) {
    const wishes = [
      ...(given.preferredDuringSchedulingIgnoredDuringExecution ?? []),
      { weight: WEIGHT, preference: { matchExpressions: [inside] } },
    ];
    const kept = must === undefined ? {} : { requiredDuringSchedulingIgnoredDuringExecution: must };
    return { ...affinity, nodeAffinity: { ...kept, preferredDuringSchedulingIgnoredDuringExecution: wishes } };
  }
  const terms: readonly NodeSelectorTerm[] = must?.nodeSelectorTerms ?? [{}];
  const nodeSelectorTerms = terms.map((term) => ({
    ...term,
    matchExpressions: [...(term.matchExpressions ?? []), inside],
  }));
  return {
    ...affinity,
    nodeAffinity: { ...given, requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
  };
}

/** Whether some term of the pod's node affinity says so already: a webhook may see a pod twice. */
function isConfined(affinity: Affinity | undefined, { key, values }: DomainExpression): boolean {
  const {
    requiredDuringSchedulingIgnoredDuringExecution: must,
    preferredDuringSchedulingIgnoredDuringExecution: wishes,
  } = affinity?.nodeAffinity ?? {};
  const terms = [...(must?.nodeSelectorTerms ?? []), ...(wishes ?? []).map(({ preference }) => preference)];
  return terms.some(({ matchExpressions = [] }) =>
    matchExpressions.some(
      (one) => one.key === key && one.operator === "In" && JSON.stringify(one.values) === JSON.stringify(values),
    ),
  );
}
