/** Requests for groups that are started: held, let go in their order, ended. */
import { setImmediate as turn } from "node:timers/promises";
import t from "tap";
import fc from "fast-check";
import type { Problem } from "../../../src/router/answers.ts";
import { Holding, type Held, type HoldLimits } from "../../../src/router/flow/holding.ts";
import { Wakeable } from "../../../src/router/statistics/wakeable.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

const LIMITS: HoldLimits = { maxRequests: 3, maxBytes: 1000, maxTotalBytes: 1500, ttlMs: 60_000 };

function rig(limits = LIMITS, models: Readonly<Record<string, readonly string[]>> = { "n/g": ["m", "l"] }) {
  const time = new VirtualTime(1000);
  const wakeable = new Wakeable();
  wakeable.replace(Object.entries(models).map(([group, names]) => ({ group, models: names, service: "s" })));
  const woken: string[] = [];
  const counts: Record<string, number> = {};
  let gauge = 0;
  const metrics = {
    count: (_: string, { outcome = "" }: Readonly<Record<string, string>> = {}) =>
      void (counts[outcome] = (counts[outcome] ?? 0) + 1),
    gauge: (_: string, value: number) => void (gauge = value),
    observe: () => undefined,
  };
  const holding = new Holding({
    limits,
    wakeable,
    wake: (group) => woken.push(group),
    clock: time,
    timers: time,
    metrics,
  });
  return { time, wakeable, woken, counts, holding, gauge: () => gauge };
}

const isHeld = <T>(value: Held<T> | Problem | undefined): value is Held<T> => value !== undefined && "outcome" in value;
const request = (model: string, bytes = 100) => ({ model, bytes, tokens: 10 });

t.test("held until there is an endpoint, in the order of arrival", async (t) => {
  const { time, woken, counts, holding, gauge } = rig();
  const order: number[] = [];
  let room = 0;
  const attempt = (number: number) => () => {
    if (room === 0) return undefined;
    room -= 1;
    order.push(number);
    return number;
  };
  t.equal(holding.hold(request("other"), attempt(0)), undefined, "nobody wakes a group for it");
  const held = [1, 2, 3].map((number) => holding.hold(request("m"), attempt(number)));
  t.ok(held.every(isHeld));
  t.same(woken, ["n/g"], "told once, with the first");
  t.match(holding.hold(request("m"), attempt(4)), { status: 503, reason: "HoldFull", retryAfterSeconds: 30 });
  t.ok(isHeld(holding.hold(request("l", 900), attempt(5))), "each model has a queue of its own");
  t.match(holding.hold(request("l", 400), attempt(6)), { reason: "HoldFull" }, "by its bytes");
  t.same([...holding.work], [["n/g", { requests: 4, tokens: 40 }]]);
  t.equal(gauge(), 4);
  time.advance(1000);
  t.same(order, []);
  room = 2;
  time.advance(50);
  t.same(order, [1, 2]);
  room = 2;
  time.advance(50);
  t.same(order, [1, 2, 3, 5]);
  t.same(await Promise.all(held.filter(isHeld).map(({ outcome }) => outcome)), [1, 2, 3]);
  t.same(counts, { full: 2, released: 4 });
  t.equal(holding.work.size, 0);
  t.equal(time.step(), false, "nobody looks any more");
  holding.hold(request("m"), () => undefined);
  t.same(woken, ["n/g", "n/g"], "the next first one is told again");
});

t.test("bytes of one model, and of all together", (t) => {
  const hold = (limits: Partial<HoldLimits>, ...all: readonly (readonly [string, number])[]): readonly boolean[] => {
    const { holding } = rig({ ...LIMITS, ...limits });
    return all.map(([model, bytes]) => isHeld(holding.hold(request(model, bytes), () => undefined)));
  };
  t.same(hold({ maxTotalBytes: 1e9 }, ["m", 900], ["m", 101], ["m", 100], ["l", 900]), [true, false, true, true]);
  t.same(hold({ maxBytes: 1e9 }, ["m", 1400], ["l", 101], ["l", 100]), [true, false, true]);
  t.end();
});

t.test("the time is over, the client goes, the router goes", async (t) => {
  const { time, counts, holding } = rig();
  const late = holding.hold(request("m"), () => undefined);
  time.advance(59_000);
  const fresh = holding.hold(request("m"), () => undefined);
  const gone = holding.hold(request("m"), () => undefined);
  if (!isHeld(late) || !isHeld(fresh) || !isHeld(gone)) throw new Error("not held");
  gone.leave();
  gone.leave();
  time.advance(1000);
  t.match(await late.outcome, { status: 503, reason: "HoldExpired", message: /within 60 s/, retryAfterSeconds: 30 });
  t.equal(holding.work.get("n/g")?.requests, 1);
  holding.end();
  t.match(await fresh.outcome, { status: 503, reason: "HoldEnded" });
  t.match(
    holding.hold(request("m"), () => undefined),
    { reason: "HoldEnded" },
  );
  t.same(counts, { left: 1, expired: 1, ended: 1 });
  t.equal(time.step(), false);
});

