/** Whatever is observed, the decision core keeps its promises: bounds, evidence, direction, chance. */
import fc from "fast-check";
import t from "tap";
import { createMemory, decide } from "../../src/autoscaler/decide.ts";
import type { EngineSeen, Observation, RouterSeen, WorkloadDecision } from "../../src/autoscaler/group.ts";
import { instance, observation, router, SteadyGroup, workload } from "../support/observations.ts";

const MODES = ["auto", "scale-up-only", "recommend"] as const;

/** Numbers as broken exporters give them. */
const anyNumber = fc.oneof(
  { weight: 6, arbitrary: fc.double({ min: 0, max: 1e7, noNaN: true }) },
  fc.constantFrom(NaN, Infinity, -Infinity, -1, 0, 1e308),
);
const age = fc.oneof(fc.integer({ min: 0, max: 14_000 }), fc.integer({ min: 0, max: 600_000 }));

const anyEngine = fc.option(
  fc.record({
    age,
    running: anyNumber,
    waiting: anyNumber,
    kvUsage: anyNumber,
    promptTokens: anyNumber,
    generatedTokens: anyNumber,
  }),
  { nil: undefined },
);
const anyRouter = fc.record({
  ...{ age, id: fc.constantFrom("a", "b"), requests: anyNumber, promptTokens: anyNumber, answers: anyNumber },
  ...{ generatedTokens: anyNumber, backlogTokens: anyNumber, backlogRequests: anyNumber, heldRequests: anyNumber },
  ttft: fc.array(anyNumber, { maxLength: 52 }),
  tpot: fc.array(anyNumber, { maxLength: 52 }),
});
const anyRound = fc.record({
  ms: fc.integer({ min: 1000, max: 60_000 }),
  prefill: fc.integer({ min: 0, max: 12 }),
  decode: fc.integer({ min: 0, max: 12 }),
  engines: fc.array(anyEngine, { maxLength: 24 }),
  routers: fc.array(anyRouter, { maxLength: 2 }),
});
type Round = typeof anyRound extends fc.Arbitrary<infer T> ? T : never;

interface Bounds {
  readonly min: number;
  readonly max: number;
  readonly mode: (typeof MODES)[number];
  readonly maxAccelerators?: number;
}

function seen(
  at: number,
  { prefill, decode, engines, routers }: Round,
  { min, max, mode, maxAccelerators }: Bounds,
): Observation {
  const scaling = { minReplicas: min, maxReplicas: max, mode };
  const all = [...Array.from({ length: prefill }, () => "prefill"), ...Array.from({ length: decode }, () => "decode")];
  return observation(at, {
    workloads: [workload("prefill", prefill, scaling), workload("decode", decode, scaling)],
    instances: all.map((role, index) => instance(role, index, engineOf(at, engines[index]))),
    routers: routers.map(({ age: old, ...rest }): RouterSeen => router(at - old, rest)),
    group: maxAccelerators === undefined ? {} : { maxAccelerators },
  });
}

const engineOf = (at: number, engine: Round["engines"][number]): EngineSeen | undefined =>
  engine === undefined ? undefined : { kvCapacityTokens: 250_000, maxSequences: 256, ...engine, at: at - engine.age };

const bounds = fc.record({
  min: fc.integer({ min: 0, max: 4 }),
  max: fc.integer({ min: 4, max: 12 }),
  mode: fc.constantFrom(...MODES),
});

function keeps({ from, to, recommended }: WorkloadDecision, { min, max, mode }: Bounds): boolean {
  const isWithin = (count: number): boolean => Number.isInteger(count) && count >= min && count <= max;
  if (!isWithin(recommended)) return false;
  if (to === from) return true;
  return isWithin(to) && mode !== "recommend" && (mode === "auto" || to > from);
}

