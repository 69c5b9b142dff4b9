/** Label selectors, with the meaning that `k8s.io/apimachinery` gives them. */
import { entry, type LabelSelector, type StringMap } from "../kinds/kube.ts";

/** Whether a selector selects an object with these labels. An empty selector selects everything. */
export function selectsLabels(selector: LabelSelector, labels: StringMap | undefined): boolean {
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => entry(labels, key) === value) &&
    (selector.matchExpressions ?? []).every((expression) => holds(expression, entry(labels, expression.key)))
  );
}

/** The operators that label selectors and node selectors share; an unknown operator selects nothing. */
export function holds(
  expression: { readonly operator: string; readonly values?: readonly string[] },
  value: string | undefined,
): boolean {
  switch (expression.operator) {
    case "In":
      return value !== undefined && (expression.values ?? []).includes(value);
    case "NotIn":
      return value === undefined || !(expression.values ?? []).includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    default:
      return false;
  }
}
