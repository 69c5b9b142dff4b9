/** What was not seen for a while: counters go on, or are gone; none of that is load, or the lack of it. */
import t from "tap";
import { createMemory, decide, type GroupMemory } from "../../../src/autoscaler/decide.ts";
import type { Observation, RouterSeen } from "../../../src/autoscaler/group.ts";
import { SteadyGroup } from "../../support/observations.ts";

const ROUND_MS = 5000;
const RATE = 40;
const ROLES = ["prefill", "decode"] as const;

interface Running {
  readonly group: SteadyGroup;
  readonly memory: GroupMemory;
  readonly counts: Record<(typeof ROLES)[number], number>;
}

type Bend = (whole: Observation) => Observation;

/** Least and most of each role in so many rounds, at the same load all the time. */
function rounds({ group, memory, counts }: Running, count: number, bend: Bend): readonly (readonly number[])[] {
  const seen: number[][] = ROLES.map((role) => [counts[role]]);
  for (let round = 0; round < count; round++)
    for (const { workload, to } of decide(memory, bend(group.after(ROUND_MS, RATE, counts))).workloads) {
      counts[workload as "prefill"] = to;
      seen[ROLES.indexOf(workload as "prefill")]?.push(to);
    }
  return seen.map((all) => [Math.min(...all), Math.max(...all)]);
}

function settled(bend: Bend): Running {
  const running = { group: new SteadyGroup(), memory: createMemory(), counts: { prefill: 6, decode: 3 } };
  rounds(running, 360, bend);
  return running;
}

const standing = ({ counts }: Running): readonly (readonly number[])[] =>
  ROLES.map((role) => [counts[role], counts[role]]);

const same: Bend = (whole) => whole;

/** As it was read a minute before. */
const deaf: Bend = (whole) => ({
  ...whole,
  routers: whole.routers.map((router) => ({ ...router, at: router.at - 60_000 })),
  instances: whole.instances.map(({ engine, ...rest }) =>
    engine === undefined ? rest : { ...rest, engine: { ...engine, at: engine.at - 60_000 } },
  ),
});

t.test("nothing was heard for a while: what came meanwhile came in that while", (t) => {
  for (const silent of [6, 12, 36, 58, 72, 200]) {
    const running = settled(same);
    const before = standing(running);
    rounds(running, silent, deaf);
    t.strictSame(rounds(running, 12, same), before, `${silent * ROUND_MS} ms`);
  }
  t.end();
});

const parted = (router: RouterSeen, part: number, id: string): RouterSeen => ({
  ...{ ...router, id, requests: part * router.requests, promptTokens: part * router.promptTokens },
  ...{ answers: part * router.answers, generatedTokens: part * router.generatedTokens },
});

const twoOf =
  (second: (router: RouterSeen) => RouterSeen): Bend =>
  (whole) => ({
    ...whole,
    routers: whole.routers.flatMap((router) => [parted(router, 0.5, "a"), second(parted(router, 0.5, "b"))]),
  });

t.test("one of two routers was silent: nothing shrinks when it is back, and hardly anything grows", (t) => {
  for (const [silent, id] of [
    [48, "b"],
    [120, "b"],
    [120, "begun anew"],
  ] as const) {
    let last: RouterSeen | undefined;
    const heard = (router: RouterSeen): RouterSeen => (last = router);
    const running = settled(twoOf(heard));
    const [[prefill = 0] = []] = standing(running);
    rounds(
      running,
      silent,
      twoOf((router) => last ?? router),
    );
    const [[least = 0, most = 0] = []] = rounds(
      running,
      24,
      twoOf((router) => ({ ...router, id })),
    );
    t.equal(least, prefill, `${silent * ROUND_MS} ms, then ${id}`);
    t.ok(most <= prefill + 1, `${most} of ${prefill}`);
  }
  t.end();
});

t.test("a sum of counters that loses one of its parts, as Prometheus tells after a scale-in, is no load", (t) => {
  const summed =
    (part: number): Bend =>
    (whole) => ({ ...whole, routers: whole.routers.map((router) => parted(router, part, "prometheus")) });
  const running = settled(summed(1));
  const before = standing(running);
  t.strictSame(rounds(running, 24, summed(5 / 6))[1], before[1]);
  t.ok(running.counts.prefill <= (before[0]?.[1] ?? 0));
  t.end();
});

t.test("a group that may sleep does not as long as not all of its routers are heard", (t) => {
  const zero = { minReplicas: 0, idleAfterMs: 60_000 };
  for (const bend of [twoOf((router) => ({ ...router, at: router.at - 20_000 })), deaf]) {
    const running = settled(same);
    const idle = (how: Bend): readonly number[] => {
      const whole = running.group.after(ROUND_MS, 0, running.counts, zero);
      return decide(running.memory, how(whole)).workloads.map(({ to }) => to);
    };
    for (let round = 0; round < 200; round++) idle(bend);
    t.notOk(idle(same).includes(0), "what came meanwhile is not known");
  }
  t.end();
});

t.test("what a role can do becomes known while little comes: it shrinks no sooner than the delay says", (t) => {
  const [group, memory, counts] = [new SteadyGroup(), createMemory(), { prefill: 4, decode: 4 }];
  const decode = (rate: number): number | undefined =>
    decide(memory, group.after(ROUND_MS, rate, counts)).workloads.find(({ workload }) => workload === "decode")?.to;
  for (let round = 0; round < 120; round++) t.equal(decode(1), 4);
  // Batches grow to one and more, and teach.
  for (let round = 0; round < 55; round++) t.equal(decode(1.4), 4);
  t.equal(decode(1.4), 4);
  for (let round = 0; round < 20; round++) decode(1.4);
  t.ok((decode(1.4) ?? 4) < 4, "then it does");
  t.end();
});
