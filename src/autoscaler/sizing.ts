/**
 * One role of a group: its traffic, its backlog and what its instances can do -> instances of its reference workload, the
 * first by name of those that serve. Where too little is known it says so, and sizes by what waits (bootstrap).
 */
import type { Role } from "../kinds/endpoint.ts";
import { quantity, whole } from "./words.ts";
import { kept, warned, type Verdict } from "../kinds/verdict.ts";
import type { Capacity } from "./capacity.ts";
import { decodeNeed, flowOf, prefillNeed, type DecodeInput, type Flow, type FlowWindows, type Need } from "./demand.ts";
import type { InstanceSeen, Observation, RoleFigures, WorkloadSeen } from "./group.ts";
import { workloadMemory, type GroupMemory } from "./memory.ts";
import { HEADROOM, usable } from "./objective.ts";
import { backlogOf, FRESH_MS, positive } from "./traffic.ts";
import type { DecodeLimit } from "./step-times.ts";

export interface Sizing {
  readonly role: Role;
  /** Undefined: there is no evidence to size by. */
  readonly need: Need | undefined;
  readonly noise: number;
  /** With fewer instances those that remain would be too full of what runs now. */
  readonly safe: number;
  /** Of what the ready instances can hold at once (decode), and of their time (prefill). */
  readonly fullness: number;
  readonly busy: number;
  /** By what waits, since capacities are not known yet. */
  readonly isBootstrap: boolean;
  readonly figures: Omit<RoleFigures, "isPanicking">;
  readonly verdict: Verdict;
  /** What an instance of each workload does against the reference one. */
  readonly speed: ReadonlyMap<string, number>;
}

export interface RoleParts {
  readonly role: Role;
  readonly observation: Observation;
  readonly memory: GroupMemory;
  readonly workloads: readonly WorkloadSeen[];
  readonly instances: readonly InstanceSeen[];
}

export const partsOf = (memory: GroupMemory, observation: Observation, role: Role): RoleParts => {
  const workloads = observation.workloads.filter((workload) => workload.role === role);
  const ids = new Set(workloads.map(({ id }) => id));
  return {
    role,
    observation,
    memory,
    workloads,
    instances: observation.instances.filter(({ workload }) => ids.has(workload)),
  };
};

/** What both directions of sizing share. */
interface Basis {
  readonly parts: RoleParts;
  readonly capacity: Capacity;
  readonly windows: FlowWindows;
  readonly reference: WorkloadSeen;
}

export function sizeRole(parts: RoleParts): Sizing {
  const basis = basisOf(parts);
  if (parts.role === "prefill") return prefillSizing(basis);
  if (parts.role === "decode") return decodeSizing(basis);
  return bothSizing(basis);
}

function basisOf(parts: RoleParts): Basis {
  const { observation, memory, workloads, instances } = parts;
  const ready = (id: string): number =>
    instances.filter(({ workload, state }) => workload === id && state === "ready").length;
  const [reference] = [...workloads].sort(
    (a, b) => Math.sign(ready(b.id)) - Math.sign(ready(a.id)) || (a.id < b.id ? -1 : 1),
  );
  if (reference === undefined) throw new Error(`no workload of role ${parts.role}`);
  const capacity = workloadMemory(memory, reference).capacity.of(reference);
  const { stableWindowMs, panicWindowMs } = reference.scaling;
  const headroom = HEADROOM[observation.scaling.objective];
  const times = { at: observation.at, stableMs: stableWindowMs, panicMs: panicWindowMs, startupMs: capacity.startupMs };
  return { parts, capacity, windows: { ...times, headroom }, reference };
}

const NO_FLOW: Flow = { mean: 0, latest: 0, forecast: 0, burst: 0, noise: 0, latestNoise: 0 };

