/**
 * What one instance can do, learned from its own counters: prompt tokens a second while it was busy, and the time of a decode
 * step by batch and resident KV. Declared values win. Instances that became ready a minute ago teach nothing (reference
 * autoscaling.md 5.2: samples of cold pods wrecked others' fits).
 */
import type { EngineSeen, InstanceSeen, Observation, WorkloadSeen } from "./group.ts";
import { FRESH_MS, positive } from "./traffic.ts";
import { grown, quantile } from "./windows.ts";
import { isNear, StepTimes } from "./step-times.ts";

/** Of one instance of a workload. Undefined: not known yet. */
export interface Capacity {
  /** Prompt tokens a second. */
  readonly promptRate?: number;
  readonly steps: StepTimes;
  /** Tokens of KV cache. */
  readonly kvTokens?: number;
  readonly maxSequences: number;
  /** From creation until ready: median. */
  readonly startupMs: number;
}

/** Assumed until an instance was seen to start. */
const STARTUP_MS = 120_000;
const WARM_MS = 60_000;
/** vLLM's default batch (V1, most devices). */
const MAX_SEQUENCES = 256;
/** Busy stretches shorter than this are mostly the granularity of counters. */
const STRETCH_MS = 10_000;
const STRETCHES = 240;
/** Fewer say nothing: bootstrap. */
const LEAST_STRETCHES = 6;
const LEAST_MINUTES = 3;
const MINUTE_MS = 60_000;
/** Twelve sightings of an engine at work, five seconds each, before they count; the last thousand or so do. */
const LEAST_BUSY_MS = 60_000;
const FORGET = 0.999;

/** 0 to 1: gauges that somebody averaged count in part. */
const busyOf = ({ running, waiting }: EngineSeen): number => Math.min(1, positive(running) + positive(waiting));

/** Of a decoding engine, until it is long enough to teach. */
interface Turn {
  ms: number;
  batchMs: number;
  generated: number;
}

const TURN_MS = 60_000;
/** While nothing is known and tokens come late: a rough idea soon is better than none for minutes. */
const FIRST_TURN_MS = 15_000;

interface Stretch {
  ms: number;
  tokens: number;
}

/** Of one workload: all of its instances teach it. */
export class CapacityMemory {
  readonly steps = new StepTimes();
  readonly #seen = new Map<string, EngineSeen>();
  readonly #stretches = new Map<string, Stretch>();
  readonly #turns = new Map<string, Turn>();
  readonly #rates: number[] = [];
  readonly #answered: number[] = [];
  #answeredAt = -Infinity;
  readonly #busy: Stretch = { ms: 0, tokens: 0 };
  readonly #startups = new Map<string, number>();
  #kvTokens: number | undefined;
  #maxSequences: number | undefined;

