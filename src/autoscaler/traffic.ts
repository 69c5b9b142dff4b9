/** What comes to a group: routers' counters where there are any, engines' where there are none, and how much of it is fresh. */
import type { EngineSeen, InstanceSeen, Observation, RouterSeen } from "./group.ts";
import { differenceOf, LatencyWindow } from "./latency.ts";
import { grown, growth, lastCount, mapFields, NOTHING, Slots, type Arrivals } from "./windows.ts";

/** A word older than this says nothing of now; three rounds of five seconds. */
export const FRESH_MS = 15_000;
/** Forecasts look at eight slots, bursts at half an hour of them. */
const SLOT_MS = 15_000;
const SLOTS = 120;
/** The last minute in single rounds. */
const ROUND_MS = 1000;
const ROUNDS = 180;
/** Lengths of prompts and answers change slowly: they are taken over so long. */
const LENGTHS_MS = 300_000;

/** `routers`: exact and early. `engines`: late, and without what waits at a router. `partial`: some routers are silent. */
export type Source = "routers" | "partial" | "engines" | "none";

type EngineCounts = Pick<Arrivals, "promptTokens" | "generatedTokens">;

export class TrafficMemory {
  readonly slots = new Slots(SLOT_MS, SLOTS);
  readonly rounds = new Slots(ROUND_MS, ROUNDS);
  readonly #told = new Slots(SLOT_MS, LENGTHS_MS / SLOT_MS);
  readonly ttft = new LatencyWindow();
  readonly tpot = new LatencyWindow();
  readonly #routers = new Map<string, RouterSeen>();
  readonly #engines = new Map<string, EngineSeen>();
  #lengths = { prompt: 0, answer: 0 };
  source: Source = "none";
  /** When any counter was last heard; undefined: never. */
  heardAt: number | undefined;
  /** A request came. */
  requestAt: number | undefined;

  /** Tokens of a prompt that no cache held, and of an answer; 0 until one was seen. */
  get lengths(): { readonly prompt: number; readonly answer: number } {
    return this.#lengths;
  }

  add(observation: Observation): void {
    const { at } = observation;
    const spanMs = this.#spanMs(at);
    const fresh = observation.routers.filter((router) => at - router.at <= FRESH_MS);
    const byRouters = this.#fromRouters(fresh, at, spanMs);
    const byEngines = this.#fromEngines(observation, at, spanMs);
    this.source = sourceOf(observation.routers.length, fresh.length, byEngines.heard);
    // Who is not heard may have been asked.
    if (this.source !== "routers" || backlogOf(observation).requests > 0) this.requestAt = at;
    if (this.source === "none") return;
    this.heardAt = at;
    if (spanMs <= 0) return;
    const sums = fresh.length > 0 ? withAnswers(byRouters, byEngines.sums) : this.#withRequests(byEngines.sums);
    this.slots.add(at, spanMs, sums);
    this.rounds.add(at, spanMs, sums);
    if (sums.requests > 0 || sums.promptTokens > 0) this.requestAt = at;
    if (fresh.length > 0) this.#learnLengths(at, spanMs, sums);
  }

