/**
 * The engine core: a discrete-event model of one inference engine.
 *
 * It turns the scheduler's plans into time: each step takes as long as the timing profile says, and at its end tokens
 * exist. Everything that happens is told to the listener of the sequence and to the monitor. It never does I/O, and
 * reads time and other engines only through its ports, so it runs as well in virtual time.
 */
import type { Cancel, Clock, Timers } from "../../ports.ts";
import type { EngineSettings, Step } from "./batch.ts";
import type { BlockListener } from "./blocks.ts";
import { Scheduler, type Plan } from "./scheduler.ts";
import {
  knownTokens,
  newSequence,
  type RemoteSource,
  type Sequence,
  type SequenceListener,
  type SequenceSpec,
} from "./sequence.ts";
import { transferMs } from "./timing.ts";

export interface PullRequest {
  readonly source: RemoteSource;
  readonly tokens: number;
  readonly digest: number;
  /** How long the transfer takes; the source keeps its blocks that long. */
  readonly transferMs: number;
}

/** `none`: nothing usable is pinned there, so the prompt is computed here; `failed`: it was waited for in vain. */
export type Pulled = "matched" | "none" | "failed";

/** The way to other engines. */
export interface RemoteKv {
  pull(request: PullRequest, done: (pulled: Pulled) => void): void;
  /** The blocks will never be pulled. */
  drop(source: RemoteSource): void;
}

/** What happens, for metrics. Times in milliseconds. */
export interface EngineMonitor {
  admitted(sequence: Sequence, queueMs: number): void;
  transferred(tokens: number, ms: number): void;
  firstToken(ms: number): void;
  nextToken(ms: number): void;
  preempted(count: number): void;
  finished(sequence: Sequence, ms: number): void;
  aborted(): void;
}

export interface EnginePorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly remote: RemoteKv;
  readonly monitor: EngineMonitor;
  /** Told of the content of the cache. */
  readonly blocks?: BlockListener;
}

export interface EngineLoad {
  readonly running: number;
  /** Waiting for blocks or a place in the batch; `deferred`: waiting for KV from another engine. */
  readonly waiting: number;
  readonly deferred: number;
  readonly usedBlocks: number;
  readonly capacityBlocks: number;
}

/** Timers are late by a millisecond or more; steps catch up by at most this, then the simulation runs slower. */
const MAX_LAG_MS = 50;
/** Steps caught up in one go, before other work of the process gets its turn. */
const STEPS_PER_TURN = 64;
/** Sums of floating point times are equal when they are this close. */
const EPSILON_MS = 1e-6;

export class EngineCore {
  readonly #settings: EngineSettings;
  readonly #ports: EnginePorts;
  readonly #scheduler: Scheduler;
  readonly #live = new Set<Sequence>();
  #step: Step | undefined;
  #cancelStep: Cancel = () => undefined;
  /** When the last step ended, in the time of the model. */
  #time = 0;

  constructor(settings: EngineSettings, ports: EnginePorts) {
    this.#settings = settings;
    this.#ports = ports;
    this.#scheduler = new Scheduler(settings, ports.blocks);
  }

  /** Takes a sequence; the result aborts it and frees its blocks at once. Throws where it could never fit. */
  submit(spec: SequenceSpec, listener: SequenceListener): Cancel {
    if (!this.#scheduler.fits(spec.promptTokens + spec.outputTokens))
      throw new RangeError(`sequence ${spec.id} is longer than the KV cache`);
    const sequence = newSequence(spec, listener, this.#ports.clock.monotonic());
    this.#live.add(sequence);
    const { requestMs } = this.#settings.profile;
    sequence.cancelTimer = this.#ports.timers.after(requestMs, () => {
      this.#scheduler.enqueue(sequence);
      this.#wake(sequence.arrivedAt + requestMs);
    });
    return () => this.#abort(sequence);
  }

  /** Gives back blocks that a finished sequence left to its listener. */
  free(blocks: readonly number[]): void {
    this.#scheduler.cache.release(blocks);
    this.#wake();
  }

  load(): EngineLoad {
    const { running, waiting, pulling, cache } = this.#scheduler;
    return { running, waiting, deferred: pulling, usedBlocks: cache.used, capacityBlocks: cache.capacity };
  }

  /** Forgets the prefix cache; false while any block is in use. */
  resetCache(): boolean {
    return this.#scheduler.cache.reset();
  }

