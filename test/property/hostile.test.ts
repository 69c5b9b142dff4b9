/** The same campaign as row A1 of the scorecard, shorter: nothing is thrown, and every answer is one. */
import t from "tap";
import { campaign } from "../score/a1.ts";

t.test("20,000 hostile reviews are answered, each with its uid or with 400", (test) => {
  const { findings, outcomes } = campaign(7, 20_000);
  test.same(findings, []);
  for (const outcome of ["allowed", "patched", "denied", "malformed"])
    test.ok((outcomes[outcome] ?? 0) > 500, `${outcomes[outcome] ?? 0} ${outcome}: the campaign reaches every outcome`);
  test.end();
});