  /** Counters grow while nobody hears them: what they grew by came in since they were heard, unless that is forgotten. */
  #spanMs(at: number): number {
    const spanMs = at - (this.heardAt ?? at);
    return spanMs > FORGET_MS ? 0 : spanMs;
  }

  #fromRouters(fresh: readonly RouterSeen[], at: number, spanMs: number): Arrivals {
    let sums = NOTHING;
    for (const router of fresh) {
      const before = this.#routers.get(router.id);
      if (before !== undefined && router.at > before.at) {
        const grew = growth(before, router);
        const share = shareOf(router.at - before.at, spanMs);
        sums = mapFields((field) => sums[field] + share * grew[field]);
        this.ttft.add(at, differenceOf(before.ttft, router.ttft));
        this.tpot.add(at, differenceOf(before.tpot, router.tpot));
      }
      if (before === undefined || router.at > before.at) this.#routers.set(router.id, counted(before, router));
    }
    keepRecent(this.#routers, at);
    return sums;
  }

  #fromEngines(
    { instances, workloads }: Observation,
    at: number,
    spanMs: number,
  ): { readonly sums: Arrivals; readonly heard: boolean } {
    const roles = new Map(workloads.map(({ id, role }) => [id, role]));
    let [promptTokens, generatedTokens, heard] = [0, 0, false];
    for (const instance of instances) {
      const grew = this.#grownEngine(instance, at, spanMs);
      if (grew === undefined) continue;
      heard = true;
      // Decode engines count the prompts whose KV they were handed as well.
      if (roles.get(instance.workload) !== "decode") promptTokens += grew.promptTokens;
      if (roles.get(instance.workload) !== "prefill") generatedTokens += grew.generatedTokens;
    }
    keepRecent(this.#engines, at);
    return { sums: { ...NOTHING, promptTokens, generatedTokens }, heard };
  }

  #grownEngine({ id, engine }: InstanceSeen, at: number, spanMs: number): EngineCounts | undefined {
    if (engine === undefined || at - engine.at > FRESH_MS) return undefined;
    const before = this.#engines.get(id);
    if (before !== undefined && engine.at <= before.at) return { promptTokens: 0, generatedTokens: 0 };
    const now = countsOf(engine);
    const last = before === undefined ? now : countsOf(before);
    const share = shareOf(engine.at - (before?.at ?? engine.at), spanMs);
    this.#engines.set(id, {
      ...engine,
      promptTokens: lastCount(last.promptTokens, now.promptTokens),
      generatedTokens: lastCount(last.generatedTokens, now.generatedTokens),
    });
    return {
      promptTokens: share * grown(last.promptTokens, now.promptTokens),
      generatedTokens: share * grown(last.generatedTokens, now.generatedTokens),
    };
  }

  /** Engines do not tell how many requests came: prompts are as long as they were. */
  #withRequests(sums: Arrivals): Arrivals {
    return { ...sums, requests: this.#lengths.prompt > 0 ? sums.promptTokens / this.#lengths.prompt : 0 };
  }

  /** From routers alone: engines do not tell whose answer a token is of. */
  #learnLengths(at: number, spanMs: number, latest: Arrivals): void {
    this.#told.add(at, spanMs, latest);
    const { sums } = this.#told.sums(at - LENGTHS_MS);
    const { requests, promptTokens, answers, generatedTokens } = sums;
    const among = answers > 0 ? answers : requests;
    this.#lengths = {
      prompt: requests > 0 ? promptTokens / requests : this.#lengths.prompt,
      answer: among > 0 && generatedTokens > 0 ? generatedTokens / among : this.#lengths.answer,
    };
  }
}

/** What an engine does not tell is no number. */
const countsOf = ({ promptTokens = NaN, generatedTokens = NaN }: EngineSeen): EngineCounts => ({
  promptTokens,
  generatedTokens,
});

/** As it tells, with what it told last in place of what is no number. */
const counted = (before: RouterSeen | undefined, router: RouterSeen): RouterSeen => ({
  ...router,
  ...mapFields((field) => lastCount(before?.[field], router[field])),
});

/** Where no router sees answers, engines say how much was generated. */
const withAnswers = (routers: Arrivals, engines: Arrivals): Arrivals =>
  routers.answers > 0 ? routers : { ...routers, generatedTokens: engines.generatedTokens };

function sourceOf(routers: number, fresh: number, engines: boolean): Source {
  if (fresh > 0) return fresh < routers ? "partial" : "routers";
  return engines ? "engines" : "none";
}

/** Sources that were not heard for so long are gone: what they counted before would be a jump when they come back. */
const FORGET_MS = 300_000;

function keepRecent(sources: Map<string, { readonly at: number }>, now: number): void {
  for (const [id, { at }] of sources) if (now - at > FORGET_MS) sources.delete(id);
}

/**
 * Of what a source counted since it was heard last, what belongs to the time that is added now: one that was silent for
 * longer than it counts as fresh would else bring minutes of work as if they were seconds.
 */
const shareOf = (gapMs: number, spanMs: number): number => Math.min(1, (FRESH_MS + spanMs) / Math.max(1, gapMs));

/** Latest state of the routers together: work that waits. Silent ones count with what they said last, up to a minute. */
export function backlogOf({ routers, at }: Observation): {
  readonly tokens: number;
  readonly requests: number;
  readonly held: number;
} {
  const heard = routers.filter((router) => at - router.at <= 4 * FRESH_MS);
  const sum = (of: (router: RouterSeen) => number): number =>
    heard.reduce((total, router) => total + positive(of(router)), 0);
  return {
    tokens: sum(({ backlogTokens }) => backlogTokens),
    requests: sum(({ backlogRequests }) => backlogRequests),
    held: sum(({ heldRequests }) => heldRequests),
  };
}

/** NaN and what is below zero is nothing. */
export const positive = (value: number | undefined): number =>
  value !== undefined && Number.isFinite(value) && value > 0 ? value : 0;
