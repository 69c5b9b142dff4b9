/** What changed between two lists of a snapshot. */

/**
 * Tells what left and what came: everything between the common beginning and the common end of two lists. Objects of a
 * snapshot never change, so identity is enough; an unchanged item inside the stretch leaves and comes again.
 */
export function replaced<T>(
  before: readonly T[],
  after: readonly T[],
  tell: { left: (item: T) => void; came: (item: T) => void },
): void {
  if (before === after) return;
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  const most = Math.min(before.length, after.length) - start;
  while (end < most && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  for (const item of before.slice(start, before.length - end)) tell.left(item);
  for (const item of after.slice(start, after.length - end)) tell.came(item);
}
