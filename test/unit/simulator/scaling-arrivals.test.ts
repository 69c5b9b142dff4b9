/** Workloads of the simulated pods: how traces are read, and what shapes draw. */
import t from "tap";
import { quantile } from "../../../src/autoscaler/windows.ts";
import { seededRandom } from "../../../src/simulator/random.ts";
import { multiplied, parseArrivals, type Arrival } from "../../../src/simulator/scaling/arrivals.ts";
import { arrivalsOf, SHAPES, type Shape } from "../../../src/simulator/scaling/shapes.ts";

const HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";

t.test("Azure's traces, in the form of 2023 and of 2024; times from the first request", (t) => {
  const of2023 = `${HEAD}\r\n2023-11-16 18:15:50.9951690,396,109\r\n2023-11-16 18:15:46.6805900,374,44\r\n`;
  t.same(parseArrivals(of2023), [
    { at: 0, promptTokens: 374, answerTokens: 44 },
    { at: 4315, promptTokens: 396, answerTokens: 109 },
  ]);
  const of2024 = `${HEAD}\n2024-05-10 00:00:00.009930+00:00,2162,5\n\n2024-05-10 00:00:01+00:00,0,0\n`;
  t.same(parseArrivals(of2024), [
    { at: 0, promptTokens: 2162, answerTokens: 5 },
    { at: 991, promptTokens: 1, answerTokens: 1 },
  ]);
  const zones = `${HEAD}\n2024-05-10 02:00:00.5+02:00,1,1\n2024-05-10 00:00:01Z,1,1`;
  t.same(
    parseArrivals(zones).map(({ at }) => at),
    [0, 500],
    "a zone counts",
  );
  t.end();
});

const mooncake = (timestamp: unknown, more: object = {}): string =>
  JSON.stringify({ timestamp, input_length: 700, output_length: 20, hash_ids: [1, 2], ...more });

t.test("Mooncake's traces, in the order of their times, from the first request", (t) => {
  t.same(parseArrivals(`${mooncake(9000)}\n\n${mooncake(6000, { output_length: 0 })}\n`), [
    { at: 0, promptTokens: 700, answerTokens: 1 },
    { at: 3000, promptTokens: 700, answerTokens: 20 },
  ]);
  t.end();
});

t.test("what is no trace names its line and what was expected", (t) => {
  const good = "2023-11-16 18:15:46.6805900,374,44";
  for (const [text, message] of [
    ["", /^line 1: expected TIMESTAMP,ContextTokens,GeneratedTokens, or a JSON object a line$/],
    ["time,in,out\n", /^line 1: expected TIMESTAMP/],
    [HEAD, /^the trace has no request$/],
    [`${HEAD}\n${good}\nsoon,1,1`, /^line 3: soon is no time as 2023-11-16 18:15:46\.6805900$/],
    [`${HEAD}\n5,1,1`, /^line 2: 5 is no time/],
    [`${HEAD}\n2023-11-16,1,1`, /^line 2: 2023-11-16 is no time/],
    [`${HEAD}\n2023-13-16 18:15:46,1,1`, /^line 2: 2023-13-16 18:15:46 is no time/],
    [`${HEAD}\n,1,1`, /^line 2: an empty field is no time/],
    [
      `${HEAD}\n${good}\n\n2023-11-16 18:15:46,-1,1`,
      /^line 4: ContextTokens is to be an integer of 0 or more, not -1$/,
    ],
    [`${HEAD}\n2023-11-16 18:15:46,1,1.5`, /^line 2: GeneratedTokens is to be an integer of 0 or more, not 1\.5$/],
    [`${HEAD}\n2023-11-16 18:15:46,1`, /^line 2: GeneratedTokens is to be an integer of 0 or more, not empty$/],
    [`${HEAD}\n2023-11-16 18:15:46,9999999999,1`, /^line 2: ContextTokens is to be an integer/],
    [`${mooncake(0)}\n{"timestamp": 1`, /^line 2: not a JSON object$/],
    [`${mooncake(0)}\n${mooncake("now")}`, /^line 2: timestamp is to be an integer of 0 or more$/],
    [
      `${mooncake(0)}\n\n${mooncake(0, { input_length: 0 })}`,
      /^line 3: input_length is to be an integer of 1 or more$/,
    ],
    [`${mooncake(0)}\n${mooncake(1e12)}`, /^from the first request to the last are 11575 days; at most 31 are run$/],
    [`${HEAD}\n${good}\n2024-11-16 18:15:46,1,1`, /^from the first request to the last are 366 days/],
  ] as const)
    t.throws(() => parseArrivals(text), { name: "RangeError", message });
  t.end();
});

t.test("copies lie within five seconds of their request, and a seed repeats them", (t) => {
  const arrivals = [60_000, 120_000].map((at) => ({ at, promptTokens: at / 100, answerTokens: 7 }));
  const copies = multiplied(arrivals, 50, seededRandom(3));
  t.equal(copies.length, 100);
  for (const { at, promptTokens } of copies) t.ok(Math.abs(at - 100 * promptTokens) <= 5000);
  t.same(
    copies.map(({ at }) => at),
    copies.map(({ at }) => at).sort((a, b) => a - b),
  );
  t.same(multiplied(arrivals, 50, seededRandom(3)), copies);
  t.notSame(multiplied(arrivals, 50, seededRandom(4)), copies);
  t.end();
});