function prefillSizing(basis: Basis): Sizing {
  const { parts, capacity, windows } = basis;
  const { traffic } = parts.memory;
  const flow = flowOf(traffic.slots, traffic.rounds, "promptTokens", windows);
  const backlog = backlogOf(parts.observation);
  const rate = capacity.promptRate;
  if (flow === undefined) return unknown(basis, "nothing was heard of prompts");
  if (rate === undefined) return bootstrap(basis, flow, Math.ceil((waitingOn(parts) + backlog.held) / 2));
  const { startupMs } = capacity;
  const { headroom } = windows;
  const correction = parts.memory.ttft.factor;
  const asked = askedOf(parts, variantsOf(basis).speed);
  const need = prefillNeed({ flow, rate, asked, backlogTokens: backlog.tokens, startupMs, headroom, correction });
  const figures = figuresOf(basis, flow, { demand: flow.mean, capacity: rate, backlogSeconds: backlog.tokens / rate });
  const message = `${quantity(flow.mean)} uncached prompt tokens/s ${more(flow)}/ (${usable(headroom.prefill, flow.latestNoise, headroom).toFixed(2)}${corrected(parts.memory.ttft.factor)} x ${quantity(rate)}) = ${whole(need.stable)}, by the last moments ${whole(need.fast)}`;
  const busy = flow.latest / (rate * Math.max(1, readyOf(parts)));
  return sized(basis, { need, noise: flow.noise, figures, message, busy });
}

function decodeSizing(basis: Basis): Sizing {
  const { parts, windows, capacity } = basis;
  const { traffic } = parts.memory;
  const flow = flowOf(traffic.slots, traffic.rounds, "requests", windows);
  if (flow === undefined) return unknown(basis, "nothing was heard of requests");
  const limit = limitOf(basis);
  if (limit === undefined)
    return bootstrap(basis, flow, Math.ceil(sumOf(parts, ({ kvUsage }) => kvUsage) / BOOTSTRAP_KV));
  const { tokensPerSecond, batch } = limit;
  const answerTokens = traffic.lengths.answer;
  const held = resident(basis);
  const need = decodeNeed({
    ...{ flow, answerTokens, tokensPerSecond, batch, headroom: windows.headroom, startupMs: capacity.startupMs },
    ...held,
    ...{
      backlogRequests: backlogOf(parts.observation).requests,
      handOver: handOverOf(basis),
      correction: parts.memory.tpot.factor,
    },
  });
  const demand = flow.mean * answerTokens;
  const figures = figuresOf(basis, flow, { demand, capacity: tokensPerSecond, backlogSeconds: 0 });
  const message = `${quantity(demand)} generated tokens/s ${more(flow)}/ (${usable(windows.headroom.decode, flow.latestNoise, windows.headroom).toFixed(2)}${corrected(parts.memory.tpot.factor)} x ${quantity(tokensPerSecond)}) = ${whole(need.stable)}, by the last moments ${whole(need.fast)}`;
  const fullness = Math.max(held.kvTokens / held.kvPerInstance, held.running / batch) / Math.max(1, readyOf(parts));
  const safe = held.running / Math.max(1, limitOf(basis, SAFE_TPOT)?.batch ?? batch);
  return sized(basis, { need, noise: flow.noise, figures, message, fullness, safe });
}

/** Reference instances that are asked for. */
export const askedOf = ({ workloads }: RoleParts, speed: Sizing["speed"]): number =>
  workloads.reduce((sum, { id, replicas }) => sum + (speed.get(id) ?? 1) * replicas, 0);

/** And those of them that serve. */
export const servingOf = ({ instances }: RoleParts, speed: Sizing["speed"]): number =>
  instances.reduce((sum, { workload, state }) => sum + (state === "ready" ? (speed.get(workload) ?? 1) : 0), 0);

const readyOf = ({ instances }: RoleParts): number => instances.filter(({ state }) => state === "ready").length;

/** One instance does both in turn: the shares of its time add up. */
function bothSizing(basis: Basis): Sizing {
  const [prefill, decode] = [prefillSizing(basis), decodeSizing(basis)];
  if (prefill.need === undefined || decode.need === undefined) return prefill.need === undefined ? prefill : decode;
  if (prefill.isBootstrap || decode.isBootstrap) {
    const most = {
      stable: Math.max(prefill.need.stable, decode.need.stable),
      fast: Math.max(prefill.need.fast, decode.need.fast),
    };
    return { ...(prefill.isBootstrap ? prefill : decode), need: most };
  }
  const need = { stable: prefill.need.stable + decode.need.stable, fast: prefill.need.fast + decode.need.fast };
  const message = `${prefill.verdict.message}; and ${decode.verdict.message}; together ${whole(need.stable)}`;
  return { ...decode, need, noise: Math.max(prefill.noise, decode.noise), verdict: { ...decode.verdict, message } };
}

