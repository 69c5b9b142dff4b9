/** When something that failed is tried again: pure bookkeeping by key. */

/** Below a quarter of a minute: once the API server answers again, all is caught up with within one. */
const FIRST_MS = 1000;
const MOST_MS = 15_000;
const MOST_HELD_MS = 30_000;

export interface Backoff {
  due(key: string, now: number): boolean;
  /** `random` is in [0, 1): those that fail together do not come back together. */
  failed(key: string, now: number, random: number): void;
  /** The server itself asks for so long a wait, which never is cut short; `forMs` of at most half a minute is heeded. */
  held(key: string, now: number, forMs: number): void;
  isHeld(key: string, now: number): boolean;
  succeeded(key: string): void;
  /** Forgets all keys but these. */
  keep(keys: ReadonlySet<string>): void;
}

export function createBackoff(): Backoff {
  const records = new Map<string, { readonly attempts: number; readonly notBefore: number }>();
  const holds = new Map<string, number>();
  const isHeld = (key: string, now: number): boolean => now < (holds.get(key) ?? -Infinity);
  return {
    due: (key, now) => now >= (records.get(key)?.notBefore ?? -Infinity) && !isHeld(key, now),
    held: (key, now, forMs) => void holds.set(key, now + Math.min(forMs, MOST_HELD_MS)),
    isHeld,
    failed: (key, now, random) => {
      const attempts = (records.get(key)?.attempts ?? 0) + 1;
      const ceiling = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempts - 1, 10));
      records.set(key, { attempts, notBefore: now + ceiling * (0.5 + random / 2) });
    },
    succeeded: (key) => void records.delete(key),
    keep: (keys) => {
      for (const known of [records, holds]) for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
    },
  };
}
