/** Which namespaces Tandem acts in, where the operator lets namespaces opt in by a label. */
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
