/** The extender's binding in a world of lost, late and wrong answers; the whole campaigns are rows E2 to E4. */
import t from "tap";
import { kills, losses, overlaps } from "../support/binding-campaigns.ts";

t.setTimeout(300_000);

t.test("overlapping filters and binds never give a device twice", async (t) => {
  const { faults, counts } = await overlaps(300);
  t.same(faults.slice(0, 5), []);
  t.ok(counts.binds > 1000 && counts.lost > 300, JSON.stringify(counts));
});

t.test("lost, late and wrong answers leave nothing behind, and a retry says what is", async (t) => {
  const { faults, counts } = await losses(300);
  t.same(faults.slice(0, 5), []);
  t.ok(counts.lost >= 300, JSON.stringify(counts));
});

t.test("a kill at any moment: what was begun is read off the pods, and the rest is bound", async (t) => {
  const { faults, counts, worstMs } = await kills(3);
  t.same(faults.slice(0, 5), []);
  t.equal(counts.kills, 180);
  t.ok(worstMs <= 30_000, `${worstMs} ms`);
});
