/** Which namespaces Tandem acts in and routes to, where the operator lets namespaces opt in by a label. */
import { entry, type Namespace } from "../kinds/kube.ts";
import { namespaceLabels } from "../kinds/selector.ts";

/**
 * `optIn` is `key=value`, a key alone, or empty for every namespace. A namespace that is not known has not opted in: what
 * is left alone can be admitted later, what was injected by mistake has rolled already.
 */
export function hasOptedIn(optIn: string, name: string, namespace: Namespace | undefined): boolean {
  if (optIn === "") return true;
  const at = optIn.indexOf("=");
  const found = entry(namespaceLabels(name, namespace), at === -1 ? optIn : optIn.slice(0, at));
  return at === -1 ? found !== undefined : found === optIn.slice(at + 1);
}

export interface RoutedFacts {
  /** `admission.optIn` */
  readonly optIn: string;
  /** `router.namespaces` */
  readonly only: readonly string[];
  readonly namespaces: readonly Namespace[];
}

/** Which namespaces' pods are routed to: nothing is sent to one that the operator left out, or that opted out again. */
export function routedNamespaces({ optIn, only, namespaces }: RoutedFacts): (name: string) => boolean {
  const known = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  return (name) => (only.length === 0 || only.includes(name)) && hasOptedIn(optIn, name, known.get(name));
}
