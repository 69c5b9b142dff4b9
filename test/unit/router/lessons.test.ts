/** What the times of one answer teach, and which of them teach nothing. */
import t from "tap";
import type { Forecast } from "../../../src/router/forecast.ts";
import { Lessons } from "../../../src/router/lessons.ts";
import { LoadBook } from "../../../src/router/load.ts";
import type { CostLearner } from "../../../src/router/pick/learn.ts";

/** 1,000 tokens of which 200 are cached, behind 40 ms of others' work, its own 90. */
const FORECAST = {
  ...{ service: "n/s", prefiller: "p", decoder: "d", address: "d:80", remote: false, streams: true },
  ...{ promptTokens: 1000, cachedTokens: 200, queueMs: 40, givenMs: 0, ownMs: 90, requests: 3, kvTokens: 5000 },
} as unknown as Forecast;

function rig(more: Partial<Forecast> = {}) {
  const told: unknown[] = [];
  const to =
    (kind: string) =>
    (seen: object): void =>
      void told.push({ kind, ...seen });
  const learner = { prefilled: to("prefill"), stepped: to("step"), transferred: to("transfer") };
  const loads = new LoadBook();
  return { told, loads, lessons: new Lessons(learner as unknown as CostLearner, loads, { ...FORECAST, ...more }) };
}

t.test("a prompt that was computed where it is answered", (t) => {
  const { told, loads, lessons } = rig();
  loads.prefill("d", 90);
  loads.prefill("d", 25);
  lessons.first(500, 160);
  const seen = { service: "n/s", endpoint: "p", freshTokens: 800, cachedTokens: 200, ownMs: 90, ms: 160 };
  t.same(told, [{ kind: "prefill", ...seen, othersMs: 65 }], "40 before it and 25 that came while it waited");
  t.end();
});

t.test("a prompt that came from elsewhere teaches its way, where it is known when that began", (t) => {
  const known = rig({ remote: true });
  known.lessons.handed(460);
  known.lessons.first(500, 160);
  t.same(known.told, [{ kind: "transfer", service: "n/s", tokens: 1000, ms: 40 }]);
  const beside = rig({ remote: true });
  beside.lessons.first(500, 160);
  t.same(beside.told, []);
  t.end();
});

t.test("the tokens behind the first, without the prefills that held them up", (t) => {
  for (const [what, heldUpMs, steps, ms] of [
    ["alone", 0, 20, 10],
    ["held up for 80 of 200 ms", 80, 20, 6],
    ["for as much as half", 100, 20, 5],
    ["for more: that says nothing", 101, 20, undefined],
    ["nor do a few tokens", 0, 7, undefined],
    ["eight do", 0, 8, 25],
  ] as const) {
    const { told, loads, lessons } = rig();
    lessons.first(500, 160);
    told.length = 0;
    if (heldUpMs > 0) loads.prefill("d", heldUpMs);
    lessons.ended(200, steps);
    const step = { kind: "step", service: "n/s", requests: 3, kvTokens: 5000, tokens: steps + 1, ms };
    t.same(told, ms === undefined ? [] : [step], what);
  }
  t.end();
});

t.test("an answer from elsewhere than was picked teaches nothing, nor does one that is no stream", (t) => {
  for (const [address, streams, count] of [
    ["d:80", true, 2],
    ["x:80", true, 0],
    ["d:80", false, 0],
  ] as const) {
    const { told, lessons } = rig({ streams });
    lessons.served(address);
    lessons.first(500, 160);
    lessons.ended(200, 20);
    t.equal(told.length, count, `${address} ${String(streams)}`);
  }
  t.end();
});
