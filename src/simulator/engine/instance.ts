/** One engine in memory: its settings with their defaults, and its parts wired together. No connection yet. */
import type { Clock, Random, Timers } from "../../ports.ts";
import type { EngineSettings } from "./batch.ts";
import { Arrivals } from "./arrivals.ts";
import { HttpRemoteKv } from "./client.ts";
import { EngineCore } from "./engine.ts";
import { EventLog, type EventFormat } from "./events.ts";
import { newCounts, type EngineCounts, type EngineFacts, type TransferFailure } from "./facts.ts";
import { EngineMetrics } from "./metrics.ts";
import type { Serving } from "./serving.ts";
import { H200_LLAMA_8B, speedUp, type TimingProfile } from "./timing.ts";
import { Pins, type PairConnector } from "./transfer.ts";

export interface EngineOptions {
  /** An address of this machine, as `127.64.0.5`. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Names that requests may use; the first is the one of the metrics and of requests that name none. */
  readonly models: readonly string[];
  readonly connector: PairConnector;
  /** `both` by default. Only told in the metrics: as in vLLM, what a request gets is up to its parameters. */
  readonly role?: "prefill" | "decode" | "both";
  /** A new one for each start by default, so that a restarted engine knows nothing of its former pins. */
  readonly engineId?: string;
  /** Tokens of a block: 16 (default) as vLLM, 128 as vLLM-Ascend. */
  readonly blockSize?: number;
  /** Blocks of the KV cache; by default what the profile's device holds. */
  readonly capacityBlocks?: number;
  /** Blocks that the metrics tell; the true number by default. */
  readonly toldBlocks?: number;
  /** Prefix caching; true by default. Without it no lookups are counted, as in vLLM. */
  readonly caching?: boolean;
  /** Answers say how many prompt tokens were cached; true by default. vLLM: `--enable-prompt-tokens-details`. */
  readonly cacheReport?: boolean;
  /** H200 with Llama-3.1-8B by default. */
  readonly profile?: TimingProfile;
  /** 10 runs ten times faster than real time; 1 by default. Leases are not sped up. */
  readonly timeScale?: number;
  /** How long a finished prefill leg keeps its blocks; 30,000 by default, as vLLM. */
  readonly leaseMs?: number;
  /** How long KV is waited for that may still be computed; then the request fails. 300,000 by default, as SGLang. */
  readonly waitMs?: number;
  /** Port of the bootstrap server, where the connector has one: 8998 in the field; 0, the default, takes any. */
  readonly bootstrapPort?: number;
  /** Data-parallel ranks behind the one API server; 1 by default. */
  readonly ranks?: number;
  /** Longest prompt and answer together: 131,072 by default, and never more than the KV cache holds. */
  readonly maxModelLen?: number;
  /** Sequences and tokens of a step at most; 256 and 8,192 by default. */
  readonly maxSequences?: number;
  readonly tokenBudget?: number;
  readonly tensorParallel?: number;
  /** Mean length of an answer that nothing cuts short, tokens; 128 by default. */
  readonly meanOutputTokens?: number;
  /** None by default, as vLLM. */
  readonly events?: EventOptions;
}

/** KV events, as an engine publishes them; ports of 0 take any that is free. */
export interface EventOptions {
  readonly format: EventFormat;
  readonly port?: number;
  readonly replayPort?: number;
  /** Batches that are kept for those who ask again; 10,000 by default. */
  readonly keeps?: number;
}

export interface HostPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
}

export type InstanceSettings = Required<Omit<EngineOptions, "events">> & Pick<EngineOptions, "events">;

export interface EngineInstance {
  readonly settings: InstanceSettings;
  readonly core: EngineCore;
  readonly pins: Pins;
  readonly arrivals: Arrivals;
  readonly metrics: EngineMetrics;
  readonly counts: EngineCounts;
  readonly remote: HttpRemoteKv;
  readonly serving: Serving;
  /** There where events are published. */
  readonly events: EventLog | undefined;
  readonly facts: () => EngineFacts;
}

function complete(options: EngineOptions, random: Random): InstanceSettings {
  const profile = options.profile ?? H200_LLAMA_8B;
  const blockSize = options.blockSize ?? 16;
  const capacityBlocks = options.capacityBlocks ?? Math.floor(profile.capacityTokens / blockSize);
  return {
    role: "both",
    engineId: random.id(),
    timeScale: 1,
    leaseMs: 30_000,
    waitMs: 300_000,
    bootstrapPort: 0,
    ranks: 1,
    maxSequences: 256,
    tokenBudget: 8192,
    tensorParallel: 1,
    meanOutputTokens: 128,
    caching: true,
    cacheReport: true,
    toldBlocks: capacityBlocks,
    ...options,
    profile,
    blockSize,
    capacityBlocks,
    maxModelLen: Math.min(options.maxModelLen ?? 131_072, capacityBlocks * blockSize),
  };
}

/** @param port where other engines will reach this one, once it listens */
export function newInstance(options: EngineOptions, ports: HostPorts, port: () => number): EngineInstance {
  const settings = complete(options, ports.random);
  const counts = newCounts();
  const arrivals = new Arrivals();
  const failed = (why: TransferFailure): void => void (counts.transferFailures[why] += 1);
  const remote = new HttpRemoteKv({ ...ports, arrivals, waitMs: settings.waitMs, failed });
  const sped: EngineSettings = { ...settings, profile: speedUp(settings.profile, settings.timeScale) };
  const metrics = newMetrics(settings, counts, () => facts());
  const events = eventLog(settings, ports);
  const core = new EngineCore(sped, { ...ports, remote, monitor: metrics, ...(events ? { blocks: events } : {}) });
  const pins = new Pins(ports.timers, settings.leaseMs, (blocks) => core.free(blocks), counts);
  const facts = (): EngineFacts => snapshot(counts, core, pins);
  const address = (): { host: string; port: number } => ({ host: settings.host, port: port() });
  const told = events === undefined ? {} : { events };
  const serving: Serving = { ...ports, core, pins, remote, settings: { ...settings, address }, ...told };
  return { settings, core, pins, arrivals, metrics, counts, remote, serving, events, facts };
}

function eventLog({ events, blockSize }: InstanceSettings, { random }: HostPorts): EventLog | undefined {
  if (events === undefined) return undefined;
  const seed = BigInt(Math.floor(random.next() * 2 ** 52));
  return new EventLog({ blockSize, keeps: 10_000, ...events, seed });
}

const newMetrics = (settings: InstanceSettings, counts: EngineCounts, facts: () => EngineFacts): EngineMetrics =>
  new EngineMetrics(
    {
      ...settings,
      capacityBlocks: settings.toldBlocks,
      model: settings.models[0] ?? "",
      kvBytesPerToken: settings.profile.kvBytesPerToken,
    },
    counts,
    facts,
  );

function snapshot(counts: EngineCounts, core: EngineCore, pins: Pins): EngineFacts {
  const { waiting, deferred, ...load } = core.load();
  const { finished, transferFailures } = counts;
  return {
    ...counts,
    finished: { ...finished },
    transferFailures: { ...transferFailures },
    ...load,
    waiting: waiting + deferred,
    deferred,
    pinnedRequests: pins.size,
  };
}