  /** Aborts everything. */
  stop(): void {
    for (const sequence of [...this.#live]) this.#abort(sequence);
    this.#cancelStep();
  }

  /** Begins a step if none is under way, as if it were still `at`, the time for which its cause was due. */
  #wake(at = Infinity): void {
    if (this.#step !== undefined) return;
    const now = this.#ports.clock.monotonic();
    this.#time = Math.max(this.#time, Math.min(at, now), now - MAX_LAG_MS);
    this.#begin();
    this.#arm();
  }

  #begin(): void {
    const plan = this.#scheduler.plan(this.#time);
    this.#step = plan.step;
    this.#report(plan);
    for (const sequence of plan.pulls) this.#pull(sequence);
  }

  #report(plan: Plan): void {
    const now = this.#ports.clock.monotonic();
    for (const sequence of plan.admitted) this.#ports.monitor.admitted(sequence, now - sequence.arrivedAt);
    if (plan.preempted > 0) this.#ports.monitor.preempted(plan.preempted);
  }

  #arm(): void {
    this.#cancelStep();
    if (this.#step === undefined) return;
    const delay = Math.max(0, this.#step.endsAt - this.#ports.clock.monotonic());
    this.#cancelStep = this.#ports.timers.after(delay, () => this.#advance());
  }

  /** Ends every step that is due. A step stays in place while it is completed, so that nobody begins another. */
  #advance(): void {
    for (let count = 0; count < STEPS_PER_TURN && this.#step !== undefined; count += 1) {
      const now = this.#ports.clock.monotonic();
      if (this.#step.endsAt > now + EPSILON_MS) break;
      this.#time = Math.max(this.#step.endsAt, now - MAX_LAG_MS);
      this.#complete(this.#step);
      this.#begin();
    }
    this.#arm();
  }

  /** The prompt's KV comes from another engine while the batch goes on; what is cached here is not pulled. */
  #pull(sequence: Sequence): void {
    const { remote: source } = sequence;
    if (source === undefined) return;
    const { promptTokens, digest } = sequence.spec;
    const tokens = promptTokens - sequence.computed;
    const ms = transferMs(this.#settings.profile, tokens);
    this.#ports.remote.pull({ source, tokens: promptTokens, digest, transferMs: ms }, (pulled) => {
      if (sequence.phase !== "pulling") return;
      sequence.remote = undefined;
      if (pulled === "failed") this.#fail(sequence);
      else if (pulled === "matched")
        sequence.cancelTimer = this.#ports.timers.after(ms, () => this.#pulled(sequence, tokens, ms));
      else this.#computeHere(sequence);
    });
  }

  #fail(sequence: Sequence): void {
    this.#abort(sequence);
    sequence.listener.failed?.();
  }

  #computeHere(sequence: Sequence): void {
    this.#scheduler.restart(sequence);
    this.#wake();
  }

  #pulled(sequence: Sequence, tokens: number, ms: number): void {
    this.#ports.monitor.transferred(tokens, ms);
    this.#scheduler.pulled(sequence);
    sequence.cachedTokens = sequence.computed;
    sequence.prefill = "remote";
    this.#wake();
  }

  #complete(step: Step): void {
    for (const { sequence, tokens } of step.work) {
      if (sequence.phase !== "running") continue;
      sequence.computed += tokens;
      if (sequence.computed === knownTokens(sequence)) this.#emit(sequence);
    }
  }

  #emit(sequence: Sequence): void {
    const now = this.#ports.clock.monotonic();
    sequence.generated += 1;
    if (sequence.generated === 1) this.#ports.monitor.firstToken(now - sequence.arrivedAt);
    else this.#ports.monitor.nextToken(now - sequence.lastTokenAt);
    sequence.lastTokenAt = now;
    sequence.listener.token(sequence.generated);
    if (this.#live.has(sequence) && sequence.generated === sequence.spec.outputTokens) this.#finish(sequence, now);
  }

  #finish(sequence: Sequence, now: number): void {
    const covered = sequence.spec.keep ? this.#scheduler.coveredBlocks(sequence) : 0;
    const kept = this.#scheduler.remove(sequence, covered);
    this.#live.delete(sequence);
    this.#ports.monitor.finished(sequence, now - sequence.arrivedAt);
    const { prefill, cachedTokens = 0 } = sequence;
    sequence.listener.finished({ prefill, cachedTokens, kept });
  }

  #abort(sequence: Sequence): void {
    if (!this.#live.delete(sequence)) return;
    sequence.cancelTimer();
    if (sequence.remote !== undefined && sequence.phase !== "pulling") this.#ports.remote.drop(sequence.remote);
    this.#scheduler.remove(sequence);
    this.#ports.monitor.aborted();
    this.#wake();
  }
}
