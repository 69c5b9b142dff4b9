/**
 * What `tandem doctor` judges: objects, scheduler configurations, and what answered when it was called.
 *
 * Built from files or by `client.ts` from a cluster. Whatever could not be learned is kept as such, with the reason: a
 * check that lacks a fact says so and never guesses. Nothing here reads the network, and nothing is ever written.
 */
import type { Config } from "../config/schema.ts";
import type { KubeObject } from "../kinds/kube.ts";
import type { SchedulerConfiguration, VolcanoConfiguration } from "./documents.ts";

/** The kinds that are looked at, and their API versions. */
export const FACT_KINDS = {
  Node: "v1",
  Pod: "v1",
  Deployment: "apps/v1",
  StatefulSet: "apps/v1",
  HyperNode: "topology.volcano.sh/v1alpha1",
  PodGroup: "scheduling.volcano.sh/v1beta1",
  Queue: "scheduling.volcano.sh/v1beta1",
  MutatingWebhookConfiguration: "admissionregistration.k8s.io/v1",
  ValidatingWebhookConfiguration: "admissionregistration.k8s.io/v1",
  EndpointSlice: "discovery.k8s.io/v1",
  Secret: "v1",
} as const;

export type FactKind = keyof typeof FACT_KINDS;

/** What there is of something, or why that is not known. */
export type Found<T> =
  { readonly known: true; readonly items: readonly T[] } | { readonly known: false; readonly why: string };

/** What came of calling an address. */
export interface Reached {
  readonly ok: boolean;
  /** For people: the answer, or the failure. */
  readonly message: string;
}

export type DoctorConfig = Pick<Config, "topology" | "controller" | "admission">;

export interface Facts {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly config: DoctorConfig;
  readonly objects: Readonly<Record<FactKind, Found<KubeObject>>>;
  readonly volcano: Found<VolcanoConfiguration>;
  readonly schedulers: Found<SchedulerConfiguration>;
  /** By URL; what was not called is not in it. */
  readonly reached: ReadonlyMap<string, Reached>;
}

/** Objects of several kinds, by kind; kinds of which there is none are unknown: a file may leave anything out. */
export function objectsOf(objects: readonly KubeObject[]): Facts["objects"] {
  const found = (kind: FactKind): Found<KubeObject> => {
    const items = objects.filter((object) => object.kind === kind);
    return someOf(items, `no ${kind} was given`);
  };
  return Object.fromEntries((Object.keys(FACT_KINDS) as FactKind[]).map((kind) => [kind, found(kind)])) as Record<
    FactKind,
    Found<KubeObject>
  >;
}

export const someOf = <T>(items: readonly T[], why: string): Found<T> =>
  items.length > 0 ? { known: true, items } : { known: false, why };

/** What is known, and nothing where it is not: for facts that a check can do without. */
export const itemsOf = <T>(found: Found<T>): readonly T[] => (found.known ? found.items : []);
