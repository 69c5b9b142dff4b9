/** The history is believed as far as engines say that it was right. */
import t from "tap";
import { HitTrust } from "../../../src/router/kv/trust.ts";

t.test("an engine that caches nothing is soon believed to hold nothing, and one that was right is believed", (t) => {
  const trust = new HitTrust();
  t.equal(trust.of("e"), 1);
  trust.told("e", 100, 0);
  t.equal(trust.of("e"), 1, "too few tokens to judge by");
  for (let answer = 0; answer < 48; answer++) trust.told("e", 4096, 0);
  t.ok(trust.of("e") < 0.05);
  t.equal(trust.of("other"), 1);
  for (let answer = 0; answer < 48; answer++) trust.told("e", 4096, 5000);
  t.ok(trust.of("e") > 0.95 && trust.of("e") <= 1);
  trust.keep(new Set(["other"]));
  t.equal(trust.of("e"), 1);
  t.end();
});
