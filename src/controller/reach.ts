/**
 * Where Tandem acts: in the namespaces that its own mutating webhook reaches.
 *
 * One switch for admission and controller: `tandem release` turns a namespace off in the webhook's namespaceSelector,
 * and the controller, which reads the same selector, leaves everything there as it is. Absent (before the installation,
 * or after somebody removed the webhooks in an emergency) means nowhere: it then neither writes nor deletes.
 */
import { isObject, type KubeObject, type LabelSelector } from "../kinds/kube.ts";
import { NAMESPACE_LABEL, selectorMatches } from "../kinds/selector.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Config } from "../config/schema.ts";
import { hasOptedIn } from "../workload/tenancy.ts";
import type { Acts } from "./contracts.ts";

export { NAMESPACE_LABEL } from "../kinds/selector.ts";

/** Where namespaces opt in, only in those that have. */
export function optedIn(acts: Acts, snapshot: ClusterSnapshot, { admission }: Pick<Config, "admission">): Acts {
  if (admission.optIn === "") return acts;
  const known = new Map(snapshot.namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  return (name) => acts(name) && hasOptedIn(admission.optIn, name, known.get(name));
}

/** `configuration`: the MutatingWebhookConfiguration; `none` where the configuration of Tandem names none. */
export function reachOf(configuration: KubeObject | undefined | "none", snapshot: ClusterSnapshot): Acts {
  if (configuration === "none") return () => true;
  const selectors = hooksOf(configuration).map((hook) => (hook["namespaceSelector"] ?? {}) as LabelSelector);
  const labels = new Map(snapshot.namespaces.map(({ metadata }) => [metadata.name ?? "", metadata.labels]));
  return (namespace) => {
    const known = { ...labels.get(namespace), [NAMESPACE_LABEL]: namespace };
    return selectors.some((selector) => selectorMatches(selector, known));
  };
}

/** The webhooks of a configuration. */
export function hooksOf(configuration: KubeObject | undefined): readonly Record<string, unknown>[] {
  const hooks = configuration?.["webhooks"];
  return Array.isArray(hooks) ? hooks.filter(isObject) : [];
}
