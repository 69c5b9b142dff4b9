/**
 * Named shapes of load, from a seed: how many requests a second come when, and how long they are. Lengths are log-normal
 * with the medians and 99th percentiles of published traces (reference autoscaling.md 6.2: Azure's conversation 1020/4142
 * in and 129/601 out; the naturally bursty one 1469/7436 and 13/252). Committed before any policy was tuned on them.
 */
import type { Random } from "../../ports.ts";
import { seededRandom } from "../random.ts";
import type { Arrival } from "./arrivals.ts";

/** Median and 99th percentile in tokens. */
interface Length {
  readonly median: number;
  readonly p99: number;
}

interface Lengths {
  readonly prompt: Length;
  readonly answer: Length;
}

export interface Shape {
  readonly name: string;
  readonly description: string;
  readonly hours: number;
  /** Requests a second. */
  readonly rate: (seconds: number, chance: Chance) => number;
  readonly lengths: (seconds: number) => Lengths;
}

/** What a seed draws once for a whole run. */
interface Chance {
  /** Of a slot of time: the same number each time it is asked for. */
  readonly ofSlot: (slot: number) => number;
}

const CONVERSATION: Lengths = { prompt: { median: 1020, p99: 4142 }, answer: { median: 129, p99: 601 } };
const BURSTY: Lengths = { prompt: { median: 1469, p99: 7436 }, answer: { median: 13, p99: 252 } };
const PREFILL_HEAVY: Lengths = { prompt: { median: 3000, p99: 8000 }, answer: { median: 60, p99: 240 } };
const DECODE_HEAVY: Lengths = { prompt: { median: 350, p99: 1500 }, answer: { median: 550, p99: 1500 } };

/** The prototype's length: two cycles of a day, each in 1.9 hours. */
const HOURS = 3.8;
const SECONDS = HOURS * 3600;

const conversation = (): Lengths => CONVERSATION;

const BURST = { first: 1500, every: 1800, seconds: 180, times: 3 } as const;

const inBurst = (seconds: number): boolean =>
  seconds >= BURST.first &&
  (seconds - BURST.first) % BURST.every < BURST.seconds &&
  Math.floor((seconds - BURST.first) / BURST.every) < 7;

/** From one mix to the other within a quarter of an hour in the middle. */
function shifting(seconds: number): Lengths {
  const share = Math.min(1, Math.max(0, (seconds - SECONDS / 2 + 450) / 900));
  const between = (a: Length, b: Length): Length => ({
    median: a.median ** (1 - share) * b.median ** share,
    p99: a.p99 ** (1 - share) * b.p99 ** share,
  });
  return {
    prompt: between(PREFILL_HEAVY.prompt, DECODE_HEAVY.prompt),
    answer: between(PREFILL_HEAVY.answer, DECODE_HEAVY.answer),
  };
}

export const SHAPES: readonly Shape[] = [
  {
    name: "diurnal",
    description: "two smooth cycles of a day, 10 to 70 requests/s",
    hours: HOURS,
    rate: (seconds) => 40 - 30 * Math.cos((4 * Math.PI * seconds) / SECONDS),
    lengths: conversation,
  },
  {
    name: "bursts",
    description: "25 requests/s, and seven times three minutes of 75",
    hours: HOURS,
    rate: (seconds) => (inBurst(seconds) ? BURST.times : 1) * 25,
    lengths: conversation,
  },
  {
    name: "bursty",
    description: "13 requests/s on average, of which ten-second slots have a tenth or twelve times as many",
    hours: HOURS,
    // Log-normal over slots of ten seconds: p99 of the slots is 12 times their median (2.6 and 32.7 requests/s were seen).
    rate: (seconds, { ofSlot }) =>
      7.2 * Math.exp(1.1 * normal(ofSlot(Math.floor(seconds / 10)), ofSlot(-1 - Math.floor(seconds / 10)))),
    lengths: () => BURSTY,
  },
  {
    name: "shift",
    description: "25 requests/s that turn from long prompts to long answers",
    hours: HOURS,
    rate: () => 25,
    lengths: shifting,
  },
  {
    name: "ramp",
    description: "5 to 80 requests/s in an hour and a half, and on",
    hours: 2.5,
    rate: (seconds) => 5 + 75 * Math.min(1, seconds / 5400),
    lengths: conversation,
  },
  {
    name: "silence",
    description: "30 requests/s, none for 40 minutes, and again 30",
    hours: 2.5,
    rate: (seconds) => (seconds > 3000 && seconds < 5400 ? 0 : 30),
    lengths: conversation,
  },
  {
    name: "noise",
    description: "40 requests/s with 30 % of noise by quarter minutes: nothing should move",
    hours: HOURS,
    rate: (seconds, { ofSlot }) => 40 * (0.7 + 0.6 * ofSlot(Math.floor(seconds / 15))),
    lengths: conversation,
  },
];

/** Box and Muller. */
const normal = (a: number, b: number): number => Math.sqrt(-2 * Math.log(1 - a)) * Math.cos(2 * Math.PI * b);

const Z99 = 2.326;

function drawn({ median, p99 }: Length, random: Random): number {
  const spread = Math.log(p99 / median) / Z99;
  return Math.max(1, Math.round(median * Math.exp(spread * normal(random.next(), random.next()))));
}

/** A Poisson process whose rate follows the shape, by thinning in steps of a second. */
export function arrivalsOf(shape: Shape, seed: number): readonly Arrival[] {
  const random = seededRandom(seed);
  const chance: Chance = { ofSlot: (slot) => seededRandom(seed * 7919 + slot * 104729).next() };
  const arrivals: Arrival[] = [];
  for (let second = 0; second < shape.hours * 3600; second++) {
    const lengths = shape.lengths(second);
    const count = poisson(shape.rate(second, chance), random);
    const times = Array.from({ length: count }, () => 1000 * (second + random.next())).sort((a, b) => a - b);
    for (const at of times)
      arrivals.push({ at, promptTokens: drawn(lengths.prompt, random), answerTokens: drawn(lengths.answer, random) });
  }
  return arrivals;
}

/** Knuth; for large means the normal distribution is near enough. */
function poisson(mean: number, random: Random): number {
  if (mean > 200) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal(random.next(), random.next())));
  let [count, product] = [0, random.next()];
  for (const limit = Math.exp(-mean); product > limit; product *= random.next()) count += 1;
  return count;
}
