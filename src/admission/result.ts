/** What admission is given and what it answers, for workloads and for Pods alike. */
import type { KubeObject, Namespace } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { isDenied, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { hasOptedIn } from "../workload/tenancy.ts";
import type { Settings } from "./stage.ts";
import type { Path } from "./value.ts";

export interface AdmitContext {
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
  /** The object as it is stored, on an update. */
  readonly previous?: KubeObject;
  /** The request is not one of Kubernetes' own controllers: what its object says of its owner is not to be believed. */
  readonly byPerson?: boolean;
  /** The snapshot holds everything that there will be: what is missing in it is missing, and not only late. */
  readonly settled?: boolean;
  /** A Pod stands for those that its workload makes, and makes anew. */
  readonly sample?: boolean;
}

export interface AdmitResult {
  /** What is to be stored; the object itself where it is denied. */
  readonly object: KubeObject;
  readonly verdicts: readonly Verdict[];
  /** Every place that may differ from the object given. */
  readonly touched: readonly Path[];
}

export const leave = (
  object: KubeObject,
  verdicts: readonly Verdict[],
  touched: readonly Path[] = [],
): AdmitResult => ({ object, verdicts, touched });

export const namespaceOf = (object: KubeObject, snapshot: ClusterSnapshot): Namespace | undefined =>
  snapshot.namespaces.find(({ metadata }) => metadata.name === (object.metadata.namespace ?? "default"));

/** Where namespaces opt in: nothing is done elsewhere, nor taken out. */
export function notOptedIn(
  object: KubeObject,
  { settings: { optIn } }: AdmitContext,
  namespace: Namespace | undefined,
): Verdict | undefined {
  if (hasOptedIn(optIn, object.metadata.namespace ?? "default", namespace)) return undefined;
  return skipped("NamespaceNotOptedIn", `the Namespace has no label ${optIn}`);
}

/** A denial that must not stop anybody. */
export const asWarning = (verdict: Verdict): Verdict =>
  isDenied(verdict) ? { ...verdict, outcome: "warned" } : verdict;

export const annotationsFull = warned(
  "AnnotationsFull",
  "there is no room for Tandem's annotations; nothing is injected",
);
