/** When something that failed is tried again: pure bookkeeping by key. */

/** Below a quarter of a minute: once the API server answers again, all is caught up with within one. */
const FIRST_MS = 1000;
const MOST_MS = 15_000;

export interface Backoff {
  due(key: string, now: number): boolean;
  /** `random` is in [0, 1): those that fail together do not come back together. */
  failed(key: string, now: number, random: number): void;
  succeeded(key: string): void;
  /** Forgets all keys but these. */
  keep(keys: ReadonlySet<string>): void;
}

export function createBackoff(): Backoff {
  const records = new Map<string, { readonly attempts: number; readonly notBefore: number }>();
  return {
    due: (key, now) => now >= (records.get(key)?.notBefore ?? -Infinity),
    failed: (key, now, random) => {
      const attempts = (records.get(key)?.attempts ?? 0) + 1;
      const ceiling = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempts - 1, 10));
      records.set(key, { attempts, notBefore: now + ceiling * (0.5 + random / 2) });
    },
    succeeded: (key) => void records.delete(key),
    keep: (keys) => {
      for (const key of records.keys()) if (!keys.has(key)) records.delete(key);
    },
  };
}
