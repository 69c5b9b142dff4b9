/** Label selectors, as the API server reads them. */
import { entry, type LabelSelector, type Namespace, type StringMap } from "./kube.ts";

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

/** Every namespace carries its name under this label; the API server sees to it. */
export const NAMESPACE_LABEL = "kubernetes.io/metadata.name";

/** Labels of a namespace, as far as it is known: its name always is. */
export const namespaceLabels = (name: string, namespace: Namespace | undefined): StringMap => ({
  ...namespace?.metadata.labels,
  [NAMESPACE_LABEL]: name,
});
