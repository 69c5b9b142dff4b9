/** An engine core in virtual time, with everything that happens written down. */
import type { Test } from "tap";
import type { EngineSettings } from "../../../src/simulator/engine/batch.ts";
import { EngineCore, type EngineMonitor, type RemoteKv } from "../../../src/simulator/engine/engine.ts";
import { blockKeys, sequenceDigest } from "../../../src/simulator/engine/keys.ts";
import type { RemoteSource, SequenceEnd, SequenceSpec } from "../../../src/simulator/engine/sequence.ts";
import { H200_LLAMA_8B } from "../../../src/simulator/engine/timing.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

/** What became of one sequence; times in milliseconds of the rig. */
export interface Story {
  readonly submittedAt: number;
  readonly tokensAt: number[];
  end: SequenceEnd | undefined;
  abort(): void;
}

export interface Ask {
  readonly prompt: readonly number[];
  readonly output: number;
  readonly keep?: boolean;
  readonly remote?: RemoteSource;
}

export interface Rig {
  readonly time: VirtualTime;
  readonly core: EngineCore;
  /** Names of the monitor's calls, in order. */
  readonly log: string[];
  submit(ask: Ask): Story;
}

/** Nobody to pull from. */
export const NOBODY: RemoteKv = { pull: (_, done) => done("none"), drop: () => undefined };

export const SOURCE: RemoteSource = { engineId: "e", requestId: "r", host: "127.0.0.1", port: 1 };

/** `length` tokens, all different between different `first`. */
export const tokens = (first: number, length: number): number[] =>
  Array.from({ length }, (_, index) => first * 1_000_003 + index);

export function newRig(change: Partial<EngineSettings> = {}, remote: RemoteKv = NOBODY): Rig {
  const settings: EngineSettings = {
    profile: H200_LLAMA_8B,
    blockSize: 16,
    capacityBlocks: 50_000,
    maxSequences: 256,
    tokenBudget: 8192,
    ...change,
  };
  const time = new VirtualTime();
  const log: string[] = [];
  const core = new EngineCore(settings, { clock: time, timers: time, remote, monitor: logging(log) });
  let count = 0;
  const submit = (ask: Ask): Story => {
    count += 1;
    const spec: SequenceSpec = {
      id: String(count),
      promptTokens: ask.prompt.length,
      outputTokens: ask.output,
      keys: blockKeys([...ask.prompt, ...tokens(-count, ask.output)], settings.blockSize),
      digest: sequenceDigest(ask.prompt),
      leg: ask.keep === true ? "prefill" : "decode",
      finish: "length",
      keep: ask.keep ?? false,
      ...(ask.remote === undefined ? {} : { remote: ask.remote }),
    };
    const story: Story = { submittedAt: time.now(), tokensAt: [], end: undefined, abort: () => undefined };
    story.abort = core.submit(spec, {
      token: () => story.tokensAt.push(time.now()),
      finished: (end) => (story.end = end),
    });
    return story;
  };
  return { time, core, log, submit };
}

const logging = (log: string[]): EngineMonitor => ({
  admitted: ({ spec }) => void log.push(`admitted ${spec.id}`),
  transferred: (count) => void log.push(`transferred ${count}`),
  firstToken: () => undefined,
  nextToken: () => undefined,
  preempted: (count) => void log.push(`preempted ${count}`),
  finished: ({ spec, prefill }) => void log.push(`finished ${spec.id} ${prefill}`),
  aborted: () => void log.push("aborted"),
});

export const ttft = (story: Story): number => (story.tokensAt[0] ?? NaN) - story.submittedAt;

/** Time between the tokens at `from` and `from + 1`. */
export const gap = (story: Story, from: number): number =>
  (story.tokensAt[from + 1] ?? NaN) - (story.tokensAt[from] ?? NaN);

/** Asserts that two figures differ by at most a share of the expected one. */
export const near = (t: Test, what: string, [actual, expected]: readonly [number, number], share: number): void =>
  void t.ok(Math.abs(actual - expected) <= expected * share, `${what}: ${actual} against ${expected}`);
