/** Label selectors, as the API server reads them. */
import { entry, type LabelSelector, type StringMap } from "./kube.ts";

type Expression = NonNullable<LabelSelector["matchExpressions"]>[number];

/** True where every requirement holds. An empty selector matches everything; an unknown operator matches nothing. */
export const selectorMatches = (selector: LabelSelector, labels: StringMap | undefined): boolean =>
  Object.entries(selector.matchLabels ?? {}).every(([key, value]) => entry(labels, key) === value) &&
  (selector.matchExpressions ?? []).every((expression) => expressionHolds(expression, labels));

function expressionHolds({ key, operator, values = [] }: Expression, labels: StringMap | undefined): boolean {
  const found = entry(labels, key);
  switch (operator) {
    case "In":
      return found !== undefined && values.includes(found);
    case "NotIn":
      return found === undefined || !values.includes(found);
    case "Exists":
      return found !== undefined;
    case "DoesNotExist":
      return found === undefined;
    default:
      return false;
  }
}
