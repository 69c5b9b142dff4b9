/** S1: metrics as they are when exporters break. */
import { createMemory, decide } from "../../src/autoscaler/decide.ts";
import type { EngineSeen, Observation } from "../../src/autoscaler/group.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { SteadyGroup } from "../support/observations.ts";
import type { ScoreRow } from "./row.ts";

const RUNS = 200;
const LEARN = 240;
const BROKEN = 120;
const VALUES = [NaN, Infinity, -Infinity, -1] as const;

type Break = (whole: Observation, chance: () => number) => Observation;

const engines = (
  whole: Observation,
  of: (engine: EngineSeen, index: number) => EngineSeen | undefined,
): Observation => ({
  ...whole,
  instances: whole.instances.map(({ engine, ...rest }, index) => {
    const next = engine === undefined ? undefined : of(engine, index);
    return next === undefined ? rest : { ...rest, engine: next };
  }),
});

/** Each as the row names them; routers are silent with them, so that engines are all there is. */
const BREAKS: Readonly<Record<string, Break>> = {
  NaN: (whole, chance) =>
    engines({ ...whole, routers: [] }, (engine) => ({ ...engine, running: pick(chance), kvUsage: pick(chance) })),
  missing: (whole) => engines({ ...whole, routers: [] }, () => undefined),
  stale: (whole) => ({
    ...engines(whole, (engine) => ({ ...engine, at: whole.at - 120_000 })),
    routers: whole.routers.map((router) => ({ ...router, at: whole.at - 120_000 })),
  }),
  "half the pods": (whole) => engines(whole, (engine, index) => (index % 2 === 0 ? engine : undefined)),
};

const pick = (chance: () => number): number => VALUES[Math.floor(chance() * VALUES.length)] ?? NaN;

export const row: ScoreRow = {
  id: "S1",
  fault: "NaN, infinite, negative, missing and stale metrics, and half the pods silent, while load falls to nothing",
  required: "0 writes",
  run: (progress) => {
    const figures: Record<string, number> = {};
    for (const [name, bend] of Object.entries(BREAKS)) {
      figures[`${name}: rounds`] = RUNS * BROKEN;
      figures[`${name}: writes`] = Array.from({ length: RUNS }, (_, seed) => writesOf(bend, seed)).reduce(
        (a, b) => a + b,
        0,
      );
      progress(`${name}: ${figures[`${name}: writes`]} writes`);
    }
    const written = Object.entries(figures).reduce(
      (sum, [name, value]) => sum + (name.endsWith("writes") ? value : 0),
      0,
    );
    return Promise.resolve({ figures, met: written === 0 });
  },
};

/** Twenty minutes in which it is sized; then a tenth of the load comes, and is seen wrongly for ten. */
function writesOf(bend: Break, seed: number): number {
  const { next } = seededRandom(seed + 1);
  const rate = 4 + 40 * next();
  const [group, memory] = [new SteadyGroup(), createMemory()];
  let counts = { prefill: 3, decode: 3 };
  for (let round = 0; round < LEARN; round++) {
    const { workloads } = decide(memory, group.after(5000, rate, counts));
    const to = (id: string): number => workloads.find(({ workload }) => workload === id)?.to ?? 0;
    counts = { prefill: to("prefill"), decode: to("decode") };
  }
  let writes = 0;
  for (let round = 0; round < BROKEN; round++) {
    const { workloads } = decide(memory, bend(group.after(5000, rate / 10, counts), next));
    writes += workloads.filter(({ from, to }) => to !== from).length;
  }
  return writes;
}
