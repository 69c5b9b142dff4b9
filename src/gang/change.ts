/** What changed between two lists of a snapshot. */

/**
 * Tells what left and what came. Objects of a snapshot never change, so identity is enough. Most changes are one item, or
 * some that stand in the same places: those cost a comparison each; only where the lists differ in length is the stretch
 * between their common beginning and end looked up.
 */
export function replaced<T>(
  before: readonly T[],
  after: readonly T[],
  tell: { left: (item: T) => void; came: (item: T) => void },
): void {
  if (before === after) return;
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start++;
  let end = 0;
  while (end < most - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  const [old, now] = [before.slice(start, before.length - end), after.slice(start, after.length - end)];
  const { left, came } = old.length === now.length ? inPlace(old, now) : lookedUp(old, now);
  // All that left first: an item that came may take the place of one.
  for (const item of left) tell.left(item);
  for (const item of came) tell.came(item);
}

interface Difference<T> {
  readonly left: readonly T[];
  readonly came: readonly T[];
}

/** More differences than this are not changes in their places: one item left, another came, and all between has moved. */
const MOST_CHANGES = 256;

function inPlace<T>(old: readonly T[], now: readonly T[]): Difference<T> {
  const [left, came]: [T[], T[]] = [[], []];
  for (const [index, item] of old.entries()) {
    const other = now[index] as T;
    if (item === other) continue;
    left.push(item);
    came.push(other);
    if (left.length > MOST_CHANGES) return lookedUp(old, now);
  }
  return { left, came };
}

function lookedUp<T>(old: readonly T[], now: readonly T[]): Difference<T> {
  const [was, is] = [new Set(old), new Set(now)];
  return { left: old.filter((item) => !is.has(item)), came: now.filter((item) => !was.has(item)) };
}
