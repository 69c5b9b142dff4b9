/** What a decode step takes: when it is known, from what, and what it allows. */
import t from "tap";
import { StepTimes } from "../../../src/autoscaler/step-times.ts";

const MOST = 256;
/** An engine whose step takes 20 ms and half a millisecond for each sequence. */
const itlMs = (batch: number): number => 20 + 0.5 * batch;
const sample = (at: number, batch: number): Parameters<StepTimes["learn"]>[0] => ({
  ...{ at, ms: 60_000, batch, generated: (60_000 * batch) / itlMs(batch) },
});

t.test("it is known from three samples of any batch, where one is near what a step may take", (t) => {
  const steps = new StepTimes();
  for (const [index, batch] of [4, 12, 30].entries()) {
    t.equal(steps.knows(50), false, `${index} samples`);
    steps.learn(sample(index * 60_000, batch));
  }
  t.equal(steps.knows(50), true, "35 of 50 ms");
  t.equal(steps.knows(100), false, "35 of 100 ms say little of what is possible");
  // 45 ms allow 50 sequences: 1111 tokens/s.
  const { batch, tokensPerSecond } = steps.limit(45, MOST);
  t.ok(Math.abs(batch - 50) < 5, String(batch));
  t.ok(Math.abs(tokensPerSecond - 1111) < 60, String(tokensPerSecond));
  t.end();
});

t.test("a level with three samples counts, and single ones no more", (t) => {
  const steps = new StepTimes();
  steps.learn({ at: 0, ms: 60_000, batch: 8, generated: 8 * 60_000 });
  for (let index = 1; index <= 3; index++) steps.learn(sample(index * 60_000, 40));
  const { tokensPerSecond } = steps.limit(itlMs(40), MOST);
  t.ok(Math.abs(tokensPerSecond - (1000 * 40) / itlMs(40)) < 40, String(tokensPerSecond));
  t.end();
});

t.test("an engine that idled teaches nothing", (t) => {
  const steps = new StepTimes();
  for (let index = 0; index < 9; index++) {
    steps.learn(sample(index, 0.4));
    steps.learn({ at: index, ms: 60_000, batch: 4, generated: 0 });
  }
  t.equal(steps.knows(42), false);
  t.end();
});

t.test("no more sequences than memory and the promise allow, and at most four times what was seen", (t) => {
  const steps = new StepTimes();
  for (let index = 0; index < 3; index++) steps.learn(sample(index, 20));
  t.equal(steps.limit(1e6, MOST).batch, 80);
  t.equal(steps.limit(1e6, 12).batch, 12);
  t.ok(steps.limit(25, MOST).batch < 15, "nor more than the promise allows");
  const small = new StepTimes();
  for (let index = 0; index < 3; index++) small.learn(sample(index, 2));
  t.equal(small.limit(1e6, MOST).batch, 32, "32 are believed possible, however few were seen");
  t.end();
});
