/**
 * Engines in virtual time, of roles, with KV transfer between them: what policies send work to and learn signals from.
 *
 * A prefill leg keeps the blocks of its prompt until the decode leg has pulled them. Signals are what the engines'
 * metrics would say, as old as the reader makes them.
 */
import type { Role } from "../../kinds/endpoint.ts";
import { EngineCore, type EngineLoad, type EngineMonitor, type PullRequest, type RemoteKv } from "../engine/engine.ts";
import type { BlockListener } from "../engine/blocks.ts";
import type { RemoteSource, SequenceEnd } from "../engine/sequence.ts";
import type { TimingProfile } from "../engine/timing.ts";
import type { VirtualTime } from "../engine/virtual-time.ts";
import type { SimulatedRequest } from "./workload.ts";

export interface Topology {
  /** Engines of role both. */
  readonly both: number;
  readonly prefill: number;
  readonly decode: number;
}

export interface EngineModel {
  readonly profile: TimingProfile;
  /** Tokens of a KV block. */
  readonly blockTokens: number;
  readonly maxSequences: number;
  readonly tokenBudget: number;
}

/** What an engine's metrics say, since its start. */
export interface Signals extends EngineLoad {
  readonly firstTokens: { readonly count: number; readonly sumMs: number };
  readonly nextTokens: { readonly count: number; readonly sumMs: number };
}

export interface Engine {
  readonly number: number;
  readonly role: Role;
  readonly core: EngineCore;
  /** Told of what its cache holds. */
  readonly listeners: BlockListener[];
  readonly counts: { firstCount: number; firstMs: number; nextCount: number; nextMs: number };
}

/** Told of the answer of a request. */
export interface AnswerListener {
  firstToken(): void;
  finished(end: SequenceEnd): void;
}

export class Fleet {
  readonly engines: readonly Engine[];
  readonly model: EngineModel;
  readonly #time: VirtualTime;
  readonly #touched: () => void;
  /** Blocks kept for a decode leg, by the leg that computed them. */
  readonly #kept = new Map<string, { readonly engine: number; readonly blocks: readonly number[] }>();
  #legs = 0;

  /** @param touched called where somebody outside is told of a leg */
  constructor(topology: Topology, model: EngineModel, time: VirtualTime, touched: () => void) {
    this.model = model;
    this.#time = time;
    this.#touched = touched;
    const roles = (["prefill", "decode", "both"] as const).flatMap((role) =>
      Array.from({ length: topology[role] }, () => role),
    );
    this.engines = roles.map((role, number) => this.#engine(role, number));
  }

  get capacityTokens(): number {
    return capacityTokens(this.model);
  }

  /** Numbers of the engines that answer clients. */
  get decoders(): readonly number[] {
    return this.engines.filter(({ role }) => role !== "prefill").map(({ number }) => number);
  }

  get prefillers(): readonly number[] {
    return this.engines.filter(({ role }) => role === "prefill").map(({ number }) => number);
  }

  signals(number: number): Signals {
    const { core, counts } = this.#of(number);
    const load = core.load();
    return {
      ...load,
      // As `vllm:num_requests_waiting` has it: those that wait for KV are among them.
      waiting: load.waiting + load.deferred,
      firstTokens: { count: counts.firstCount, sumMs: counts.firstMs },
      nextTokens: { count: counts.nextCount, sumMs: counts.nextMs },
    };
  }

  /** The listener is told from now on of blocks that the engine can hit, and of those evicted. */
  listen(number: number, listener: BlockListener): void {
    this.#of(number).listeners.push(listener);
  }

  /** The decode leg, or the whole request. */
  answer(number: number, request: SimulatedRequest, listener: AnswerListener, source?: RemoteSource): void {
    const spec = { ...this.#spec(request), outputTokens: request.outputTokens, leg: "decode", keep: false } as const;
    this.#of(number).core.submit(source === undefined ? spec : { ...spec, remote: source }, {
      token: (count) => {
        if (count === 1) listener.firstToken();
      },
      finished: (end) => listener.finished(end),
    });
  }

  /** Prompt tokens that were cached, and where the decode leg finds the others. */
  prefill(number: number, request: SimulatedRequest, done: (source: RemoteSource, cachedTokens: number) => void): void {
    const requestId = `leg-${this.#legs++}`;
    const spec = { ...this.#spec(request), outputTokens: 1, leg: "prefill", keep: true } as const;
    this.#of(number).core.submit(spec, {
      token: () => undefined,
      finished: ({ kept, cachedTokens }) => {
        this.#touched();
        this.#kept.set(requestId, { engine: number, blocks: kept });
        done({ engineId: String(number), requestId, host: "127.0.0.1", port: number + 1 }, cachedTokens);
      },
    });
  }

  #spec({ blocks, promptTokens }: SimulatedRequest): {
    id: string;
    promptTokens: number;
    keys: readonly number[];
    digest: number;
    finish: "stop";
  } {
    // A block that is begun only is no cached block, whatever the answer fills it with.
    const keys = blocks.slice(0, Math.floor(promptTokens / this.model.blockTokens));
    return { id: "", promptTokens, keys, digest: 0, finish: "stop" };
  }

  #of(number: number): Engine {
    const engine = this.engines[number];
    if (engine === undefined) throw new RangeError(`no engine ${number}`);
    return engine;
  }

  #engine(role: Role, number: number): Engine {
    const { blockTokens: blockSize, ...rest } = this.model;
    const counts = { firstCount: 0, firstMs: 0, nextCount: 0, nextMs: 0 };
    const settings = { ...rest, blockSize, capacityBlocks: capacityBlocks(this.model) };
    const listeners: BlockListener[] = [];
    const blocks: BlockListener = {
      stored: (key) => listeners.forEach((each) => each.stored(key)),
      removed: (key) => listeners.forEach((each) => each.removed(key)),
    };
    const time = { clock: this.#time, timers: this.#time };
    const core = new EngineCore(settings, { ...time, remote: this.#remote(), monitor: monitorOf(counts), blocks });
    return { number, role, core, listeners, counts };
  }

  #remote(): RemoteKv {
    return {
      pull: ({ source, transferMs }: PullRequest, done) => {
        const known = this.#kept.has(source.requestId);
        if (known) this.#time.after(transferMs, () => this.#free(source));
        done(known ? "matched" : "none");
      },
      drop: (source) => this.#free(source),
    };
  }

  #free({ requestId }: RemoteSource): void {
    const kept = this.#kept.get(requestId);
    this.#kept.delete(requestId);
    if (kept !== undefined) this.#of(kept.engine).core.free(kept.blocks);
  }
}

const capacityBlocks = ({ profile, blockTokens }: EngineModel): number =>
  Math.floor(profile.capacityTokens / blockTokens);

/** What the KV cache of an engine holds, in whole blocks. */
export const capacityTokens = (model: EngineModel): number => capacityBlocks(model) * model.blockTokens;

function monitorOf(counts: Engine["counts"]): EngineMonitor {
  const nothing = (): void => undefined;
  return {
    ...{ admitted: nothing, transferred: nothing, preempted: nothing, finished: nothing, aborted: nothing },
    firstToken: (ms) => {
      counts.firstCount += 1;
      counts.firstMs += ms;
    },
    nextToken: (ms) => {
      counts.nextCount += 1;
      counts.nextMs += ms;
    },
  };
}
