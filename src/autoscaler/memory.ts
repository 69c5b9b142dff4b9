/** What one group was like until now: everything the decision core remembers, bounded, and nothing else. */
import { CapacityMemory } from "./capacity.ts";
import { Corrector } from "./corrector.ts";
import type { LatencyWindow } from "./latency.ts";
import type { Observation, WorkloadSeen } from "./group.ts";
import { PaceMemory } from "./pace.ts";
import type { RoleMemory } from "./role.ts";
import { TrafficMemory } from "./traffic.ts";
import type { ArrangementMemory } from "./variants.ts";
import type { Role } from "../kinds/endpoint.ts";

export interface WorkloadMemory {
  readonly capacity: CapacityMemory;
  readonly pace: PaceMemory;
  /** What was decided last, and what stood then; undefined before the first decision. */
  asked?: number;
  replicas?: number;
  /** Until when a number that somebody else set stands. */
  overriddenUntil?: number;
  /** Until when no more of it is asked for: there is no node. */
  exhaustedUntil?: number;
}

export interface GroupMemory {
  readonly traffic: TrafficMemory;
  readonly workloads: Map<string, WorkloadMemory>;
  readonly roles: Map<Role, RoleMemory>;
  readonly arrangements: Map<Role, ArrangementMemory>;
  readonly ttft: Corrector;
  readonly tpot: Corrector;
  /** When metrics were lost; undefined while there are some. */
  lostSince?: number | undefined;
  /** The first observation. */
  begunAt?: number;
}

export const createMemory = (): GroupMemory => ({
  traffic: new TrafficMemory(),
  workloads: new Map(),
  roles: new Map(),
  arrangements: new Map(),
  ttft: new Corrector(),
  tpot: new Corrector(),
});

export function workloadMemory(memory: GroupMemory, { id }: WorkloadSeen): WorkloadMemory {
  const known = memory.workloads.get(id) ?? { capacity: new CapacityMemory(), pace: new PaceMemory() };
  memory.workloads.set(id, known);
  return known;
}

/** Takes in what was observed; forgets workloads that are gone. */
export function remember(memory: GroupMemory, observation: Observation): void {
  const { at, workloads } = observation;
  memory.begunAt ??= at;
  memory.traffic.add(observation);
  const ids = new Set(workloads.map(({ id }) => id));
  for (const id of memory.workloads.keys()) if (!ids.has(id)) memory.workloads.delete(id);
  for (const workload of workloads) {
    const mine = workloadMemory(memory, workload);
    mine.capacity.learn(workload, observation);
    const { maxScaleIn, maxScaleOut } = workload.scaling;
    if (observation.instances.some(({ workload: id, state }) => id === workload.id && state === "unschedulable"))
      mine.exhaustedUntil = at + EXHAUSTED_MS;
    mine.pace.see(at, workload.replicas, Math.max(maxScaleIn.periodMs, maxScaleOut.periodMs));
  }
  learnFirstTokens(memory, observation);
  correct(memory, observation);
}

function correct(memory: GroupMemory, observation: Observation): void {
  const { at, scaling } = observation;
  const { ttft, tpot } = memory.traffic;
  const share = (window: LatencyWindow, promisedMs: number): number | undefined => {
    const ms = window.quantile(at - LATEST_MS, 0.9);
    return ms === undefined ? undefined : ms / promisedMs;
  };
  memory.ttft.see(at, share(ttft, scaling.ttftSloMs), isSettled(observation, "decode"));
  memory.tpot.see(at, share(tpot, scaling.tpotSloMs), isSettled(observation, "prefill"));
}

/** For two minutes all that the workloads of other roles than `but` ask for has served, and so what waited is gone. */
function isSettled({ at, workloads, instances }: Observation, but: Role): boolean {
  return workloads.every(({ id, role, replicas }) => {
    const serving = instances.filter(
      ({ workload, state, readyAt = at }) => workload === id && state === "ready" && at - readyAt >= SETTLED_MS,
    );
    return role === but || serving.length >= replicas;
  });
}

/** Where there was no node for one, none is asked for again for so long. */
const EXHAUSTED_MS = 300_000;
/** Latencies are judged over the last half minute. */
const LATEST_MS = 30_000;
const SETTLED_MS = 120_000;
const MINUTE_MS = 60_000;

function learnFirstTokens({ traffic, workloads: memories }: GroupMemory, { at, workloads }: Observation): void {
  const [only, ...others] = workloads.filter(({ role }) => role === "prefill");
  const tokens = traffic.rounds.sums(at - MINUTE_MS).sums;
  const meanMs = traffic.ttft.mean(at - MINUTE_MS);
  if (only === undefined || others.length > 0 || meanMs === undefined || tokens.requests === 0) return;
  memories.get(only.id)?.capacity.sawFirstTokens(at, tokens.promptTokens / tokens.requests, meanMs);
}
