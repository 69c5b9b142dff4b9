/**
 * A service in virtual time: pods that take minutes to start, engines, a least-loaded router that holds what has no pod.
 * Policies see what they would be given, and say how many pods of each role they want; the world obeys.
 */
import type { RouterSeen } from "../../autoscaler/group.ts";
import { bucketOf, emptyHistogram } from "../../autoscaler/latency.ts";
import type { Random } from "../../ports.ts";
import type { Arrival } from "./arrivals.ts";
import { DecodePod, PrefillPod, TRUTH, type Request, type Truth } from "./pool.ts";

export type PoolRole = "prefill" | "decode";
export const POOL_ROLES: readonly PoolRole[] = ["prefill", "decode"];

export interface Pod<E> {
  readonly id: string;
  readonly createdAt: number;
  readonly readyAt: number;
  readonly engine: E;
  isDraining: boolean;
}

/** Who goes when a role shrinks, and whether one that goes can be called back before it is empty. */
export interface Shrinking {
  readonly victims: "youngest" | "least-loaded";
  readonly reclaims: boolean;
}

export interface WorldOptions {
  readonly startupMs: number;
  readonly random: Random;
  readonly shrinking: Shrinking;
  readonly truth?: Truth;
}

/** A KV transfer and the first decode step. */
const HAND_OVER_MS = 20;

export class World {
  readonly prefill: Pod<PrefillPod>[] = [];
  readonly decode: Pod<DecodePod>[] = [];
  readonly done: Request[] = [];
  readonly truth: Truth;
  /** Pod-milliseconds, starting and draining ones included. */
  podMs = 0;
  readonly #options: WorldOptions;
  readonly #held: Request[] = [];
  readonly #handed: Request[] = [];
  readonly #counts = { requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0, prefilled: 0 };
  readonly #ttft = emptyHistogram();
  readonly #tpot = emptyHistogram();
  #made = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.truth = options.truth ?? TRUTH;
  }

  /** Pods that are there from the beginning. */
  begin(role: PoolRole, count: number): void {
    for (let made = 0; made < count; made++) this.#make(role, -1e6, -1e6 + 1);
  }

  asked(role: PoolRole): number {
    return this.pods(role).filter(({ isDraining }) => !isDraining).length;
  }

  pods(role: PoolRole): readonly Pod<PrefillPod | DecodePod>[] {
    return role === "prefill" ? this.prefill : this.decode;
  }

  scale(role: PoolRole, count: number, now: number): void {
    const pods = this.pods(role);
    const { shrinking, startupMs, random } = this.#options;
    for (let missing = count - this.asked(role); missing > 0; missing--) {
      const back = shrinking.reclaims ? pods.find(({ isDraining }) => isDraining) : undefined;
      if (back !== undefined) back.isDraining = false;
      else this.#make(role, now, now + startupMs * (0.9 + 0.2 * random.next()));
    }
    for (let surplus = this.asked(role) - count; surplus > 0; surplus--) this.#drain(role, now);
  }

  #make(role: PoolRole, createdAt: number, readyAt: number): void {
    const pod = { id: `${role}-${++this.#made}`, createdAt, readyAt, isDraining: false };
    if (role === "prefill") this.prefill.push({ ...pod, engine: new PrefillPod() });
    else this.decode.push({ ...pod, engine: new DecodePod() });
  }

  /** As ReplicaSets: what is not ready goes first. */
  #drain(role: PoolRole, now: number): void {
    const load = ({ engine }: Pod<PrefillPod | DecodePod>): number =>
      this.#options.shrinking.victims === "youngest"
        ? 0
        : engine instanceof PrefillPod
          ? engine.queueMs(now)
          : engine.load;
    const [victim] = this.pods(role)
      .filter(({ isDraining }) => !isDraining)
      .sort(
        (a, b) => Number(a.readyAt <= now) - Number(b.readyAt <= now) || load(a) - load(b) || b.readyAt - a.readyAt,
      );
    if (victim !== undefined) victim.isDraining = true;
  }

  arrive(arrival: Arrival): void {
    const request = { ...arrival, prefilledAt: Infinity, firstTokenAt: Infinity, doneAt: Infinity };
    this.#counts.requests += 1;
    this.#counts.promptTokens += arrival.promptTokens;
    this.#held.push(request);
  }

  /** One step of time that ends at `now`. */
  advance(now: number, ms: number): void {
    this.podMs += (this.prefill.length + this.decode.length) * ms;
    this.#route(now);
    for (const { engine } of this.prefill) for (const request of engine.take(now)) this.#handOver(request);
    this.#toDecode(now);
    for (const { engine } of this.decode)
      for (const request of engine.advance(now, ms, this.truth)) this.#finish(request);
    this.#sweep(this.prefill);
    this.#sweep(this.decode);
  }

  #route(now: number): void {
    const open = this.prefill.filter(({ readyAt, isDraining }) => readyAt <= now && !isDraining);
    if (open.length === 0) return;
    for (const request of this.#held.splice(0)) {
      const [least] = open.reduce<[Pod<PrefillPod> | undefined, number]>(
        ([best, ms], pod) => (pod.engine.queueMs(now) < ms ? [pod, pod.engine.queueMs(now)] : [best, ms]),
        [undefined, Infinity],
      );
      least?.engine.give(request, Math.min(now, Math.max(request.at, least.readyAt)), this.truth);
    }
  }

  #handOver(request: Request): void {
    this.#counts.prefilled += 1;
    this.#handed.push(request);
  }

  #toDecode(now: number): void {
    const open = this.decode.filter(({ readyAt, isDraining }) => readyAt <= now && !isDraining);
    if (open.length === 0) return;
    for (const request of this.#handed.splice(0))
      open.reduce((best, pod) => (pod.engine.load < best.engine.load ? pod : best)).engine.give(request);
  }

  #finish(request: Request): void {
    const { ttftMs, tpotMs } = latenciesOf(request);
    this.#counts.answers += 1;
    this.#counts.generatedTokens += request.answerTokens;
    this.#ttft[bucketOf(ttftMs)] = (this.#ttft[bucketOf(ttftMs)] ?? 0) + 1;
    this.#tpot[bucketOf(tpotMs)] = (this.#tpot[bucketOf(tpotMs)] ?? 0) + 1;
    this.done.push(request);
  }

  #sweep(pods: Pod<PrefillPod | DecodePod>[]): void {
    for (let index = pods.length - 1; index >= 0; index--)
      if (pods[index]?.isDraining === true && pods[index]?.engine.isIdle === true) pods.splice(index, 1);
  }

  /** As the router's statistics tell. */
  routerSeen(now: number): RouterSeen {
    const { requests, promptTokens, answers, generatedTokens, prefilled } = this.#counts;
    const held = this.#held.reduce((sum, request) => sum + request.promptTokens, 0);
    return {
      ...{ id: "router", at: now, requests, promptTokens, answers, generatedTokens },
      backlogTokens: held + this.prefill.reduce((sum, { engine }) => sum + engine.waitingTokens(now), 0),
      backlogRequests: requests - prefilled,
      heldRequests: this.#held.length,
      ttft: [...this.#ttft],
      tpot: [...this.#tpot],
    };
  }
}

/** Of an answer that ended: to its first token, and between the others. */
export function latenciesOf({ at, firstTokenAt, doneAt, answerTokens }: Request): {
  readonly ttftMs: number;
  readonly tpotMs: number;
} {
  return {
    ttftMs: firstTokenAt - at + HAND_OVER_MS,
    tpotMs: answerTokens > 1 ? (doneAt - firstTokenAt) / (answerTokens - 1) : 0,
  };
}
