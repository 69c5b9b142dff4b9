/** Whether the pods that went in a scale-in are those that had been drained for it: from the pods before and after. */
import { keyOf, type Pod } from "../../kinds/kube.ts";
import { warned, type Verdict } from "../../kinds/verdict.ts";

/** A scale-in that was asked for. */
export interface Shrunk {
  readonly victims: readonly Pod[];
  /** All that counted as replicas before. */
  readonly before: readonly Pod[];
  /** Monotonic. */
  readonly at: number;
}

/** Kubernetes deletes within seconds; after that other reasons take pods away, too. */
const SETTLED_MS = 60_000;

export interface Verification {
  readonly done: boolean;
  /** Given where others went instead. */
  readonly verdict?: Verdict;
}

/** `after` are those that count as replicas now. */
export function verify(
  { victims, before, at }: Shrunk,
  after: readonly Pod[],
  { workload, now }: { readonly workload: string; readonly now: number },
): Verification {
  const here = new Set(after.map(({ metadata }) => metadata.uid));
  const left = victims.filter(({ metadata }) => here.has(metadata.uid));
  if (left.length === 0) return { done: true };
  const chosen = new Set(victims);
  const others = before.filter((pod) => !chosen.has(pod) && !here.has(pod.metadata.uid));
  const isSettled = before.length - after.length >= victims.length || now - at >= SETTLED_MS;
  if (!isSettled) return { done: false };
  if (others.length === 0) return { done: true };
  const message = `scaled in: ${names(others)} went instead of ${names(left)}`;
  return { done: true, verdict: warned("ScaleInElsewhere", message, { subject: workload }) };
}

/** Names of the first few. */
const names = (pods: readonly Pod[]): string =>
  `${pods.slice(0, 5).map(keyOf).join(", ")}${pods.length > 5 ? ` and ${pods.length - 5} more` : ""}`;