  learn(workload: WorkloadSeen, observation: Observation): void {
    const mine = observation.instances.filter((instance) => instance.workload === workload.id);
    const { tpotSloMs } = observation.scaling;
    for (const instance of mine) {
      // Readiness that comes and goes is no start.
      if (instance.readyAt !== undefined && !this.#startups.has(instance.id))
        this.#startups.set(instance.id, instance.readyAt - instance.createdAt);
      if (teaches(instance, observation.at)) this.#learnEngine(instance.id, instance.engine, tpotSloMs);
      else this.#forget(instance.id);
    }
    const alive = new Set(mine.map(({ id }) => id));
    for (const id of this.#seen.keys()) if (!alive.has(id)) this.#forget(id);
    // A start that is over stays known; a hundred of them are enough for a median.
    for (const id of this.#startups.keys()) if (this.#startups.size > 100) this.#startups.delete(id);
  }

  of({ scaling, role }: Pick<WorkloadSeen, "scaling" | "role">): Capacity {
    const declared = scaling.capacityTokensPerSecond;
    const promptRate = (role === "decode" ? undefined : declared) ?? this.#promptRate();
    return {
      ...(promptRate === undefined ? {} : { promptRate }),
      steps: this.steps,
      ...(this.#kvTokens === undefined ? {} : { kvTokens: this.#kvTokens }),
      maxSequences: this.#maxSequences ?? MAX_SEQUENCES,
      startupMs: quantile([...this.#startups.values()], 0.5) ?? STARTUP_MS,
    };
  }

  /**
   * The mean time to a first token was this, for prompts of so many tokens, where one workload prefills: what waited makes
   * it less than the truth, never more, so that the better minutes count.
   */
  sawFirstTokens(at: number, promptTokens: number, meanMs: number): void {
    if (at - this.#answeredAt < MINUTE_MS) return;
    this.#answeredAt = at;
    push(this.#answered, (1000 * promptTokens) / meanMs);
  }

  /**
   * While work waited it was busy all the time; else the time it was busy is known by how often it was seen so. What
   * first tokens say comes before there is evidence of either.
   */
  #promptRate(): number | undefined {
    const waiting = this.#rates.length < LEAST_STRETCHES ? 0 : (quantile(this.#rates, 0.9) ?? 0);
    const seen = this.#busy.ms < LEAST_BUSY_MS ? 0 : (1000 * this.#busy.tokens) / this.#busy.ms;
    if (waiting > 0 || seen > 0) return Math.max(waiting, seen);
    return this.#answered.length < LEAST_MINUTES ? undefined : quantile(this.#answered, 0.75);
  }

  #learnEngine(id: string, engine: EngineSeen, tpotMs: number): void {
    const before = this.#seen.get(id);
    if (before !== undefined && engine.at <= before.at) return;
    this.#seen.set(id, engine);
    if (positive(engine.kvCapacityTokens) > 0) this.#kvTokens = engine.kvCapacityTokens;
    if (positive(engine.maxSequences) > 0) this.#maxSequences = engine.maxSequences;
    if (before === undefined) return;
    const ms = engine.at - before.at;
    if (ms > 2 * FRESH_MS) return;
    this.#learnPrompts(id, before, engine);
    this.#learnSteps(id, tpotMs, before, engine);
  }

  /**
   * Over a minute: two looks at a batch five seconds apart say little of what it was in between, and what is too high by
   * chance there would look slow, too low fast.
   */
  #learnSteps(id: string, tpotMs: number, before: EngineSeen, engine: EngineSeen): void {
    if (before.generatedTokens === undefined || engine.generatedTokens === undefined) return;
    const turn = this.#turns.get(id) ?? { ms: 0, batchMs: 0, generated: 0 };
    const ms = engine.at - before.at;
    turn.ms += ms;
    turn.batchMs += (ms * (before.running + engine.running)) / 2;
    turn.generated += grown(before.generatedTokens, engine.generatedTokens);
    this.#turns.set(id, turn);
    // Idle now and then: its steps cannot be told apart from its pauses.
    if (engine.running < 1) this.#turns.delete(id);
    else if (turn.ms >= this.#leastMs(turn, tpotMs)) {
      this.#turns.delete(id);
      this.steps.learn({ at: engine.at, ms: turn.ms, batch: turn.batchMs / turn.ms, generated: turn.generated });
    }
  }

  #leastMs({ batchMs, generated }: Turn, tpotMs: number): number {
    const isUrgent = !this.steps.knows(tpotMs) && isNear(batchMs / generated, tpotMs);
    return isUrgent ? FIRST_TURN_MS : TURN_MS;
  }

  #learnPrompts(id: string, before: EngineSeen, engine: EngineSeen): void {
    if (before.promptTokens === undefined || engine.promptTokens === undefined) return;
    const [ms, tokens] = [engine.at - before.at, grown(before.promptTokens, engine.promptTokens)];
    const busy = (busyOf(before) + busyOf(engine)) / 2;
    this.#busy.ms = FORGET * this.#busy.ms + busy * ms;
    this.#busy.tokens = FORGET * this.#busy.tokens + tokens;
    const stretch = this.#stretches.get(id) ?? { ms: 0, tokens: 0 };
    if (before.waiting > 0 && engine.waiting > 0) {
      stretch.ms += ms;
      stretch.tokens += tokens;
      this.#stretches.set(id, stretch);
      if (stretch.ms >= STRETCH_MS) this.#end(id, stretch);
    } else this.#stretches.delete(id);
  }

  #end(id: string, { ms, tokens }: Stretch): void {
    this.#stretches.delete(id);
    if (tokens <= 0) return;
    push(this.#rates, (1000 * tokens) / ms);
  }

  #forget(id: string): void {
    this.#seen.delete(id);
    this.#stretches.delete(id);
    this.#turns.delete(id);
  }
}

function push(values: number[], value: number): void {
  values.push(value);
  if (values.length > STRETCHES) values.shift();
}

const teaches = (instance: InstanceSeen, at: number): instance is InstanceSeen & { readonly engine: EngineSeen } =>
  instance.state === "ready" &&
  instance.readyAt !== undefined &&
  at - instance.readyAt >= WARM_MS &&
  instance.engine !== undefined &&
  at - instance.engine.at <= FRESH_MS &&
  [instance.engine.running, instance.engine.waiting, instance.engine.kvUsage].every(
    (value) => Number.isFinite(value) && value >= 0,
  );
