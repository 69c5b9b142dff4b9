/**
 * The constants of the cost, learned from what requests took: the prefill curve, the growth of a decode step and the
 * transfer of each service, and how fast each endpoint is against its service.
 *
 * Decides nothing and asks nobody: it is told of first tokens, of whole answers and of prefill legs, which profile `exact`
 * sees; profile `light` tells of prefill legs alone. What the configuration says is believed until there is enough to go
 * by, and bounds what can be learned; nobody can teach it more than that.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { Clock } from "../../ports.ts";
import { decodeCost, type CostConstants } from "./cost.ts";
import { Regression, type Coefficient } from "./regression.ts";

/** Endpoints that are learned from together: one kind of engine, mostly, behind one name. */
export const serviceOf = ({ namespace, service }: Endpoint): string => `${namespace}/${service}`;

/** One prompt that was computed: on an endpoint of the service, behind other work or not. */
export interface PrefillSeen {
  readonly service: string;
  readonly endpoint: string;
  /** Uncached tokens, and those before them. */
  readonly freshTokens: number;
  readonly cachedTokens: number;
  /** Prefill work that was there before it or came while it waited, and its own, by the constants of the pick. */
  readonly othersMs: number;
  readonly ownMs: number;
  readonly ms: number;
}

/** Tokens of one answer behind the first, each on average, without the prefills that came in between. */
export interface StepSeen {
  readonly service: string;
  readonly requests: number;
  readonly kvTokens: number;
  /** Of the answer. */
  readonly tokens: number;
  /** Of one step. */
  readonly ms: number;
}

export interface TransferSeen {
  readonly service: string;
  readonly tokens: number;
  readonly ms: number;
}

/** What is known of one service, for people. */
export interface Learned {
  readonly service: string;
  readonly constants: CostConstants;
  readonly seen: { readonly prefills: number; readonly steps: number; readonly transfers: number };
  /** By endpoint: its prefill time against the service's. */
  readonly slowness: Readonly<Record<string, number>>;
}

/** Before so many it is as the configuration says. */
const ENOUGH = 30;
/** Learned constants stay within so many times the configured ones. */
const REACH = 20;
/** The growth of a step moves picks away from caches: it is believed less. */
const STEP_REACH = 2;
const ANSWER_WEIGHT = 0.005;
/** An endpoint is taken for so many times slower or faster than its service, at most. */
const MOST_SLOW = 5;
/** Endpoints this close to their service count as equal: what load does to a few answers is no speed. */
const EQUAL = 1.5;
/** Weight of one more observation in an endpoint's mean. */
const SPEED_WEIGHT = 0.01;
/** Work beside a prompt, against its own, up to which its time says how long it took by itself. */
const ALONE = 0.2;
/** Where more of the time than this is the engine's own, it says little of the prompt. */
const SHARE = 0.5;
/** Constants change no more often. */
const REFRESH_MS = 2000;
/** Services whose endpoints come and go must not fill the memory. */
const MAX_SERVICES = 1024;

interface Service {
  readonly prefill: Regression;
  /** A constant of the engine, and the growth of a step against the configured one. */
  readonly step: Regression;
  /** Mean tokens of an answer. */
  answer: number;
  readonly transfer: Regression;
  readonly slowness: Map<string, { mean: number; count: number }>;
  constants: CostConstants;
  refreshedAt: number;
}

export class CostLearner {
  readonly #configured: CostConstants;
  readonly #clock: Clock;
  readonly #services = new Map<string, Service>();
  readonly #slow: (endpoint: string, slowness: number) => void;

  /** @param slow told when an endpoint's speed against its service is known, or has changed */
  constructor(configured: CostConstants, clock: Clock, slow: (endpoint: string, slowness: number) => void) {
    this.#configured = configured;
    this.#clock = clock;
    this.#slow = slow;
  }

  /** The same object until there is something new to say. */
  constantsOf(service: string): CostConstants {
    return this.#services.get(service)?.constants ?? this.#configured;
  }

  prefilled(seen: PrefillSeen): void {
    if (seen.othersMs > ALONE * seen.ownMs || seen.freshTokens < 1) return;
    const service = this.#of(seen.service);
    const features = prefillFeatures(seen.freshTokens, seen.cachedTokens);
    if (service.prefill.value(0) > SHARE * service.prefill.predict(features)) return;
    this.#speed(service, seen, service.prefill.predict(features));
    service.prefill.learn(features, seen.ms);
    this.#refresh(service);
  }

