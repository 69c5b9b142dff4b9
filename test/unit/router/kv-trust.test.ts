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

t.test("counters move belief to the nearer of their bounds, as far as so many answers would", (t) => {
  const trust = new HitTrust();
  trust.counted("e", { least: 0.2, most: 1 }, 100);
  t.equal(trust.of("e"), 1, "between the bounds nothing is learned");
  trust.counted("e", { least: 0.2, most: 0.6 }, 100);
  t.ok(Math.abs(trust.of("e") - 0.6) < 0.01, "down to the upper one");
  trust.counted("e", { least: 0.8, most: 1 }, 8);
  t.ok(trust.of("e") > 0.65 && trust.of("e") < 0.75, "eight prompts are eight answers");
  t.end();
});

t.test("an engine that has told before and leaves the number out had nothing cached", (t) => {
  const trust = new HitTrust();
  t.equal(trust.cachedIn("e", { promptTokens: 9 }), undefined, "it may never say it");
  t.equal(trust.cachedIn("e", { promptTokens: 9, cachedTokens: 4 }), 4);
  t.equal(trust.cachedIn("e", { promptTokens: 9 }), 0);
  t.equal(trust.cachedIn("e", {}), undefined, "an answer that says nothing at all says nothing");
  t.equal(trust.cachedIn("other", { promptTokens: 9 }), undefined);
  trust.keep(new Set());
  t.equal(trust.cachedIn("e", { promptTokens: 9 }), undefined);
  t.end();
});
