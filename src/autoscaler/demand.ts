/**
 * Traffic and backlog -> how many instances of a reference workload a role needs: now (`fast`) and for good (`stable`).
 * Work is prompt or generated tokens; memory is resident KV. Nothing here knows what is running.
 *
 * Formulas: reference autoscaling.md 5.3. Backlog is divided by half the start-up time, never by the latency budget: new
 * instances come that late anyway, and what they would be asked to catch up is gone by then.
 */
import { usable, type Headroom } from "./objective.ts";
import { positive } from "./traffic.ts";
import { quantile, trendOf, type Field, type Slots } from "./windows.ts";

/** Tokens a second that come. */
export interface Flow {
  /** Over the stable window, and over the panic window. */
  readonly mean: number;
  readonly latest: number;
  /** What a rise that goes on adds by the time that a new instance is ready. */
  readonly forecast: number;
  /** The quantile of bursts that the objective keeps room for. */
  readonly burst: number;
  /** Standard deviation of the mean, as a share of it, and of the latest: what of a change is chance. */
  readonly noise: number;
  readonly latestNoise: number;
}

export interface FlowWindows {
  readonly at: number;
  readonly stableMs: number;
  readonly panicMs: number;
  readonly startupMs: number;
  readonly headroom: Headroom;
}

/** Four minutes make a trend; it counts where it explains more than this of their variance (chance does so once in 5000). */
const TREND_SLOTS = 16;
/** Of slow starts, a trend as long as what it is to foretell, and half as much again. */
const TREND_STARTUPS = 1.5;
const FIT = 0.6;
/** Of a rise that goes on, so much is believed; and never more than half of what comes now. */
const BELIEVED = 0.7;
const MOST_RISE = 0.5;
/** After a start an instance takes so long until work reaches it. */
const SETTLE_MS = 30_000;

const trendSlots = (startupMs: number, slotMs: number): number =>
  Math.max(TREND_SLOTS, Math.ceil((TREND_STARTUPS * startupMs) / slotMs));

/** Of one counter; undefined where nothing was heard in the stable window. */
export function flowOf(slots: Slots, rounds: Slots, field: Field, windows: FlowWindows): Flow | undefined {
  const { at, stableMs, panicMs, startupMs, headroom } = windows;
  const mean = rounds.rate(field, at - stableMs);
  if (mean === undefined) return undefined;
  const latest = rounds.rate(field, at - panicMs) ?? mean;
  const { slope, fit } = trendOf(slots.rates(field, trendSlots(startupMs, slots.slotMs)));
  const perMs = slope / slots.slotMs;
  const rise = fit > FIT && slope > 0 ? Math.min(perMs * (startupMs + SETTLE_MS) * BELIEVED, MOST_RISE * mean) : 0;
  const burst = headroom.burst > 0 ? (quantile(slots.rates(field), headroom.burst) ?? 0) : 0;
  const ofSlot = noiseOf(slots.rates(field));
  const over = (ms: number): number => ofSlot / Math.sqrt(Math.max(1, ms / slots.slotMs));
  return { mean, latest, forecast: rise, burst, noise: over(stableMs), latestNoise: over(panicMs) };
}

/**
 * Standard deviation of one slot as a share of the mean, by the median of the differences of neighbours: a load that rises
 * or falls slowly is not noise, nor is one that jumps now and then.
 */
function noiseOf(rates: readonly number[]): number {
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / Math.max(1, rates.length);
  if (rates.length < 4 || mean <= 0) return 0;
  const differences = rates.slice(1).map((rate, index) => Math.abs(rate - (rates[index] ?? 0)));
  return (quantile(differences, 0.5) ?? 0) / (MEDIAN_OF_NORMAL * Math.SQRT2) / mean;
}

/** Half of a normal distribution lies within so many standard deviations. */
const MEDIAN_OF_NORMAL = 0.6745;

export const backlogWindowMs = (startupMs: number): number => Math.min(60_000, Math.max(20_000, startupMs / 2));

/** Instances, not rounded. */
export interface Need {
  readonly stable: number;
  readonly fast: number;
}

/** The last moments where they differ from the mean by more than chance: else each gust would be followed. */
const latestOf = ({ mean, latest, latestNoise }: Flow, { gusts }: Headroom): number =>
  latest > mean * (1 + CHANCE * latestNoise) ? mean + gusts * (latest - mean) : Math.min(latest, mean);

/** Standard deviations. */
const CHANCE = 3;

export interface PrefillInput {
  readonly flow: Flow;
  readonly backlogTokens: number;
  /** Prompt tokens a second of one instance. */
  readonly rate: number;
  /** Reference instances that are asked for. */
  readonly asked: number;
  readonly startupMs: number;
  readonly headroom: Headroom;
  /** Of the latency corrector; at least 1. */
  readonly correction: number;
}

export function prefillNeed({ flow, backlogTokens, rate, asked, startupMs, headroom, correction }: PrefillInput): Need {
  const able = (usable(headroom.prefill, flow.latestNoise, headroom) * rate) / correction;
  // What those that are asked for work off before another one could begin needs no other one.
  const workedOff = Math.max(0, asked * rate - flow.mean) * (startupMs / 1000);
  const late = Math.max(0, backlogTokens - 0.5 * flow.latest - workedOff) / (backlogWindowMs(startupMs) / 1000);
  return {
    stable: Math.max((flow.mean + flow.forecast) / able, flow.burst / (headroom.inBurst * rate)),
    fast: (latestOf(flow, headroom) + late) / able,
  };
}

export interface DecodeInput {
  /** Requests a second. */
  readonly flow: Flow;
  readonly backlogRequests: number;
  readonly waiting: number;
  /** What the ready prefill instances hand over at most, requests a second; Infinity where there are none. */
  readonly handOver: number;
  readonly answerTokens: number;
  /** Generated tokens a second of one instance at its batch, and that batch. */
  readonly tokensPerSecond: number;
  readonly batch: number;
  /** Resident KV tokens and sequences of the role; tokens that one instance may hold. */
  readonly kvTokens: number;
  readonly kvPerInstance: number;
  readonly running: number;
  readonly startupMs: number;
  readonly headroom: Headroom;
  readonly correction: number;
}

export function decodeNeed(input: DecodeInput): Need {
  const { flow, answerTokens, tokensPerSecond, headroom, correction, handOver } = input;
  const windowS = backlogWindowMs(input.startupMs) / 1000;
  const able = (usable(headroom.decode, flow.latestNoise, headroom) * tokensPerSecond) / correction;
  const arrivals =
    Math.min(handOver, latestOf(flow, headroom) + input.backlogRequests / windowS) + input.waiting / windowS;
  return {
    stable: Math.max(
      ((flow.mean + flow.forecast) * answerTokens) / able,
      (flow.burst * answerTokens) / (headroom.inBurst * tokensPerSecond),
    ),
    fast: Math.max(
      (arrivals * answerTokens) / able,
      positive(input.kvTokens / input.kvPerInstance),
      positive((input.running * correction) / input.batch),
    ),
  };
}