  stepped({ service: name, requests, kvTokens, tokens, ms }: StepSeen): void {
    const service = this.#of(name);
    service.step.learn([1, this.#stepMs(requests, kvTokens)], ms);
    service.answer += (this.#answer(tokens) - service.answer) * Math.max(ANSWER_WEIGHT, 1 / (service.step.count + 1));
    this.#refresh(service);
  }

  transferred({ service: name, tokens, ms }: TransferSeen): void {
    const service = this.#of(name);
    service.transfer.learn([1, tokens], ms);
    this.#refresh(service);
  }

  /** An answer of so many tokens, as far as it is believed. */
  #answer(tokens: number): number {
    const { decodeTokens } = this.#configured;
    return Number.isNaN(tokens) ? decodeTokens : Math.min(REACH * decodeTokens, Math.max(decodeTokens / REACH, tokens));
  }

  /** Requests and tokens grow together: how they share the growth of a step is as configured. */
  #stepMs(requests: number, kvTokens: number): number {
    return decodeCost({ requests, kvTokens }, 1, this.#configured);
  }

  /** Forgets endpoints that are gone. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const { slowness } of this.#services.values())
      for (const endpoint of slowness.keys()) if (!endpoints.has(endpoint)) slowness.delete(endpoint);
  }

  learned(): readonly Learned[] {
    return [...this.#services].map(([service, { constants, prefill, step, transfer, slowness }]) => ({
      ...{ service, constants },
      seen: { prefills: prefill.count, steps: step.count, transfers: transfer.count },
      slowness: Object.fromEntries(
        [...slowness].map(([endpoint, { mean, count }]) => [endpoint, slownessOf(mean, count)]),
      ),
    }));
  }

  #speed({ slowness, prefill }: Service, { endpoint, ms }: PrefillSeen, predicted: number): void {
    // Not before the service's own curve is one.
    if (prefill.count < ENOUGH || !(predicted > 0)) return;
    const known = slowness.get(endpoint) ?? { mean: 1, count: 0 };
    const ratio = Math.min(MOST_SLOW, Math.max(1 / MOST_SLOW, ms / predicted));
    const before = slownessOf(known.mean, known.count);
    const weight = Math.max(SPEED_WEIGHT, 1 / (known.count + 1));
    // Of logarithms: twice as slow and twice as fast cancel out.
    known.mean *= (ratio / known.mean) ** weight;
    known.count += 1;
    slowness.set(endpoint, known);
    const after = slownessOf(known.mean, known.count);
    if (after !== before) this.#slow(endpoint, after);
  }

  #of(name: string): Service {
    const service = this.#services.get(name) ?? newService(this.#configured, this.#clock.monotonic());
    // The last one heard of stands last: the first is forgotten where there are too many.
    this.#services.delete(name);
    this.#services.set(name, service);
    const [oldest] = this.#services.keys();
    if (this.#services.size > MAX_SERVICES && oldest !== undefined) this.#services.delete(oldest);
    return service;
  }

  /** Constants change every few seconds only: picks of one moment are made by the same ones. */
  #refresh(service: Service): void {
    const now = this.#clock.monotonic();
    if (now - service.refreshedAt < REFRESH_MS) return;
    service.refreshedAt = now;
    service.constants = constantsFrom(service, this.#configured);
  }
}

/** `c0 + a n + 2 c n (cached + n / 2)`, as `ownPrefillMs` has it; what is fixed is the engine's own, and no prefill. */
const prefillFeatures = (fresh: number, cached: number): readonly number[] => [
  1,
  fresh,
  2 * fresh * (cached + fresh / 2),
];

const learnable = (prior: number): Coefficient => ({ prior, doubt: prior, bounds: [prior / REACH, prior * REACH] });
/**
 * What does not grow with the request: the engine's own, and what load adds. It is doubted most, so that it takes what is
 * the same for all requests, and the others only what differs between them.
 */
const fixed = (prior: number): Coefficient => ({ prior, doubt: 10 * prior, bounds: [0, prior * 1000] });

function newService(configured: CostConstants, now: number): Service {
  const { prefillMsPerToken, prefillMsPerTokenSquared, transferSetupMs, transferMsPerToken } = configured;
  return {
    prefill: new Regression([fixed(20), learnable(prefillMsPerToken), learnable(prefillMsPerTokenSquared)]),
    step: new Regression([fixed(10), { prior: 1, doubt: 1, bounds: [1 / STEP_REACH, STEP_REACH] }]),
    answer: configured.decodeTokens,
    transfer: new Regression([learnable(transferSetupMs), learnable(transferMsPerToken)]),
    slowness: new Map(),
    constants: configured,
    refreshedAt: now,
  };
}

const stepConstants = (growth: number, answer: number, configured: CostConstants): Partial<CostConstants> => ({
  decodeStepMs: growth * configured.decodeStepMs,
  decodeMsPerKvToken: growth * configured.decodeMsPerKvToken,
  decodeTokens: answer,
});

/** What is not known well enough is as configured. */
function constantsFrom({ prefill, step, answer, transfer }: Service, configured: CostConstants): CostConstants {
  return {
    ...configured,
    ...(prefill.count < ENOUGH
      ? {}
      : { prefillMsPerToken: prefill.value(1), prefillMsPerTokenSquared: prefill.value(2) }),
    ...(step.count < ENOUGH ? {} : stepConstants(step.value(1), answer, configured)),
    ...(transfer.count < ENOUGH ? {} : { transferSetupMs: transfer.value(0), transferMsPerToken: transfer.value(1) }),
  };
}

/** 1 for whoever is about as fast as its service; from there on without a step. */
function slownessOf(mean: number, count: number): number {
  if (count < ENOUGH || (mean <= EQUAL && mean >= 1 / EQUAL)) return 1;
  return mean > 1 ? mean / EQUAL : mean * EQUAL;
}
