/** Sets of holders in slots and rows, against plain maps: whatever comes, goes and is shared, a slot says who holds it. */
import t from "tap";
import fc from "fast-check";
import { holderOf, NOBODY, type Value } from "../../src/router/kv/holders.ts";
import { RowPool } from "../../src/router/kv/rows.ts";

const [ENDPOINTS, SLOTS, ROWS] = [12, 6, 80] as const;
const live = new Uint8Array(ENDPOINTS).fill(0xff);

const step = fc.record({
  slot: fc.nat(SLOTS - 1),
  // One in eight takes a holder out; runs of the same holder are what the pool remembers its last step for.
  add: fc.integer({ min: 0, max: 7 }).map((n) => n > 0),
  endpoint: fc.nat(ENDPOINTS - 1),
  mark: fc.nat(1),
  times: fc.integer({ min: 1, max: SLOTS }),
});

t.test("a slot says who holds it, also where rows were given back and serve again", (t) => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 300, maxLength: 900 }), (steps) => {
      const pool = new RowPool(new SharedArrayBuffer(ENDPOINTS * ROWS), 0, ENDPOINTS, ROWS);
      const slots = Array.from({ length: SLOTS }, (): Value => NOBODY);
      const model = Array.from({ length: SLOTS }, () => new Map<number, number>());
      const set = (at: number, value: Value): void => {
        pool.replace(slots[at]!, value);
        slots[at] = value;
      };
      for (const { slot, add, endpoint, mark, times } of steps)
        for (let n = 0; n < times; n++) {
          const at = (slot + n) % SLOTS;
          const value = add
            ? pool.with(slots[at]!, holderOf(endpoint, mark), live)
            : pool.without(slots[at]!, endpoint, 0xff, live);
          // Where the pool is full nothing is added, and who is taken out takes all others along.
          if (value === undefined) continue;
          set(at, value);
          if (add) model[at]!.set(endpoint, mark);
          else if (value === NOBODY) model[at]!.clear();
          else model[at]!.delete(endpoint);
        }
      return slots.every((value, at) =>
        Array.from({ length: ENDPOINTS }, (_, endpoint) => endpoint).every(
          (endpoint) => pool.markOf(value, endpoint, live) === (model[at]!.get(endpoint) ?? -1),
        ),
      );
    }),
    { numRuns: 150 },
  );
  t.end();
});
