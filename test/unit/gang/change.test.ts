import fc from "fast-check";
import t from "tap";
import { replaced } from "../../../src/gang/change.ts";

const told = <T>(before: readonly T[], after: readonly T[]): { left: T[]; came: T[] } => {
  const found: { left: T[]; came: T[] } = { left: [], came: [] };
  replaced(before, after, { left: (item) => found.left.push(item), came: (item) => found.came.push(item) });
  return found;
};

t.test("exactly what left and what came is told, once", (t) => {
  const list = fc.uniqueArray(fc.nat(600), { maxLength: 600, size: "max" });
  fc.assert(
    fc.property(list, list, fc.boolean(), (a, b, sorted) => {
      const [before, after] = sorted ? [a.toSorted((x, y) => x - y), b.toSorted((x, y) => x - y)] : [a, b];
      const { left, came } = told(before, after);
      // Of lists as long as each other, what only changed its place may leave and come again.
      const is = new Set([...before.filter((item) => !left.includes(item)), ...came]);
      return (
        new Set(left).size === left.length &&
        new Set(came).size === came.length &&
        is.size === after.length &&
        after.every((item) => is.has(item)) &&
        (before.length === after.length || left.every((item) => !after.includes(item)))
      );
    }),
    // To shrink lists of 600 takes longer than a test may.
    { numRuns: 300, endOnFailure: true },
  );
  t.end();
});

t.test("what stands in its place is not told, however far apart the changes are", (t) => {
  const before = Array.from({ length: 5000 }, (_, index) => index);
  t.same(told(before, before.with(3, -3).with(4900, -4900)), { left: [3, 4900], came: [-3, -4900] });
  t.same(
    told(before, [...before.slice(0, 10), ...before.slice(11), 9999]),
    { left: [10], came: [9999] },
    "moved by one",
  );
  t.same(
    told(
      before,
      before.filter((item) => item !== 7),
    ),
    { left: [7], came: [] },
  );
  t.same(told(before, [-1, ...before.with(4000, -4000)]), { left: [4000], came: [-1, -4000] });
  t.end();
});
