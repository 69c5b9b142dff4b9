/** Simulated engines over HTTP, which publish their KV events: what policies and the real router are pointed at. */
import { startEngine, type RunningEngine } from "../../../src/simulator/engine/server.ts";
import type { Signals } from "../../../src/simulator/routing/fleet.ts";
import type { FleetView } from "../../../src/simulator/routing/policy.ts";
import { TRACE_MODEL } from "../../../src/simulator/routing/scenes.ts";
import type { SimulatedRequest } from "../../../src/simulator/routing/workload.ts";
import { systemClock, systemRandom, systemTimers } from "../../../src/telemetry/process.ts";

export const MODEL = "m";

export interface LiveFleet {
  readonly engines: readonly RunningEngine[];
  readonly view: FleetView;
  stop(): Promise<void>;
}

const { profile, blockTokens: blockSize, maxSequences, tokenBudget } = TRACE_MODEL;
const NONE = { count: 0, sumMs: 0 };

/** Engines as in virtual time: the same model of a device, with blocks of the same size. */
export async function startLiveFleet(count: number): Promise<LiveFleet> {
  const options = { host: "127.0.0.1", port: 0, models: [MODEL], connector: "nixl", role: "both" } as const;
  const settings = { profile, blockSize, maxSequences, tokenBudget, events: { format: "vllm-map" } } as const;
  const ports = { clock: systemClock, timers: systemTimers, random: systemRandom };
  const engines: RunningEngine[] = [];
  for (let number = 0; number < count; number++) engines.push(await startEngine({ ...options, ...settings }, ports));
  const stop = async (): Promise<void> => {
    await Promise.all(engines.map((engine) => engine.stop()));
  };
  return { engines, view: viewOf(engines), stop };
}

/** What published policies see; nobody tells them of blocks, which is for policies by events. */
function viewOf(engines: readonly RunningEngine[]): FleetView {
  const numbers = engines.map((_, number) => number);
  return {
    engines: numbers.map((number) => ({ number })),
    model: { blockTokens: blockSize },
    ...{ decoders: numbers, prefillers: [], listen: () => undefined },
    capacityTokens: Math.floor(profile.capacityTokens / blockSize) * blockSize,
    signals: (number): Signals => {
      const facts = engines[number]?.facts();
      if (facts === undefined) throw new RangeError(`no engine ${number}`);
      const { running, waiting, deferred, usedBlocks, capacityBlocks } = facts;
      return { running, waiting, deferred, usedBlocks, capacityBlocks, firstTokens: NONE, nextTokens: NONE };
    },
  };
}

/** Words of one token each: no two blocks are alike, and equal blocks are equal text. */
export function promptOf({ blocks, promptTokens }: SimulatedRequest): string {
  const words = Array.from({ length: promptTokens }, (_, index) =>
    wordOf((blocks[Math.floor(index / blockSize)] ?? 0) * blockSize + (index % blockSize)),
  );
  return ` ${words.join(" ")}`;
}

/** Six letters: 26^6 words, more than the blocks of the trace have tokens. */
function wordOf(number: number): string {
  let word = "";
  for (let rest = number, left = 6; left > 0; left--) {
    word += String.fromCharCode(97 + (rest % 26));
    rest = Math.floor(rest / 26);
  }
  return word;
}
