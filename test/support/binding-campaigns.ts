/** Campaigns in the world of `binding.ts`: overlapping calls, lost answers, kills. */
import { BindingWorld, type WorldOptions } from "./binding.ts";

export interface Campaign {
  readonly runs: number;
  readonly faults: readonly string[];
  readonly counts: BindingWorld["counts"];
}

interface Worlds extends Omit<WorldOptions, "seed"> {
  /** The run before the first; a run's number is its seed, unless one seed is given for all. */
  readonly from?: number;
  readonly seed?: number;
}

/** Many worlds, one after another. */
export async function campaign(
  runs: number,
  { from = 0, seed, ...options }: Worlds,
  one: (world: BindingWorld, run: number) => Promise<void>,
  told: (run: number) => void = () => undefined,
): Promise<Campaign> {
  const faults: string[] = [];
  let counts: Counts = NOTHING;
  for (let run = from + 1; run <= from + runs; run++) {
    const world = new BindingWorld({ ...options, seed: seed ?? run });
    await one(world, run);
    counts = added(counts, world.counts);
    faults.push(...world.faults.map((fault) => `run ${run}: ${fault}`));
    world.stop();
    if (run % 1000 === 0) told(run);
  }
  return { runs, faults, counts };
}

/** Trouble, then quiet: nothing may be left over, and no pod that has room may wait. */
export async function settle(world: BindingWorld, quietMs: number): Promise<void> {
  world.calm();
  await world.run(quietMs);
  // What was bound in the last moment is still to be seen bound.
  for (let more = 0; more < 80 && !world.settled(); more++) await world.run(100);
  if (world.leftovers() > 0) world.faults.push(`${world.leftovers()} left over`);
  for (const id of world.stranded()) world.faults.push(`${id} waits although there is room`);
}

/** Overlapping calls of a scheduler that gives up early, with every kind of bad answer; judged after every step. */
export const overlaps = (runs: number, told?: (run: number) => void): Promise<Campaign> =>
  campaign(runs, { faulty: 50 }, (world) => world.run(OVERLAP_MS), told);

/** Runs until so many answers were lost, late or wrong. */
export async function losses(wanted: number): Promise<Campaign> {
  let [runs, lost] = [0, 0];
  const one = async (world: BindingWorld): Promise<void> => {
    await world.run(TROUBLE_MS);
    await settle(world, QUIET_MS);
  };
  const parts: Campaign[] = [];
  while (lost < wanted) {
    const part = await campaign(100, { faulty: 90, from: runs }, one);
    parts.push(part);
    [runs, lost] = [runs + part.runs, lost + part.counts.lost];
  }
  return merged(parts);
}

/** A kill after every step of a world, for so many worlds; how long until every pod that has room is bound. */
export async function kills(worlds: number, told: (run: number) => void = () => undefined): Promise<Kills> {
  const parts: Campaign[] = [];
  let worstMs = 0;
  for (let run = 0; run < worlds; run++) {
    const one = async (world: BindingWorld, after: number): Promise<void> => {
      for (let step = 0; step < after - run; step++) await world.step();
      world.kill();
      world.calm();
      const killed = world.time.now();
      while (world.time.now() < killed + MOST_RECOVERY_MS && !world.settled()) await world.run(50);
      worstMs = Math.max(worstMs, world.time.now() - killed);
      await settle(world, 0);
    };
    parts.push(await campaign(KILL_STEPS, { faulty: 20, from: run, seed: run + 1 }, one));
    if ((run + 1) % 10 === 0) told(run + 1);
  }
  return { ...merged(parts), worstMs };
}

export interface Kills extends Campaign {
  /** Virtual milliseconds from the kill until all was bound. */
  readonly worstMs: number;
}

const OVERLAP_MS = 1500;
const TROUBLE_MS = 2000;
const QUIET_MS = 3000;
const MOST_RECOVERY_MS = 60_000;
/** Events of a world until most of its pods are bound. */
const KILL_STEPS = 60;

const merged = (parts: readonly Campaign[]): Campaign => ({
  runs: parts.reduce((sum, { runs }) => sum + runs, 0),
  faults: parts.flatMap(({ faults }) => faults),
  counts: parts.reduce((sum, { counts }) => added(sum, counts), { ...NOTHING }),
});

const NOTHING = { filters: 0, binds: 0, answered: 0, lost: 0, kills: 0 };

type Counts = BindingWorld["counts"];
const added = (one: Counts, other: Counts): Counts => ({
  filters: one.filters + other.filters,
  binds: one.binds + other.binds,
  answered: one.answered + other.answered,
  lost: one.lost + other.lost,
  kills: one.kills + other.kills,
});
