import fc from "fast-check";
import t from "tap";
import type { RemoteKv } from "../../../src/simulator/engine/engine.ts";
import { newRig, SOURCE, tokens, type Rig, type Story } from "./rig.ts";

const BOUNDS = { capacityBlocks: 20, maxSequences: 5, tokenBudget: 64 };

interface Arrival {
  readonly at: number;
  readonly root: number;
  readonly prompt: number;
  readonly output: number;
  readonly remote: "no" | "match" | "refuse";
  readonly abortAfter: number | null;
}

/** Few roots, so that prompts share prefixes; lengths up to what fills the whole cache. */
const arrival: fc.Arbitrary<Arrival> = fc.record({
  at: fc.integer({ min: 0, max: 400 }),
  root: fc.integer({ min: 0, max: 3 }),
  prompt: fc.integer({ min: 1, max: 200 }),
  output: fc.integer({ min: 1, max: 60 }),
  remote: fc.constantFrom("no", "match", "refuse"),
  abortAfter: fc.option(fc.integer({ min: 0, max: 300 }), { freq: 5 }),
});

interface Told {
  readonly story: Story;
  readonly arrival: Arrival;
}

function arrive(rig: Rig, each: Arrival): Told {
  const source = each.remote === "no" ? {} : { remote: { ...SOURCE, requestId: each.remote } };
  const story = rig.submit({ prompt: tokens(each.root, each.prompt), output: each.output, ...source });
  if (each.abortAfter !== null) rig.time.after(each.abortAfter, () => story.abort());
  return { story, arrival: each };
}

const demand = (isTrue: boolean, what: string): void => {
  if (!isTrue) throw new Error(what);
};

function checkBounds(rig: Rig): void {
  const load = rig.core.load();
  demand(load.usedBlocks <= BOUNDS.capacityBlocks, "more blocks than there are");
  demand(load.running <= BOUNDS.maxSequences, "more sequences than the batch holds");
}

function checkStory({ story, arrival: { prompt, output, abortAfter } }: Told): void {
  demand(story.end !== undefined || abortAfter !== null, "a request is lost");
  demand(story.end === undefined || story.tokensAt.length === output, "tokens are lost");
  demand((story.end?.cachedTokens ?? 0) < prompt, "the last token was not computed");
}

/** Serves the load to its end and gives back everything that happened. */
function run(arrivals: readonly Arrival[]): string {
  const remote: RemoteKv = {
    pull: ({ source }, done) => void rig.time.after(3, () => done(source.requestId === "match" ? "matched" : "none")),
    drop: () => undefined,
  };
  const rig = newRig(BOUNDS, remote);
  const told: Told[] = [];
  for (const each of arrivals) rig.time.after(each.at, () => told.push(arrive(rig, each)));
  for (let count = 0; rig.time.step(); count += 1) {
    checkBounds(rig);
    demand(count < 100_000, "never ends");
  }
  told.forEach(checkStory);
  const { usedBlocks, running, waiting, deferred } = rig.core.load();
  demand(usedBlocks + running + waiting + deferred === 0, "something is left");
  return JSON.stringify([rig.log, told.map(({ story }) => story.tokensAt)]);
}

t.test("any load on a small engine is served completely, within its bounds, and the same way twice", (t) => {
  let preemptions = 0;
  fc.assert(
    fc.property(fc.array(arrival, { maxLength: 25 }), (arrivals) => {
      const first = run(arrivals);
      demand(first === run(arrivals), "two runs differ");
      if (first.includes("preempted")) preemptions += 1;
    }),
    { numRuns: 150 },
  );
  t.ok(preemptions > 0, `${preemptions} of the loads led to preemptions`);
  t.end();
});
