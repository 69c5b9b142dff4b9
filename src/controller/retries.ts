/** When an action may be done (again): pure bookkeeping of failures and repetitions, by the action's key. */
import type { Action } from "./action.ts";

interface Record {
  /** What was asked for; another content starts afresh. */
  readonly content: string;
  readonly attempts: number;
  /** Monotonic milliseconds before which it is not done again. */
  readonly notBefore: number;
}

export interface Retries {
  due(action: Action, now: number): boolean;
  /** It was tried at `now`; `random` is in [0, 1). */
  tried(action: Action, now: number, random: number): void;
  /**
   * Forgets what is no longer asked for; gives the milliseconds until the first write of the rest is due. What is only
   * told is asked for in every pass, and passes must not come for its sake: with thousands of them there would be no end.
   */
  keep(actions: readonly Action[], now: number): number | undefined;
}

/**
 * Doubling from 1 s to 5 min. It holds for what succeeded too: asked for again with the same content, either our store
 * has not seen the write yet, or somebody undoes it, and neither is helped by haste.
 */
const FIRST_MS = 1000;
const MOST_MS = 300_000;

export function createRetries(): Retries {
  const records = new Map<string, Record>();
  return {
    due: (action, now) => {
      const record = records.get(action.key);
      return record === undefined || record.content !== contentOf(action) || now >= record.notBefore;
    },
    tried: (action, now, random) => {
      const content = contentOf(action);
      const before = records.get(action.key);
      const attempts = before?.content === content ? before.attempts + 1 : 1;
      const ceiling = Math.min(MOST_MS, FIRST_MS * 2 ** (attempts - 1));
      records.set(action.key, { content, attempts, notBefore: now + ceiling * (0.5 + random / 2) });
    },
    keep: (actions, now) => {
      const asked = new Map(actions.map((action) => [action.key, action.do !== "tell"]));
      for (const key of records.keys()) if (!asked.has(key)) records.delete(key);
      let wait: number | undefined;
      for (const [key, { notBefore }] of records)
        if (asked.get(key) === true) wait = Math.min(wait ?? Infinity, Math.max(0, notBefore - now));
      return wait;
    },
  };
}

/** What is told is told once: repeating it is the Event's own affair. */
function contentOf(action: Action): string {
  switch (action.do) {
    case "apply":
      return JSON.stringify(action.object);
    case "patch":
      return JSON.stringify(action.timeless ?? action.body);
    case "remove":
      return `${action.uid ?? ""}/${action.version ?? ""}`;
    case "tell":
      return action.verdict.message;
  }
}
