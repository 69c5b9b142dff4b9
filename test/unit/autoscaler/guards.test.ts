/** Guards of a group, schedules, variants and step times, as tables. */
import t from "tap";
import { keepBudget, keepRatio, type Guarded } from "../../../src/autoscaler/guards.ts";
import { boundsAt } from "../../../src/autoscaler/schedule.ts";
import { kthenaArrangement } from "../../../src/autoscaler/kthena-order.ts";
import { StepTimes } from "../../../src/autoscaler/step-times.ts";
import { allocate, ArrangementMemory, towards, type Variant } from "../../../src/autoscaler/variants.ts";
import { GROUP_SCALING, SCALING } from "../../../src/workload/scaling.ts";

const guarded = (role: "prefill" | "decode", wanted: number, rest: Partial<Guarded> = {}): Guarded => ({
  ...{ id: role, role, least: 1, most: 10, step: 1, accelerators: 2, wanted },
  ...rest,
});

t.test("ratio: the side that is short is raised, else the other lowered", (t) => {
  const cases: readonly [string, [number, number], [number, number], Partial<Guarded>, [number, number]][] = [
    ["within", [2, 2], [0.5, 2], {}, [2, 2]],
    ["prefill is short", [1, 6], [0.5, 2], {}, [3, 6]],
    ["prefill cannot grow", [1, 6], [0.5, 2], { most: 2 }, [2, 4]],
    ["decode is short", [8, 2], [0.5, 2], {}, [8, 4]],
    ["one sleeps", [0, 2], [0.5, 2], {}, [0, 2]],
  ];
  for (const [name, [prefill, decode], prefillPerDecode, rest, wanted] of cases) {
    const both = [guarded("prefill", prefill, rest), guarded("decode", decode)];
    keepRatio(both, { ...GROUP_SCALING, prefillPerDecode });
    t.strictSame(
      both.map((each) => each.wanted),
      wanted,
      name,
    );
  }
  t.end();
});

t.test("budget: all shrink by the same share of what they have above their minimums", (t) => {
  const cases: readonly [string, number, [number, number], [number, number], string[]][] = [
    ["enough", 20, [4, 4], [4, 4], []],
    ["half of it", 10, [4, 4], [2, 2], ["BudgetKept"]],
    ["not even the minimums", 2, [4, 4], [1, 1], ["BudgetUnkeepable"]],
  ];
  for (const [name, maxAccelerators, [prefill, decode], wanted, reasons] of cases) {
    const both = [guarded("prefill", prefill), guarded("decode", decode)];
    const verdicts = keepBudget(both, { ...GROUP_SCALING, maxAccelerators });
    t.strictSame(
      both.map((each) => each.wanted),
      wanted,
      name,
    );
    t.strictSame(
      verdicts.map(({ reason }) => reason),
      reasons,
      name,
    );
  }
  t.end();
});

t.test("schedules go by the clock of their place, over midnight, in summer as in winter", (t) => {
  const weekdays = [1, 2, 3, 4, 5];
  const office = { days: weekdays, from: 480, to: 1200, timeZone: "Europe/Berlin", min: 4 };
  const night = { days: [5], from: 1320, to: 360, timeZone: "UTC", max: 2 };
  const at = (text: string): ReturnType<typeof boundsAt> =>
    boundsAt({ ...SCALING, maxReplicas: 8, schedule: [office, night] }, Date.parse(text));
  t.strictSame(at("2026-01-14T07:30:00Z"), { least: 4, most: 8 }, "half past eight in Berlin, winter");
  t.strictSame(at("2026-07-15T06:30:00Z"), { least: 4, most: 8 }, "half past eight in Berlin, summer");
  t.strictSame(at("2026-07-15T05:30:00Z"), { least: 1, most: 8 }, "half past seven");
  t.strictSame(at("2026-07-18T10:00:00Z"), { least: 1, most: 8 }, "Saturday");
  t.strictSame(at("2026-07-18T02:00:00Z"), { least: 1, most: 2 }, "the night that began on Friday");
  t.end();
});

const variant = (id: string, rest: Partial<Variant> = {}): Variant => ({
  ...{ id, least: 0, most: 10, step: 1, cost: 1, speed: 1, startupMs: 1000, isExhausted: false, current: 0 },
  ...{ serving: rest.current ?? 0, ...rest },
});

