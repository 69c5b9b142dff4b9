/** What the controller wants done: values, carried out in one place (`loop.ts`). */
import type { KubeObject, ObjectRef } from "../kinds/kube.ts";
import type { Verdict } from "../kinds/verdict.ts";
import type { PatchType } from "../ports.ts";

interface Reasoned {
  /** What it is about, unique for one kind of change of one object: for back-off, metrics and logs. */
  readonly key: string;
  readonly verdict: Verdict;
  /** Objects that get an Event, once the action is done. */
  readonly about: readonly KubeObject[];
}

export type Action = Reasoned &
  (
    | { readonly do: "apply"; readonly object: KubeObject }
    | {
        readonly do: "patch";
        readonly kind: string;
        readonly ref: ObjectRef;
        readonly type: PatchType;
        readonly body: unknown;
        /** The body without the time of day, where it tells that: asked for a second later, it is the same again. */
        readonly timeless?: unknown;
      }
    | {
        readonly do: "remove";
        readonly kind: string;
        readonly ref: ObjectRef;
        readonly uid: string | undefined;
        /** Given: only as it was read, and not what it has become since. */
        readonly version?: string | undefined;
      }
    /** Nothing is written but the Event. */
    | { readonly do: "tell" }
  );

/** Kind of the object that an action writes, for metrics. */
export function kindOf(action: Action): string {
  if (action.do === "apply") return action.object.kind;
  return action.do === "tell" ? "Event" : action.kind;
}