t.test("every number lies within its bounds, moves only as its mode allows, and is a whole one", (t) => {
  fc.assert(
    fc.property(fc.array(anyRound, { minLength: 1, maxLength: 30 }), bounds, (rounds, limits) => {
      const memory = createMemory();
      let at = 0;
      for (const round of rounds) {
        at += round.ms;
        if (!decide(memory, seen(at, round, limits)).workloads.every((decision) => keeps(decision, limits)))
          return false;
      }
      return true;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("with a budget nothing grows beyond it, whatever else is held where it is", (t) => {
  fc.assert(
    fc.property(
      fc.array(anyRound, { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 2, max: 12 }),
      (rounds, budget) => {
        const memory = createMemory();
        let at = 0;
        return rounds.every((round) => {
          at += round.ms;
          const { workloads } = decide(
            memory,
            seen(at, round, { min: 1, max: 12, mode: "auto", maxAccelerators: budget }),
          );
          // What shrinks still stands while it drains.
          const total = workloads.reduce((sum, { from, to }) => sum + Math.max(from, to), 0);
          return total <= budget || workloads.every(({ from, to }) => to <= from);
        });
      },
    ),
    { numRuns: 200 },
  );
  t.end();
});

const CUTS = ["a router is silent", "an engine is silent", "an engine counts nonsense", "no router is heard"] as const;

t.test("nothing is scaled in on stale or partial data", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(...CUTS),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 3, max: 12 }),
      (cut, rate, replicas) => {
        const group = new SteadyGroup();
        const memory = createMemory();
        const counts = { prefill: replicas, decode: replicas };
        let cutting = false;
        // Half an hour to learn, at what so many replicas need; then almost nothing comes, and part of it is not seen: two
        // minutes for an engine, since one that stays silent is broken, ten for routers.
        const end = cut.startsWith("an engine") ? 384 : 480;
        for (let round = 0; round < end; round++) {
          cutting = round >= 360;
          const whole = group.after(5000, cutting ? 0.1 : rate, counts);
          const { workloads } = decide(memory, cutting ? without(whole, cut) : whole);
          if (cutting && workloads.some(({ from, to }) => to < from)) return false;
        }
        return cutting;
      },
    ),
    { numRuns: 40 },
  );
  t.end();
});

function without(whole: Observation, cut: (typeof CUTS)[number]): Observation {
  const [first, ...rest] = whole.instances;
  if (first?.engine === undefined) return whole;
  const other = (engine: EngineSeen): Observation => ({ ...whole, instances: [{ ...first, engine }, ...rest] });
  if (cut === "an engine is silent") return other({ ...first.engine, at: whole.at - 60_000 });
  if (cut === "an engine counts nonsense") return other({ ...first.engine, running: NaN });
  if (cut === "no router is heard") return { ...whole, routers: [] };
  return { ...whole, routers: [...whole.routers, router(whole.at - 30_000, { id: "other" })] };
}

t.test("with the same memory, more demand never asks for less", (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 30 }),
      fc.double({ min: 1, max: 4, noNaN: true }),
      fc.integer({ min: 1, max: 8 }),
      (rate, times, replicas) => {
        // Always at work, so that capacities are known before: to learn them only under more load is another memory.
        fc.pre(3 * rate >= replicas);
        const wanted = [1, times].map((factor) => {
          const group = new SteadyGroup();
          const memory = createMemory();
          const counts = { prefill: replicas, decode: replicas };
          for (let round = 0; round < 120; round++) decide(memory, group.after(5000, rate, counts));
          let last = decide(memory, group.after(5000, rate * factor, counts));
          for (let round = 0; round < 6; round++) last = decide(memory, group.after(5000, rate * factor, counts));
          return last.workloads.map(({ recommended }) => recommended);
        });
        return wanted[0]?.every((count, index) => count <= (wanted[1]?.[index] ?? 0)) === true;
      },
    ),
    { numRuns: 60 },
  );
  t.end();
});

/** As a router tells that began again when it had counted `base`. */
const restarted = (told: RouterSeen, base: RouterSeen | undefined): RouterSeen =>
  base === undefined
    ? told
    : {
        ...told,
        requests: told.requests - base.requests,
        promptTokens: told.promptTokens - base.promptTokens,
        answers: told.answers - base.answers,
        generatedTokens: told.generatedTokens - base.generatedTokens,
      };

t.test("counters that begin anew and values that are no numbers change nothing", (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 20 }),
      fc.integer({ min: 60, max: 200 }),
      fc.constantFrom("reset", "NaN"),
      (rate, when, what) => {
        const [group, broken] = [new SteadyGroup(), new SteadyGroup()];
        const [memory, other] = [createMemory(), createMemory()];
        const counts = { prefill: 3, decode: 3 };
        let base: RouterSeen | undefined;
        for (let round = 0; round < 240; round++) {
          const straight = decide(memory, group.after(5000, rate, counts));
          const whole = broken.after(5000, rate, counts);
          const [told] = whole.routers;
          if (told === undefined) return false;
          if (round === when) base = told;
          const bent =
            what === "reset"
              ? restarted(told, base)
              : round === when
                ? { ...told, requests: NaN, promptTokens: Infinity }
                : told;
          const crooked = decide(other, { ...whole, routers: [bent] });
          const differs = straight.workloads.some(
            ({ to, from }, index) => Math.abs(to - (crooked.workloads[index]?.to ?? from)) > 1,
          );
          if (differs) return false;
        }
        return true;
      },
    ),
    { numRuns: 40 },
  );
  t.end();
});
