/** One workload under one scaling policy, from its first request until a quarter of an hour after its last. */
import { seededRandom } from "../random.ts";
import type { Arrival } from "./arrivals.ts";
import type { DecodePod } from "./pool.ts";
import { PrefillPod, type Truth } from "./pool.ts";
import { LIMITS, type Limits, type PodMetrics, type PodView, type ScalingPolicy, type View } from "./policy.ts";
import { latenciesOf, POOL_ROLES, World, type Pod, type PoolRole } from "./world.ts";

export interface Run {
  readonly arrivals: readonly Arrival[];
  readonly policy: ScalingPolicy;
  readonly startupMs: number;
  readonly seed: number;
  readonly limits?: Limits;
  readonly truth?: Truth;
  readonly onProgress?: (done: number, of: number) => void;
}

export interface Figures {
  readonly requests: number;
  /** Share of requests whose first token and whose others came in time; those that never ended are not among them. */
  readonly sloAttainment: number;
  readonly gpuHours: number;
  readonly ttftP99Ms: number;
  /** Of what is asked for, both roles; of those, in the other direction than the one before. */
  readonly changes: number;
  readonly flips: number;
  readonly course: readonly Moment[];
}

/** Each half minute, for pictures. */
export interface Moment {
  readonly at: number;
  readonly requestsPerSecond: number;
  readonly ready: Readonly<Record<PoolRole, number>>;
  readonly asked: Readonly<Record<PoolRole, number>>;
}

const STEP_MS = 50;
const AFTER_MS = 900_000;
const MOMENT_MS = 30_000;
/** All policies begin with the same pods, which are ready. */
const BEGIN: Readonly<Record<PoolRole, number>> = { prefill: 4, decode: 3 };

export function runScaling(run: Run): Figures {
  const world = new World({
    ...{ startupMs: run.startupMs, shrinking: run.policy.shrinking, random: seededRandom(run.seed + 1000) },
    ...(run.truth === undefined ? {} : { truth: run.truth }),
  });
  for (const role of POOL_ROLES) world.begin(role, BEGIN[role]);
  const scaler = new Scaler(run, world);
  const endAt = (run.arrivals.at(-1)?.at ?? 0) + AFTER_MS;
  let arrived = 0;
  for (let now = STEP_MS; now <= endAt && !isOver(run, world, now); now += STEP_MS) {
    arrived = arriveBefore(run.arrivals, world, { now, from: arrived });
    world.advance(now, STEP_MS);
    scaler.step(now, arrived);
    if (now % 60_000 === 0) run.onProgress?.(now, endAt);
  }
  return figuresOf(run, world, scaler);
}

/** All is answered: looked at each half minute, so that the picture's last moment is whole. */
const isOver = ({ arrivals }: Run, { done }: World, now: number): boolean =>
  now % MOMENT_MS === STEP_MS && now > MOMENT_MS && done.length === arrivals.length;

/** How many have arrived then. */
function arriveBefore(
  arrivals: readonly Arrival[],
  world: World,
  { now, from }: { readonly now: number; readonly from: number },
): number {
  let next = from;
  for (let arrival = arrivals[next]; arrival !== undefined && arrival.at < now; arrival = arrivals[next]) {
    world.arrive(arrival);
    next += 1;
  }
  return next;
}

/** Asks the policy in its own time, with metrics of their own age. */
class Scaler {
  readonly course: Moment[] = [];
  changes = 0;
  flips = 0;
  readonly #run: Run;
  readonly #world: World;
  readonly #last: Record<PoolRole, number> = { prefill: 0, decode: 0 };
  #scraped = new Map<string, PodMetrics>();
  #counted = 0;

  constructor(run: Run, world: World) {
    this.#run = run;
    this.#world = world;
  }

  step(now: number, arrived: number): void {
    const { policy } = this.#run;
    if (now % policy.scrapeMs === 0) this.#scrape(now);
    if (now % policy.intervalMs === 0) this.#ask(now);
    if (now % MOMENT_MS !== 0) return;
    this.course.push({
      at: now,
      requestsPerSecond: (1000 * (arrived - this.#counted)) / MOMENT_MS,
      ready: this.#each(
        (role) => this.#world.pods(role).filter(({ readyAt, isDraining }) => readyAt <= now && !isDraining).length,
      ),
      asked: this.#each((role) => this.#world.asked(role)),
    });
    this.#counted = arrived;
  }

  #each = (of: (role: PoolRole) => number): Record<PoolRole, number> => ({
    prefill: of("prefill"),
    decode: of("decode"),
  });

  #scrape(now: number): void {
    const ready = POOL_ROLES.flatMap((role) => this.#world.pods(role)).filter(({ readyAt }) => readyAt <= now);
    this.#scraped = new Map(ready.map((pod) => [pod.id, metricsAt(pod, now, this.#world.truth)]));
  }

  #ask(now: number): void {
    const wanted = this.#run.policy.decide(this.#view(now));
    for (const role of POOL_ROLES) this.#apply(role, wanted[role], now);
  }

  #apply(role: PoolRole, count: number, now: number): void {
    const direction = Math.sign(count - this.#world.asked(role));
    if (direction === 0) return;
    this.changes += 1;
    if (direction === -this.#last[role]) this.flips += 1;
    this.#last[role] = direction;
    this.#world.scale(role, count, now);
  }

  #view(now: number): View {
    const pods = POOL_ROLES.flatMap((role) => this.#world.pods(role).map((pod) => this.#podView(role, pod, now)));
    return { now, pods, asked: this.#each((role) => this.#world.asked(role)), router: this.#world.routerSeen(now) };
  }

  #podView(role: PoolRole, { id, createdAt, readyAt, isDraining }: Pod<unknown>, now: number): PodView {
    const isReady = readyAt <= now;
    return { id, role, createdAt, readyAt, isReady, isDraining, metrics: isReady ? this.#scraped.get(id) : undefined };
  }
}

function metricsAt({ engine }: Pod<PrefillPod | DecodePod>, now: number, truth: Truth): PodMetrics {
  const { kvTokens: kvCapacityTokens, maxSequences } = truth;
  if (engine instanceof PrefillPod) {
    const waitingTokens = engine.waitingTokens(now);
    return {
      ...{ at: now, running: engine.running(now), waiting: engine.waiting(now), kvCapacityTokens, maxSequences },
      kvUsage: Math.min(1, waitingTokens / kvCapacityTokens),
      ...{ promptTokens: engine.promptTokens(now), generatedTokens: 0 },
    };
  }
  return {
    ...{ at: now, running: engine.running, waiting: engine.waiting, kvCapacityTokens, maxSequences },
    ...{
      kvUsage: Math.min(1, engine.kvTokens / kvCapacityTokens),
      promptTokens: 0,
      generatedTokens: engine.generatedTokens,
    },
  };
}

function figuresOf({ arrivals, limits = LIMITS }: Run, world: World, { changes, flips, course }: Scaler): Figures {
  const latencies = world.done.map(latenciesOf);
  const inTime = latencies.filter(({ ttftMs, tpotMs }) => ttftMs <= limits.ttftMs && tpotMs <= limits.tpotMs).length;
  const sorted = Float64Array.from(latencies, ({ ttftMs }) => ttftMs).sort();
  return {
    requests: arrivals.length,
    sloAttainment: arrivals.length === 0 ? 1 : inTime / arrivals.length,
    gpuHours: world.podMs / 3_600_000,
    ttftP99Ms: sorted[Math.min(sorted.length - 1, Math.floor(0.99 * sorted.length))] ?? 0,
    ...{ changes, flips, course },
  };
}
