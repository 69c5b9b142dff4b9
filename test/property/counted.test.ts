/** Whatever else an engine counts, and whenever its pages come, its counters never teach what is not so. */
import fc from "fast-check";
import t from "tap";
import { CountedHits } from "../../src/router/kv/counted.ts";
import { HitTrust } from "../../src/router/kv/trust.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";

const PAGE_MS = 500;
const ENGINE = "e";

interface Prompt {
  readonly sent: number;
  /** From there until the engine looks it up, and from there until it is computed. */
  readonly waits: number;
  readonly takes: number;
  readonly tokens: number;
  readonly predicted: number;
  readonly ours: boolean;
  /** Of a foreign one. */
  readonly hits: number;
}

/** All traffic is ours, or little of it is; engines are quick, or prompts wait for seconds; they come in bursts. */
const prompts = fc
  .record({
    ours: fc.constantFrom(1, 0.95, 0.5),
    pace: fc.constantFrom(20, 400, 3000),
    bursts: fc.integer({ min: 20, max: 80 }),
  })
  .chain(({ ours, pace, bursts }) =>
    fc.array(
      fc.record({
        sent: fc.tuple(fc.nat(bursts), fc.nat(200)).map(([burst, within]) => burst * 700 + within),
        ...{ waits: fc.nat(pace), takes: fc.nat(pace) },
        tokens: fc.integer({ min: 1000, max: 8000 }),
        predicted: fc.double({ min: 0.5, max: 1, noNaN: true }),
        ours: fc.double({ min: 0, max: 1, noNaN: true }).map((draw) => draw <= ours),
        hits: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
      { minLength: 100, maxLength: 300 },
    ),
  );

type Happening = { readonly at: number; readonly do: () => void };

/** The world runs: prompts are sent, looked up and computed, and pages are read of a moment that is over by then. */
function run(trust: HitTrust, all: readonly Prompt[], share: number, stale: readonly number[]): void {
  const counted = new CountedHits({ trust, metrics: NO_METRICS, pageMs: PAGE_MS });
  const sum = { queried: 0, hit: 0, external: 0 };
  const happenings: Happening[] = [];
  for (const each of all) {
    const thought = each.tokens * each.predicted;
    let window = 0;
    const looked = each.sent + each.waits;
    happenings.push({ at: each.sent, do: () => (window = each.ours ? counted.begin(ENGINE, each.tokens) : 0) });
    happenings.push({
      at: looked,
      do: () => {
        sum.queried += each.tokens;
        sum.hit += each.ours ? thought * share : each.tokens * each.hits;
      },
    });
    const at = looked + each.takes;
    const tell = (): void => counted.computed({ endpoint: ENGINE, window, tokens: each.tokens, thought }, at);
    if (each.ours) happenings.push({ at, do: tell });
  }
  for (let at = 0; at < 400_000; at += 1000) {
    const late = stale[(at / 1000) % stale.length] ?? 0;
    let page = { ...sum };
    happenings.push({ at, do: () => (page = { ...sum }) });
    happenings.push({ at: at + late, do: () => counted.read(ENGINE, page, at + late) });
  }
  happenings.sort((a, b) => a.at - b.at);
  for (const happening of happenings) happening.do();
}

const stale = fc.array(fc.nat(PAGE_MS), { minLength: 1, maxLength: 5 });
const share = fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true }));

t.test("belief never falls below the share that was really cached", (t) => {
  fc.assert(
    fc.property(prompts, share, stale, (all, share, stale) => {
      const trust = new HitTrust();
      run(trust, all, share, stale);
      return trust.of(ENGINE) >= share - 1e-9;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("and never rises above it", (t) => {
  fc.assert(
    fc.property(prompts, share, stale, (all, share, stale) => {
      const trust = new HitTrust();
      for (let answer = 0; answer < 1000; answer++) trust.told(ENGINE, 1000, 0);
      run(trust, all, share, stale);
      return trust.of(ENGINE) <= share + 1e-9;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("where all traffic is ours, one window is enough to come near", (t) => {
  fc.assert(
    fc.property(share, fc.constantFrom(0, 1), (share, before) => {
      const trust = new HitTrust();
      if (before === 0) for (let answer = 0; answer < 1000; answer++) trust.told(ENGINE, 1000, 0);
      const all = Array.from({ length: 200 }, (_, at) => ({
        ...{ sent: 1000 + at * 300, waits: 10, takes: 20, tokens: 4000, predicted: 0.9, ours: true, hits: 0 },
      }));
      run(trust, all, share, [50]);
      return Math.abs(trust.of(ENGINE) - share) < 0.15;
    }),
    { numRuns: 100 },
  );
  t.end();
});
