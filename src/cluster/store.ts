/**
 * The store of one kind: written by its reflector alone, read as immutable snapshots.
 *
 * A change is told to listeners at most once a turn of the event loop, however many objects a watch chunk brought.
 */
import { keyOf, type KubeObject } from "../kinds/kube.ts";
import type { Cancel, Snapshot, Source } from "../ports.ts";

/** A source that also says whether its API exists and how old its news is. */
export interface WatchedSource<T> extends Source<T> {
  /** False while the server has no such API (an optional CRD). */
  installed(): boolean;
  /** Milliseconds since the server was last heard, bookmarks included; Infinity before the first list. */
  ageMs(): number;
}

export interface Store<T extends KubeObject> extends WatchedSource<T> {
  /** The whole of the kind: what is not named is gone. */
  replace(items: readonly T[]): void;
  put(item: T): void;
  remove(item: KubeObject): void;
  /** The server has no such API. */
  absent(): void;
  /** The server was heard. */
  heard(): void;
}

export function createStore<T extends KubeObject>(monotonic: () => number): Store<T> {
  let items = new Map<string, T>();
  let current: Snapshot<T> = { version: 0, items: [] };
  let version = 0;
  let isSynced = false;
  let isInstalled = false;
  let lastHeard = Number.NEGATIVE_INFINITY;
  const bell = createBell();

  const changed = (): void => {
    version += 1;
    bell.ring();
  };
  const fill = (next: readonly T[], installed: boolean): void => {
    const before = items;
    items = new Map(next.map((item) => [keyOf(item), unchanged(before.get(keyOf(item)), item)]));
    const same = isSynced && isInstalled === installed && sameItems(before, items);
    [isSynced, isInstalled, lastHeard] = [true, installed, monotonic()];
    if (!same) changed();
  };
  return {
    replace: (next) => fill(next, true),
    absent: () => fill([], false),
    put: (item) => {
      const kept = items.get(keyOf(item));
      if (kept !== undefined && unchanged(kept, item) === kept) return;
      items.set(keyOf(item), item);
      changed();
    },
    remove: (item) => {
      if (items.delete(keyOf(item))) changed();
    },
    heard: () => void (lastHeard = monotonic()),
    snapshot: () => {
      if (current.version !== version) current = { version, items: [...items.values()] };
      return current;
    },
    synced: () => isSynced,
    installed: () => isInstalled,
    ageMs: () => monotonic() - lastHeard,
    onChange: (listener) => bell.hear(listener),
  };
}

/** The object we had, where the server's is the same one: readers may compare by identity. */
const unchanged = <T extends KubeObject>(before: T | undefined, now: T): T =>
  before !== undefined &&
  before.metadata.resourceVersion !== undefined &&
  before.metadata.resourceVersion === now.metadata.resourceVersion &&
  before.metadata.uid === now.metadata.uid
    ? before
    : now;

const sameItems = <T>(before: ReadonlyMap<string, T>, now: ReadonlyMap<string, T>): boolean =>
  before.size === now.size && [...now].every(([key, item]) => before.get(key) === item);

export interface Bell {
  readonly ring: () => void;
  readonly hear: (listener: () => void) => Cancel;
}

/** Rings its listeners at most once a turn of the event loop. */
export function createBell(): Bell {
  const listeners = new Set<() => void>();
  let ringing = false;
  const tell = (): void => {
    ringing = false;
    for (const listener of [...listeners]) listener();
  };
  return {
    ring: () => {
      if (ringing) return;
      ringing = true;
      setImmediate(tell);
    },
    hear: (listener) => {
      const own = (): void => listener();
      listeners.add(own);
      return () => void listeners.delete(own);
    },
  };
}