t.test("a try that throws harms nobody else", async (t) => {
  const { time, holding } = rig();
  const bad = holding.hold(request("m"), () => {
    throw new Error("broken");
  });
  const good = holding.hold(request("m"), () => "here");
  if (!isHeld(bad) || !isHeld(good)) throw new Error("not held");
  const failed = t.rejects(bad.outcome, /broken/);
  time.advance(50);
  await failed;
  t.equal(await good.outcome, "here");
});

t.test("not all at once: what comes ready next is to have its part", (t) => {
  const { time, holding } = rig({ ...LIMITS, maxRequests: 1000, maxBytes: 1e9, maxTotalBytes: 1e9 });
  let released = 0;
  for (let number = 0; number < 100; number++) holding.hold(request("m"), () => ++released);
  time.advance(50);
  t.equal(released, 32);
  time.advance(150);
  t.equal(released, 100);
  t.end();
});

type Step =
  | { readonly kind: "hold"; readonly model: string; readonly bytes: number }
  | { readonly kind: "leave"; readonly which: number }
  | { readonly kind: "room"; readonly count: number }
  | { readonly kind: "time"; readonly ms: number }
  | { readonly kind: "end" };

const model = fc.constantFrom("m", "l", "o", "unknown");
const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ kind: fc.constant("hold"), model, bytes: fc.integer({ min: 0, max: 600 }) }),
    fc.record({ kind: fc.constant("leave"), which: fc.nat(40) }),
    fc.record({ kind: fc.constant("room"), count: fc.nat(4) }),
    fc.record({ kind: fc.constant("time"), ms: fc.constantFrom(10, 50, 1000, 30_000, 60_000) }),
    fc.record({ kind: fc.constant("end") }),
  ),
  { maxLength: 60 },
);

/** Takes steps, and looks at what waits after each. */
class Run {
  readonly #rig = rig(LIMITS, { "n/g": ["m", "l"], "n/h": ["o"] });
  readonly #held: { model: string; bytes: number; held: Held<number>; ended: number }[] = [];
  readonly #released: Record<string, number[]> = {};
  #room = 0;

  take(step: Step): void {
    const { time, holding } = this.#rig;
    if (step.kind === "hold") this.#hold(step.model, step.bytes);
    else if (step.kind === "leave") this.#leave(step.which);
    else if (step.kind === "room") this.#room = step.count;
    else if (step.kind === "time") time.advance(step.ms);
    else holding.end();
  }

  #hold(model: string, bytes: number): void {
    const number = this.#held.length;
    const made = this.#rig.holding.hold(request(model, bytes), () => this.#attempt(model, number));
    if (!isHeld(made)) return;
    const entry = { model, bytes, held: made, ended: 0 };
    this.#held.push(entry);
    void made.outcome.then(() => (entry.ended += 1));
  }

  #attempt(model: string, number: number): number | undefined {
    if (this.#room === 0) return undefined;
    this.#room -= 1;
    (this.#released[model] ??= []).push(number);
    return number;
  }

  #leave(which: number): void {
    const entry = this.#held[which];
    if (entry?.ended !== 0) return;
    entry.ended = 1;
    entry.held.leave();
  }

  check(): void {
    const now = this.#held.filter(({ ended }) => ended === 0);
    const { holding, gauge } = this.#rig;
    const sum = [...holding.work.values()].reduce((total, { requests }) => total + requests, 0);
    if (sum !== now.length || gauge() !== sum) throw new Error(`${sum} counted, ${now.length} wait`);
    const bytesOf = (all: typeof now): number => all.reduce((total, { bytes }) => total + bytes, 0);
    for (const name of ["m", "l", "o"]) {
      const mine = now.filter((entry) => entry.model === name);
      if (mine.length > LIMITS.maxRequests || bytesOf(mine) > LIMITS.maxBytes) throw new Error("more than may wait");
    }
    if (bytesOf(now) > LIMITS.maxTotalBytes) throw new Error("more bytes than may wait");
  }

  async end(): Promise<void> {
    const { time, holding } = this.#rig;
    for (const numbers of Object.values(this.#released))
      if (numbers.some((number, index) => index > 0 && number < numbers[index - 1]!)) throw new Error("out of order");
    time.advance(LIMITS.ttlMs + 100);
    await turn();
    if (holding.work.size > 0 || time.step()) throw new Error("something is left");
    if (this.#held.some(({ ended }) => ended !== 1)) throw new Error("ended more than once, or never");
  }
}

t.test("whatever happens: in order, within bounds, each ended once, nothing left", async (t) => {
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const run = new Run();
      for (const step of all) {
        run.take(step);
        await turn();
        run.check();
      }
      await run.end();
    }),
    { numRuns: 200 },
  );
  t.pass();
});