const shapeNamed = (name: string): Shape => {
  const shape = SHAPES.find((each) => each.name === name);
  if (shape === undefined) throw new Error(name);
  return shape;
};

/** The first minutes alone. */
const first = (name: string, minutes: number): Shape => ({ ...shapeNamed(name), hours: minutes / 60 });

t.test("shapes: the same seed draws the same, another others; in order, whole tokens", (t) => {
  for (const { name } of SHAPES) {
    const arrivals = arrivalsOf(first(name, 3), 5);
    // As text: the test library takes minutes to compare thousands of objects.
    const text = JSON.stringify(arrivals);
    t.ok(JSON.stringify(arrivalsOf(first(name, 3), 5)) === text, name);
    t.ok(JSON.stringify(arrivalsOf(first(name, 3), 6)) !== text, name);
    t.ok(
      arrivals.every(({ at }, index) => at >= (arrivals[index - 1]?.at ?? 0) && at < 180_000),
      "in order, within the time",
    );
    t.ok(arrivals.every((each) => [each.promptTokens, each.answerTokens].every((n) => Number.isInteger(n) && n >= 1)));
  }
  t.end();
});

/** What their descriptions say, in requests a second from one minute to another. */
const RATES: readonly (readonly [string, number, number, number])[] = [
  ["diurnal", 0, 3.8 * 60, 40],
  ["diurnal", 0, 2, 10],
  ["diurnal", 56, 58, 70],
  ["bursts", 0, 25, 25],
  ["bursts", 25, 28, 75],
  ["bursts", 28, 55, 25],
  ["bursts", 55, 58, 75],
  ["bursts", 205, 208, 75],
  ["shift", 0, 3.8 * 60, 25],
  ["ramp", 0, 90, 42.5],
  ["ramp", 90, 150, 80],
  ["silence", 0, 50, 30],
  ["silence", 51, 90, 0],
  ["silence", 90, 150, 30],
  ["noise", 0, 3.8 * 60, 40],
];

const drawn = new Map<string, readonly Arrival[]>();
const all = (name: string): readonly Arrival[] => {
  const arrivals = drawn.get(name) ?? arrivalsOf(shapeNamed(name), 1);
  drawn.set(name, arrivals);
  return arrivals;
};

t.test("shapes: rates are those of their descriptions within 4 %", (t) => {
  for (const [name, from, to, rate] of RATES) {
    const count = all(name).filter(({ at }) => at >= 60_000 * from && at < 60_000 * to).length;
    const seen = count / (60 * (to - from));
    t.ok(Math.abs(seen - rate) <= 0.04 * rate, `${name} from minute ${from} to ${to}: ${seen} of ${rate}`);
  }
  t.end();
});

t.test("shapes: slots of bursty spread as 2.6 and 32.7 requests/s were seen, 13 on average", (t) => {
  const slots = new Array<number>(1368).fill(0);
  for (const { at } of all("bursty")) slots[Math.floor(at / 10_000)] = (slots[Math.floor(at / 10_000)] ?? 0) + 1;
  const mean = slots.reduce((sum, count) => sum + count, 0) / slots.length / 10;
  t.ok(mean > 11.8 && mean < 14.8, `mean ${mean}`);
  const ratio = (quantile(slots, 0.99) ?? 0) / (quantile(slots, 0.5) ?? 1);
  t.ok(ratio > 9 && ratio < 16, `p99 is ${ratio} times the median`);
  t.end();
});

t.test("shapes: medians of lengths within 2 %, and 99th percentiles within 6 %, are the published ones", (t) => {
  const near = (seen: number, published: number, share: number, what: string): void =>
    void t.ok(Math.abs(seen - published) <= share * published + 0.5, `${what}: ${seen} of ${published}`);
  for (const [name, prompt, answer] of [
    ["diurnal", [1020, 4142], [129, 601]],
    ["bursty", [1469, 7436], [13, 252]],
  ] as const) {
    const of = (get: (arrival: Arrival) => number, share: number): number => quantile(all(name).map(get), share) ?? NaN;
    near(
      of(({ promptTokens }) => promptTokens, 0.5),
      prompt[0],
      0.02,
      `${name}, prompts`,
    );
    near(
      of(({ promptTokens }) => promptTokens, 0.99),
      prompt[1],
      0.06,
      `${name}, long prompts`,
    );
    near(
      of(({ answerTokens }) => answerTokens, 0.5),
      answer[0],
      0.02,
      `${name}, answers`,
    );
    near(
      of(({ answerTokens }) => answerTokens, 0.99),
      answer[1],
      0.06,
      `${name}, long answers`,
    );
  }
  const shift = all("shift");
  const ends = [shift.slice(0, 50_000), shift.slice(-50_000)].map((part) => [
    quantile(
      part.map(({ promptTokens }) => promptTokens),
      0.5,
    ) ?? NaN,
    quantile(
      part.map(({ answerTokens }) => answerTokens),
      0.5,
    ) ?? NaN,
  ]);
  for (const [index, [prompt, answer]] of [[3000, 60] as const, [350, 550] as const].entries()) {
    near(ends[index]?.[0] ?? NaN, prompt, 0.03, "shift, prompts");
    near(ends[index]?.[1] ?? NaN, answer, 0.03, "shift, answers");
  }
  t.end();
});
