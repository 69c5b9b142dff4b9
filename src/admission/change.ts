/**
 * Changes: the additive edits that stages ask for, how they are done to an object and how they are taken out again.
 *
 * A stage wishes; what already stands as wanted, or was written by the user, is left. What is done is recorded so that
 * `revert` gives back the object as it was, whatever `kubectl apply` did to it in between.
 */
import { isObject } from "../kinds/kube.ts";
import { equal, isEmpty, replaceAt, valueAt, type Path } from "./value.ts";

/** Sets a key. A value equal to `unless` (what the API server fills in) counts as unset. */
export interface SetWish {
  readonly kind: "set";
  readonly path: Path;
  readonly value: unknown;
  readonly unless?: unknown;
  /** Ours alone: set over whatever stands there. */
  readonly force?: true;
}

/** Adds an item to a list that is merged by `key`, unless one with that key is there. */
export interface ItemWish {
  readonly kind: "item";
  readonly path: Path;
  readonly key: string;
  readonly value: object;
}

/** Adds a run of values to the end of a list, unless the same run stands in it. */
export interface AppendWish {
  readonly kind: "append";
  readonly path: Path;
  readonly values: readonly unknown[];
}

export type Wish = SetWish | ItemWish | AppendWish;

/** What was done: the wish, what stood there before, and how many containers on the way had to be made. */
export type Change =
  | {
      readonly kind: "set";
      readonly path: Path;
      readonly value: unknown;
      readonly was?: unknown;
      readonly made: number;
    }
  | { readonly kind: "item"; readonly path: Path; readonly key: string; readonly value: object; readonly made: number }
  | { readonly kind: "append"; readonly path: Path; readonly values: readonly unknown[]; readonly made: number };

export const set = (path: Path, value: unknown, unless?: unknown): SetWish =>
  unless === undefined ? { kind: "set", path, value } : { kind: "set", path, value, unless };
export const force = (path: Path, value: unknown): SetWish => ({ kind: "set", path, value, force: true });
export const item = (path: Path, value: object, key = "name"): ItemWish => ({ kind: "item", path, key, value });
export const append = (path: Path, values: readonly unknown[]): AppendWish => ({ kind: "append", path, values });

/** Containers that must be made before something can be put at `path`, which must itself be one for lists. */
function missing(object: unknown, path: Path): number {
  let length = path.length;
  while (length > 0 && valueAt(object, path.slice(0, length)) === undefined) length--;
  return path.length - length;
}

const keyed = (value: unknown, key: string): unknown => (isObject(value) ? value[key] : undefined);
const listAt = (object: unknown, path: Path): readonly unknown[] => {
  const value = valueAt(object, path);
  return Array.isArray(value) ? value : [];
};

function planSet(object: unknown, wish: SetWish): Change | undefined {
  const current = valueAt(object, wish.path);
  const change = {
    kind: "set",
    path: wish.path,
    value: wish.value,
    made: missing(object, wish.path.slice(0, -1)),
  } as const;
  if (current === undefined) return change;
  if (equal(current, wish.value)) return undefined;
  // Remembered, because doing a change leaves alone what is not as it was when it was planned.
  if (wish.force === true) return { ...change, was: current };
  return wish.unless !== undefined && equal(current, wish.unless) ? { ...change, was: current } : undefined;
}

function planItem(object: unknown, { path, key, value }: ItemWish): Change | undefined {
  const there = listAt(object, path).some((one) => keyed(one, key) === keyed(value, key));
  return there ? undefined : { kind: "item", path, key, value, made: missing(object, path) };
}

/** Where a run of values stands last in a list; -1 where it does not. */
const lastRun = (list: readonly unknown[], run: readonly unknown[]): number =>
  list.findLastIndex((_, start) => run.every((value, offset) => equal(list[start + offset], value)));

function planAppend(object: unknown, { path, values }: AppendWish): Change | undefined {
  if (lastRun(listAt(object, path), values) !== -1) return undefined;
  return { kind: "append", path, values, made: missing(object, path) };
}

/** True where the list items on the way exist: maps can be made, containers of a pod cannot. */
const reachable = (object: unknown, path: Path): boolean => {
  const last = path.findLastIndex((step) => typeof step !== "string");
  return last === -1 || valueAt(object, path.slice(0, last + 1)) !== undefined;
};

/** What has to be done for a wish; undefined where it already is so, or where the user's value stands. */
export function toChange(object: unknown, wish: Wish): Change | undefined {
  if (!reachable(object, wish.path)) return undefined;
  if (wish.kind === "set") return planSet(object, wish);
  return wish.kind === "item" ? planItem(object, wish) : planAppend(object, wish);
}

/** The object with a change done. Doing it twice is doing it once. */
export function apply<T>(object: T, change: Change): T {
  const wish: Wish = change.kind === "set" ? { ...change, unless: change.was } : change;
  const due = toChange(object, wish);
  if (due === undefined) return object;
  return replaceAt(object, due.path, (value) => done(value, due)) as T;
}

function done(value: unknown, change: Change): unknown {
  if (change.kind === "set") return change.value;
  const list: readonly unknown[] = Array.isArray(value) ? value : [];
  return change.kind === "item" ? [...list, change.value] : [...list, ...change.values];
}

function undone(value: unknown, change: Change): unknown {
  if (change.kind === "set") return equal(value, change.value) ? change.was : value;
  if (!Array.isArray(value)) return value;
  const ours = change.kind === "item" ? [change.value] : change.values;
  const start = lastRun(value, ours);
  return start === -1 ? value : value.toSpliced(start, ours.length);
}

/** Removes the `count` containers that end at `path`, from the inside, as long as they are empty. */
function prune(object: unknown, path: Path, count: number): unknown {
  if (count === 0 || path.length === 0) return object;
  if (!isEmpty(valueAt(object, path))) return object;
  return prune(
    replaceAt(object, path, () => undefined),
    path.slice(0, -1),
    count - 1,
  );
}

/** The object with a change taken out, where it still stands as it was done; the user's own values stay. */
export function revert<T>(object: T, change: Change): T {
  if (valueAt(object, change.path) === undefined && change.made === 0) return object;
  const without =
    valueAt(object, change.path) === undefined
      ? object
      : replaceAt(object, change.path, (value) => undone(value, change));
  return prune(without, change.kind === "set" ? change.path.slice(0, -1) : change.path, change.made) as T;
}

/** In the order they were done. */
export const applyAll = <T>(object: T, changes: readonly Change[]): T => changes.reduce<T>(apply, object);

/** In the opposite order, so that a container goes only after everything put into it. */
export const revertAll = <T>(object: T, changes: readonly Change[]): T =>
  changes.toReversed().reduce<T>(revert, object);