/** Full by this share of the cache before anything else is known of decode (reference 5.2). */
const BOOTSTRAP_KV = 0.55;
/** Growth by what waits, before a capacity is known: at most to so much of what is asked for (and by the pace, in a minute). */
const BOOTSTRAP_SHARE = 1.25;

type Resident = Pick<DecodeInput, "kvTokens" | "kvPerInstance" | "running" | "waiting">;

/** Resident KV and batches, with what one instance may hold. */
function resident({ parts, capacity, reference }: Basis): Resident {
  const kvTokens = sumOf(parts, ({ kvUsage, kvCapacityTokens }) => kvUsage * positive(kvCapacityTokens));
  const kvPerInstance = reference.scaling.kvTarget * (capacity.kvTokens ?? Infinity);
  return {
    kvTokens,
    kvPerInstance,
    running: sumOf(parts, ({ running }) => running),
    waiting: waitingOn(parts),
  };
}

/** Of the reference workload: declared, or by its step times. */
function limitOf({ parts, capacity, reference }: Basis, share = NEAR_TPOT): DecodeLimit | undefined {
  const { prompt, answer } = parts.memory.traffic.lengths;
  if (answer <= 0) return undefined;
  const context = Math.max(1, contextOf(parts) ?? prompt + answer / 2);
  const byMemory = (reference.scaling.kvTarget * (capacity.kvTokens ?? Infinity)) / context;
  const most = Math.min(capacity.maxSequences, byMemory);
  const declared = parts.role === "decode" ? reference.scaling.capacityTokensPerSecond : undefined;
  if (declared !== undefined) return { tokensPerSecond: declared, batch: most };
  const { tpotSloMs } = parts.observation.scaling;
  return capacity.steps.knows(tpotSloMs) ? capacity.steps.limit(share * tpotSloMs, most) : undefined;
}

/** Of the promised time between tokens, the share that a full batch takes. */
const NEAR_TPOT = 0.9;
/** And that of those that remain after a scale-in. */
const SAFE_TPOT = 0.85;

/** Resident tokens of a sequence, as engines say; prompts of which parts were cached are longer than what was computed. */
function contextOf(parts: RoleParts): number | undefined {
  const running = sumOf(parts, (engine) => engine.running);
  const kv = sumOf(parts, ({ kvUsage, kvCapacityTokens }) => kvUsage * positive(kvCapacityTokens));
  return running >= 1 && kv > 0 ? kv / running : undefined;
}

/** Requests a second that the ready prefill instances can hand over. */
function handOverOf({ parts }: Basis): number {
  const { memory, observation } = parts;
  if (parts.role === "both") return Infinity;
  const prefill = partsOf(memory, observation, "prefill");
  const prompt = memory.traffic.lengths.prompt;
  if (prefill.workloads.length === 0 || prompt <= 0) return Infinity;
  return prefill.workloads.reduce((sum, workload) => {
    const rate = workloadMemory(memory, workload).capacity.of(workload).promptRate ?? Infinity;
    const ready = prefill.instances.filter(({ workload: id, state }) => id === workload.id && state === "ready").length;
    return sum + (ready === 0 ? 0 : (ready * rate) / prompt);
  }, 0);
}

/** Of fresh engines that serve; a pod that does not tell counts as the mean of those that do. */
function sumOf(
  { instances, observation }: RoleParts,
  of: (engine: NonNullable<InstanceSeen["engine"]>) => number,
): number {
  const serving = instances.filter(({ state }) => state === "ready" || state === "draining");
  const told = serving.flatMap(({ engine }) =>
    engine !== undefined && observation.at - engine.at <= FRESH_MS ? [positive(of(engine))] : [],
  );
  if (told.length === 0) return 0;
  return (told.reduce((sum, value) => sum + value, 0) * serving.length) / told.length;
}

