/** The same surveys as rows A3 and A4 of the scorecard, shorter. */
import t from "tap";
import { survey } from "../score/a3.ts";
import { hardened } from "../score/a4.ts";

t.test(
  "1,500 arbitrary legal objects are admitted soundly: applied by another library, valid, once, nothing lost",
  (test) => {
    const { patched, faults } = survey(3, 1500);
    test.same(
      faults.map((fault) => fault.slice(0, 2000)),
      [],
    );
    test.ok(patched > 500, `${patched} were changed`);
    test.end();
  },
);

t.test("keys that mean something to JavaScript decide nothing, with frozen prototypes", async (test) => {
  const { patched, faults } = await hardened(1000);
  test.same(faults, []);
  test.ok(patched > 500, `${patched} were patched`);
});
