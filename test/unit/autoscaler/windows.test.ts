/** Counters, slots, quantiles, trends and paces, as tables. */
import t from "tap";
import { bucketOf, emptyHistogram, LatencyWindow } from "../../../src/autoscaler/latency.ts";
import { PaceMemory } from "../../../src/autoscaler/pace.ts";
import { grown, quantile, Slots, trendOf, WindowMaximum } from "../../../src/autoscaler/windows.ts";

const NONE = { requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 };

t.test("counters", (t) => {
  t.equal(grown(10, 15), 5, "grows");
  t.equal(grown(10, 4), 0, "began anew, or lost one of its parts");
  t.equal(grown(10, NaN), 0, "no number now");
  t.equal(grown(NaN, 10), 0, "no number before");
  t.equal(grown(10, -1), 0, "negative");
  t.equal(grown(10, Infinity), 0, "infinite");
  t.end();
});

t.test("rates over what was observed, not over time that nobody saw", (t) => {
  const slots = new Slots(1000, 10);
  slots.add(1000, 1000, { ...NONE, requests: 10 });
  slots.add(6000, 5000, { ...NONE, requests: 100 });
  t.equal(slots.rate("requests", 0), 110 / 6);
  t.equal(slots.rate("requests", 5000), 20, "the last slot holds five seconds");
  t.equal(slots.rate("requests", 7000), undefined);
  t.strictSame(new Slots(15_000, 4).rates("requests"), []);
  t.end();
});

t.test("quantiles and trends", (t) => {
  t.equal(quantile([], 0.5), undefined);
  t.equal(quantile([3, 1, 2], 0.5), 2);
  t.equal(quantile([3, 1, 2], 1), 3);
  t.strictSame(trendOf([1, 2, 3, 4]), { slope: 1, fit: 1 });
  t.strictSame(trendOf([5, 5, 5]), { slope: 0, fit: 0 });
  t.ok(trendOf([1, 9, 2, 8, 1, 9]).fit < 0.2);
  t.end();
});

t.test("the greatest of a window, with what is infinite among it", (t) => {
  const window = new WindowMaximum();
  for (const [at, value] of [
    [0, 5],
    [1, 9],
    [2, 3],
    [3, 4],
  ] as const)
    window.add(at, value);
  t.equal(window.since(0), 9);
  t.equal(window.since(2), 4);
  window.add(4, Infinity);
  t.equal(window.since(2), Infinity);
  t.equal(window.since(5), undefined);
  t.end();
});

t.test("percentiles of latencies by buckets", (t) => {
  const window = new LatencyWindow();
  const counts = emptyHistogram();
  counts[bucketOf(100)] = 90;
  counts[bucketOf(5000)] = 10;
  window.add(0, counts);
  const p50 = window.quantile(0, 0.5) ?? 0;
  t.ok(p50 >= 100 && p50 < 125, String(p50));
  t.ok((window.quantile(0, 0.95) ?? 0) >= 5000);
  t.equal(window.quantile(1, 0.5), undefined, "nothing so late");
  t.equal(window.quantile(0, 0.5, 101), undefined, "too few");
  t.equal(bucketOf(1e9), emptyHistogram().length - 1);
  t.end();
});

t.test("paces count from what there was a period ago", (t) => {
  const pace = new PaceMemory();
  const double = { share: 1, periodMs: 60_000 };
  pace.see(0, 4, 60_000);
  t.equal(pace.most(0, double, 1), 8);
  pace.see(5000, 8, 60_000);
  t.equal(pace.most(5000, double, 1), 8, "doubled within the minute");
  pace.see(70_000, 8, 60_000);
  t.equal(pace.most(70_000, double, 1), 16);
  t.equal(pace.least(70_000, { share: 0.25, periodMs: 60_000 }, 1), 6);
  t.equal(pace.least(70_000, { share: 0.1, periodMs: 60_000 }, 2), 6, "a step at least");
  t.end();
});