const waitingOn = (parts: RoleParts): number => sumOf(parts, ({ waiting }) => waiting);

type Sized = Pick<Sizing, "need" | "noise" | "figures"> & Partial<Pick<Sizing, "safe" | "fullness" | "busy">>;

const LIMITLESS = { safe: 0, fullness: 0, busy: 0 };

function sized(basis: Basis, { message, ...rest }: Sized & { readonly message: string }): Sizing {
  return {
    role: basis.parts.role,
    ...LIMITLESS,
    ...rest,
    isBootstrap: false,
    verdict: kept("ReplicasSized", message),
    ...variantsOf(basis),
  };
}

function bootstrap(basis: Basis, flow: Flow, byWaiting: number): Sizing {
  const asked = basis.parts.workloads.reduce((sum, { replicas }) => sum + replicas, 0);
  const most = Math.max(asked + 1, BOOTSTRAP_SHARE * asked);
  const message = `capacity is not known yet: by what waits ${byWaiting}; declare autoscaling.tandem.sh/capacity-tokens-per-second, or wait for load`;
  const need = { stable: Math.min(byWaiting, most), fast: 0 };
  const figures = figuresOf(basis, flow, { demand: flow.mean, capacity: 0, backlogSeconds: 0 });
  return {
    role: basis.parts.role,
    ...LIMITLESS,
    need,
    noise: 0,
    isBootstrap: true,
    figures,
    verdict: kept("CapacityUnknown", message),
    ...variantsOf(basis),
  };
}

function unknown(basis: Basis, message: string): Sizing {
  const figures = figuresOf(basis, NO_FLOW, { demand: 0, capacity: 0, backlogSeconds: 0 });
  const verdict = warned("MetricsLost", message);
  return {
    role: basis.parts.role,
    ...LIMITLESS,
    need: undefined,
    noise: 0,
    isBootstrap: false,
    figures,
    verdict,
    ...variantsOf(basis),
  };
}

const figuresOf = (
  { parts }: Basis,
  { forecast, burst }: Flow,
  rest: Pick<RoleFigures, "demand" | "capacity" | "backlogSeconds">,
): Sizing["figures"] => ({ role: parts.role, forecast, burst, ...rest });

/** Of the others against the reference: where nothing was measured, as fast as that. */
function variantsOf({ parts, capacity, reference }: Basis): Pick<Sizing, "speed"> {
  const { memory, workloads, role } = parts;
  const speed = new Map<string, number>();
  for (const workload of workloads) {
    const other = workload === reference ? capacity : workloadMemory(memory, workload).capacity.of(workload);
    const work = role === "decode" ? decodeSpeed(capacity, other, parts) : ratio(other.promptRate, capacity.promptRate);
    // Decode is as much a matter of memory: the scarcer of both counts.
    speed.set(workload.id, role === "decode" ? Math.min(work, ratio(other.kvTokens, capacity.kvTokens)) : work);
  }
  return { speed };
}

function decodeSpeed(reference: Capacity, other: Capacity, { observation }: RoleParts): number {
  const { tpotSloMs } = observation.scaling;
  if (reference === other || !reference.steps.knows(tpotSloMs) || !other.steps.knows(tpotSloMs)) return 1;
  const [a, b] = [other, reference].map(
    ({ steps, maxSequences }) => steps.limit(NEAR_TPOT * tpotSloMs, maxSequences).tokensPerSecond,
  );
  return ratio(a, b);
}

const ratio = (a: number | undefined, b: number | undefined): number =>
  a === undefined || b === undefined || b <= 0 || a <= 0 ? 1 : a / b;

const more = ({ forecast, burst }: Flow): string =>
  `${forecast > 0 ? `+ ${quantity(forecast)} of its rise ` : ""}${burst > 0 ? `(bursts of ${quantity(burst)}) ` : ""}`;
const corrected = (factor: number): string => (factor > 1.005 ? ` / ${factor.toFixed(2)} corrected` : "");
