/**
 * The RFC 6902 patch from the object given to the object planned, written from the places that the plan touched.
 *
 * Written from the plan and not by comparing whole objects: a positional comparison of lists rewrites neighbours. Before
 * it leaves it is done once, and must give exactly the planned object: a patch that the API server cannot apply is a 500
 * for the user even under `failurePolicy: Ignore`.
 */
import { warned, type Verdict } from "../kinds/verdict.ts";
import { escapeSegment, patched, type Operation } from "./operations.ts";
import { equal, resolveStep, valueAt, type Path } from "./value.ts";

export type { Operation } from "./operations.ts";

/** The JSON pointer of a path within `root`; undefined where a list item on the way is missing. */
function pointer(root: unknown, path: Path): string | undefined {
  let value = root;
  let text = "";
  for (const step of path) {
    const key = resolveStep(value, step) ?? (typeof step === "string" ? step : undefined);
    if (key === undefined) return undefined;
    text += `/${escapeSegment(key)}`;
    value = valueAt(value, [step]);
  }
  return text;
}

/** The part of a path up to the first place that only one of the two has: there the whole subtree comes or goes. */
function firstDifference(from: unknown, to: unknown, path: Path): Path {
  const end = path.findIndex((_, index) => {
    const part = path.slice(0, index + 1);
    return valueAt(from, part) === undefined || valueAt(to, part) === undefined;
  });
  return end === -1 ? path : path.slice(0, end + 1);
}

/** Edits of one list; above, it is sent whole. With all lists that are touched it keeps a patch below 64 operations. */
const MOST_EDITS = 24;

/** A list edited in place: items that went are removed from the last to the first, new ones are appended. */
function edits(place: string, before: readonly unknown[], after: readonly unknown[]): Operation[] | undefined {
  const removed: Operation[] = [];
  let kept = 0;
  for (const [index, item] of before.entries())
    if (kept < after.length && equal(item, after[kept])) kept++;
    else removed.unshift({ op: "remove", path: `${place}/${index}` });
  const added = after.slice(kept).map((value): Operation => ({ op: "add", path: `${place}/-`, value }));
  const all = removed.length + added.length;
  return all <= after.length && all <= MOST_EDITS ? [...removed, ...added] : undefined;
}

function operations(from: unknown, to: unknown, touched: Path): Operation[] {
  const path = firstDifference(from, to, touched);
  const place = pointer(from, path);
  const [before, after] = [valueAt(from, path), valueAt(to, path)];
  if (place === undefined || equal(before, after)) return [];
  if (after === undefined) return [{ op: "remove", path: place }];
  const edited = Array.isArray(before) && Array.isArray(after) ? edits(place, before, after) : undefined;
  return edited ?? [{ op: before === undefined ? "add" : "replace", path: place, value: after }];
}

/** One patch for all places; several may end in the same subtree, which is sent once. */
function written(from: unknown, to: unknown, touched: readonly Path[]): Operation[] {
  const done = new Set<string>();
  return touched.flatMap((path) => {
    const key = JSON.stringify(firstDifference(from, to, path));
    if (done.has(key)) return [];
    done.add(key);
    return operations(from, to, path);
  });
}

/** Parts that the plan left alone are the same values in both, so that only what was touched is compared. */
function gives(from: unknown, patch: readonly Operation[], to: unknown): boolean {
  try {
    return equal(patched(from, patch), to);
  } catch {
    return false;
  }
}

export interface PatchResult {
  readonly patch: readonly Operation[];
  /** PatchUnsound where the patch would not have given the planned object: then it is empty. */
  readonly unsound?: Verdict;
}

/** The patch from `from` to `to`, which differ at most at `touched`; empty where they are equal. */
export function patchOf(from: unknown, to: unknown, touched: readonly Path[]): PatchResult {
  const patch = written(from, to, touched);
  if (gives(from, patch, to)) return { patch };
  return {
    patch: [],
    unsound: warned("PatchUnsound", "the patch does not give the planned object; nothing is changed"),
  };
}

/** Far above what admission adds: the largest of the golden cases has 32 operations and 6,098 bytes (large.test.ts). */
const MOST_OPERATIONS = 64;
const MOST_BYTES = 32768;

/** Told of a patch that is larger than any should be; `bytes` is its length as JSON. */
export const outsized = (operations: number, bytes: number): readonly Verdict[] =>
  operations <= MOST_OPERATIONS && bytes <= MOST_BYTES
    ? []
    : [warned("PatchLarge", `the patch has ${operations} operations and ${bytes} bytes`)];
