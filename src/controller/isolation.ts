/**
 * One object on which a decision throws must not stop the decisions about all the others: it is left as it is, and told
 * of. What is deleted because nothing asks for it stays in its namespace until the object can be judged again.
 */
import { keyOf, type KubeObject } from "../kinds/kube.ts";
import { warned } from "../kinds/verdict.ts";
import type { Action } from "./action.ts";

export interface Isolation {
  /** What `decide` gives; nothing where it throws. `object` is what it is about, undefined for a whole part of a pass. */
  readonly guard: <T>(part: string, object: KubeObject | undefined, decide: () => readonly T[]) => readonly T[];
  /** Namespaces with an object that could not be judged; grows. */
  readonly unclear: Set<string>;
  /** One for each that threw; grows. */
  readonly actions: Action[];
}

/** Longest piece of an error that is told: it may quote the object. */
const LONGEST = 200;

export function createIsolation(): Isolation {
  const unclear = new Set<string>();
  const actions: Action[] = [];
  return {
    unclear,
    actions,
    guard: (part, object, decide) => {
      try {
        return decide();
      } catch (error) {
        if (object !== undefined) unclear.add(object.metadata.namespace ?? "default");
        actions.push(failure(part, object, error));
        return [];
      }
    },
  };
}

function failure(part: string, object: KubeObject | undefined, error: unknown): Action {
  const what = object === undefined ? "all" : `${object.kind} ${keyOf(object)}`;
  const why = (error instanceof Error ? error.message : String(error)).slice(0, LONGEST);
  return {
    do: "tell",
    key: `failed/${part}/${object?.metadata.uid ?? what}`,
    verdict: warned("DecisionFailed", `${part}: ${what} is left as it is: ${why}`, { subject: what }),
    about: object === undefined ? [] : [object],
  };
}
