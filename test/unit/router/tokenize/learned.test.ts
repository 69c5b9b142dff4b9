/** What answers teach: bytes of a token, whether tokens agree, and that expected prefixes are never there. */
import t from "tap";
import type { Log, Metrics } from "../../../../src/ports.ts";
import type { Forecast } from "../../../../src/router/forecast.ts";
import { HitWatch } from "../../../../src/router/hits.ts";
import { Agreement } from "../../../../src/router/tokenize/agreement.ts";
import { TokenRates } from "../../../../src/router/tokenize/rates.ts";
import { SILENT_LOG } from "../../../../src/telemetry/log.ts";

t.test("bytes of a token are learned, weighed by length, and forgotten", (t) => {
  const rates = new TokenRates();
  const learn = (times: number, bytes: number, tokens: number): void => {
    for (let i = 0; i < times; i++) rates.learn("m", bytes, tokens);
  };
  learn(2, 4000, 1000);
  t.equal(rates.of("m"), undefined, "two answers are none");
  learn(1, 4000, 1000);
  t.equal(rates.of("m"), 4);
  learn(100, 40, 30);
  t.ok((rates.of("m") ?? 0) > 2, "short prompts, whose template weighs, say little");
  learn(500, 6000, 1000);
  t.ok(Math.abs((rates.of("m") ?? 0) - 6) < 0.01, "what was, is forgotten");
  t.equal(rates.of("other"), undefined);
  t.end();
});

t.test("no answer moves the estimate beyond what text can be", (t) => {
  for (const [tokens, bound] of [
    [1, 16],
    [1e9, 1],
    [Number.MAX_SAFE_INTEGER, 1],
  ] as const) {
    const rates = new TokenRates();
    for (let i = 0; i < 1000; i++) rates.learn("m", 4000, tokens);
    t.equal(rates.of("m"), bound);
    for (let i = 0; i < 400; i++) rates.learn("m", 4000, 1000);
    t.ok(Math.abs((rates.of("m") ?? 0) - 4) < 0.1, "and it finds back");
  }
  const rates = new TokenRates();
  for (const [bytes, tokens] of [
    [0, 5],
    [5, 0],
    [5, -1],
    [5, NaN],
    [5, Infinity],
  ] as const)
    for (let i = 0; i < 5; i++) rates.learn("m", bytes, tokens);
  t.equal(rates.of("m"), undefined, "nonsense teaches nothing");
  for (let i = 0; i < 3000; i++) rates.learn(`model ${i}`, 4, 1);
  t.end();
});

const WAY = { model: "m", api: "chat", how: "tokenizer", tenant: "a" } as const;

t.test("three of five that differ end the trust, in one way of one model, for ten minutes", (t) => {
  const agreement = new Agreement();
  const judge = (engines: number, now = 0): string | undefined =>
    agreement.judge(WAY, { ours: 1000, engines }, now)?.cause;
  t.same(
    [1000, 1001, 1000, 1001, 1000, 1000, 1001].map((engines) => judge(engines)),
    Array(7).fill(undefined),
  );
  t.match(judge(1001), /begin or end/);
  t.notOk(agreement.trusts(WAY, 1));
  t.ok(agreement.trusts({ ...WAY, how: "engine" }, 1));
  t.ok(agreement.trusts({ ...WAY, model: "n" }, 1));
  t.ok(agreement.trusts({ ...WAY, api: "messages" }, 1));
  t.ok(agreement.trusts({ ...WAY, tenant: "b" }, 1), "one tenant's odd prompts are no other's loss");
  t.notOk(agreement.trusts(WAY, 599_999));
  t.ok(agreement.trusts(WAY, 600_000), "then it is tried again");
  t.same(
    [1100, 1100].map((engines) => judge(engines, 600_001)),
    [undefined, undefined],
  );
  t.match(judge(1100, 600_001), /another chat template/);
  t.same(
    [9000, 9000].map((engines) => judge(engines, 1_300_000)),
    [undefined, undefined],
  );
  t.match(judge(9000, 1_300_000), /another tokenizer/);
  t.end();
});

const FORECAST: Forecast = {
  ...{
    model: "m",
    api: "chat",
    tenant: "",
    promptTokens: 900,
    how: undefined,
    bytes: 3600,
    cachedTokens: 800,
    firstTokenMs: 10,
  },
  ...{ whence: "history", sentTokens: 800, blockSize: 16 },
  ...{ service: "/s", prefiller: "e", decoder: "e", address: "e:1", remote: false, streams: false },
  ...{ queueMs: 0, givenMs: 0, ownMs: 0, requests: 1, kvTokens: 0 },
};

function watch() {
  const said: unknown[] = [];
  const counted: unknown[] = [];
  const log: Log = { ...SILENT_LOG, warn: (line, fields) => said.push(`${line} ${JSON.stringify(fields)}`) };
  const metrics: Metrics = { count: (_, labels) => counted.push(labels), gauge: () => 0, observe: () => 0 };
  const clock = { ms: 0, now: () => 0, monotonic: () => clock.ms };
  return { hits: new HitWatch({ clock, log, metrics }), said, counted, clock };
}

t.test("hits that never come are told of once, with the likely cause", (t) => {
  for (const [more, cause] of [
    [{}, "prefixCaching"],
    [{ how: "tokenizer" }, "tokenizer"],
    [{ blockSize: 1024 }, "blockSize"],
  ] as const) {
    const { hits, said, counted, clock } = watch();
    const miss = (): void => hits.saw({ ...FORECAST, ...more }, 0);
    for (let i = 0; i < 19; i++) miss();
    t.same(said, []);
    for (let i = 0; i < 50; i++) miss();
    t.equal(said.length, 1);
    t.same(counted, [{ cause }]);
    clock.ms = 1_800_001;
    miss();
    t.equal(said.length, 2, "and again after half an hour");
  }
  t.end();
});

t.test("events that never tell of what was sent are told of, whatever answers say", (t) => {
  const { hits, said, counted } = watch();
  const silent: Forecast = { ...FORECAST, cachedTokens: 0, whence: "events" };
  for (let i = 0; i < 19; i++) hits.picked(silent);
  hits.picked({ ...silent, cachedTokens: 160 });
  for (let i = 0; i < 19; i++) hits.picked(silent);
  for (let i = 0; i < 100; i++) hits.picked({ ...silent, sentTokens: 0 });
  for (let i = 0; i < 100; i++) hits.picked({ ...silent, whence: "history" });
  t.same(said, [], "prompts that are new, and endpoints without events, say nothing");
  hits.picked(silent);
  t.equal(said.length, 1);
  t.same(counted, [{ cause: "events" }]);
  t.end();
});

t.test("one hit, or small expectations, and nothing is said", (t) => {
  const { hits, said } = watch();
  for (let i = 0; i < 100; i++) hits.saw(FORECAST, i % 19 === 0 ? 16 : 0);
  for (let i = 0; i < 100; i++) hits.saw({ ...FORECAST, model: "n", cachedTokens: 48 }, 0);
  t.same(said, []);
  t.end();
});