t.test("variants: more where work is cheapest, less where it is dearest, none where there is no node", (t) => {
  const fast = variant("fast", { cost: 3, speed: 2 });
  const slow = variant("slow", { cost: 1, speed: 1, most: 3, startupMs: 5000 });
  const of = (variants: readonly Variant[], work: number, inPanic = false): object =>
    Object.fromEntries(allocate(variants, { work, inPanic }));
  t.strictSame(of([fast, slow], 2.5), { fast: 0, slow: 3 });
  t.strictSame(of([fast, slow], 5), { fast: 1, slow: 3 });
  t.strictSame(of([fast, slow], 2.5, true), { fast: 2, slow: 0 }, "in panic the one that starts sooner");
  t.strictSame(of([{ ...fast, current: 4 }, slow], 5), { fast: 3, slow: 0 }, "what stands is not moved");
  t.strictSame(of([fast, { ...slow, isExhausted: true, most: 0 }], 2), { fast: 1, slow: 0 });
  t.strictSame(of([variant("a", { least: 2, step: 2 })], 3), { a: 4 }, "in steps");
  t.end();
});

t.test("Kthena's order: blocks of 1, 2, 4 by their cost, those of one cost by the order of the targets", (t) => {
  const both = [variant("a", { cost: 1, most: 7 }), variant("b", { cost: 1.5, most: 7 })];
  const of = (count: number): object => Object.fromEntries(kthenaArrangement(both, count));
  const expected = [
    [0, 0],
    [1, 0],
    [1, 1],
    [2, 1],
    [3, 1],
    [3, 2],
    [3, 3],
    [4, 3],
  ];
  for (const [count, [a, b]] of expected.entries()) t.strictSame(of(count), { a, b }, `${count}`);
  t.strictSame(of(20), { a: 7, b: 7 }, "never beyond what they may have");
  t.end();
});

t.test("a cheaper arrangement is taken up after ten minutes", (t) => {
  const dear = variant("dear", { cost: 3, current: 4 });
  const memory = new ArrangementMemory();
  const choose = (at: number): object =>
    Object.fromEntries(memory.choose(at, [dear, variant("cheap")], { work: 4, inPanic: false }));
  t.strictSame(choose(0), { dear: 4, cheap: 0 });
  t.strictSame(choose(599_000), { dear: 4, cheap: 0 });
  t.strictSame(choose(600_000), { dear: 4, cheap: 4 }, "what is to go stays until the others serve");
  t.end();
});

t.test("what does not serve relieves no other variant, and goes before what does", (t) => {
  const of = (variants: readonly Variant[], work: number): object =>
    Object.fromEntries(allocate(variants, { work, inPanic: false }));
  const dear = variant("dear", { cost: 3, current: 4 });
  t.strictSame(of([dear, variant("cheap", { current: 2, serving: 2 })], 4), { dear: 2, cheap: 2 });
  t.strictSame(of([dear, variant("cheap", { current: 2, serving: 0 })], 4), { dear: 4, cheap: 0 });
  t.strictSame(of([dear, variant("cheap", { current: 3, serving: 1 })], 4), { dear: 3, cheap: 1 });
  const goal = new Map([
    ["dear", 0],
    ["cheap", 4],
  ]);
  const way = (serving: number): object =>
    Object.fromEntries(towards([dear, variant("cheap", { current: 4, serving })], goal, 4));
  t.strictSame([0, 1, 4].map(way), [
    { dear: 4, cheap: 4 },
    { dear: 3, cheap: 4 },
    { dear: 0, cheap: 4 },
  ]);
  t.end();
});

t.test("step times: a line through the levels that were seen", (t) => {
  const steps = new StepTimes();
  t.equal(steps.knows(42), false);
  const itlMs = (batch: number): number => 12 + 0.2 * batch;
  for (const batch of [10, 20, 40, 80])
    for (let time = 0; time < 4; time++)
      steps.learn({ at: time, ms: 60_000, batch, generated: (batch * 60_000) / itlMs(batch) });
  const { batch, tokensPerSecond } = steps.limit(42, 1000);
  t.ok(Math.abs(batch - 150) < 8, `batch ${batch}`);
  t.ok(Math.abs(tokensPerSecond - 150_000 / 42) < 200, `tokens ${tokensPerSecond}`);
  t.equal(steps.limit(42, 64).batch, 64, "memory allows no more");
  const before = new StepTimes();
  for (let time = 0; time < 4; time++) before.learn({ at: time, ms: 60_000, batch: 4, generated: 16_000 });
  t.equal(before.limit(1000, 1000).batch, 32, "far beyond what was seen nothing is promised");
  t.end();
});
