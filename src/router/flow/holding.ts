/**
 * Holds requests for groups that have no endpoint and may be woken, until one is ready.
 *
 * Decides from what the autoscaler said may be woken, the bounds of the configuration and time. Those of one model and
 * group are let go in the order in which they came, each by the ordinary pick, which says whether there is room for it: so
 * that the first engine of a group is not given all of them. It never wakes a group itself: it tells who does.
 */
import type { Reason } from "../../kinds/verdict.ts";
import type { Cancel, Clock, Metrics, Timers } from "../../ports.ts";
import type { Problem } from "../answers.ts";
import type { HeldWork } from "../statistics/groups.ts";
import type { Wakeable } from "../statistics/wakeable.ts";

export interface HoldLimits {
  /** Requests of one model that wait. */
  readonly maxRequests: number;
  /** Bytes of their bodies. */
  readonly maxBytes: number;
  /** Bytes of all that wait. */
  readonly maxTotalBytes: number;
  /** So long one waits at most. */
  readonly ttlMs: number;
}

export interface HoldingDependencies {
  readonly limits: HoldLimits;
  readonly wakeable: Pick<Wakeable, "find">;
  /** Told of a group when the first request for it waits. */
  readonly wake: (group: string) => void;
  readonly clock: Pick<Clock, "monotonic">;
  readonly timers: Timers;
  readonly metrics: Metrics;
}

/** A request that found no endpoint. */
export interface Unserved {
  /** As endpoints serve it; undefined where the request names none. */
  readonly model: string | undefined;
  readonly namespace?: string | undefined;
  readonly bytes: number;
  /** Of its prompt, about. */
  readonly tokens: number;
}

export interface Held<T> {
  readonly group: string;
  /** What the try that was let go came to, or why none was made. */
  readonly outcome: Promise<T | Problem>;
  /** The client went away. */
  readonly leave: () => void;
}

/** An endpoint that gets ready is found within this. */
const LOOK_MS = 50;
/** So many of one queue are let go at once: 1,000 take 1.6 s, in which further engines may have come. */
const AT_ONCE = 32;
/** Engines start in minutes. */
const RETRY_SECONDS = 30;

/** Without endpoints, or with none that is ready; and while a group wakes, without room. */
const WAITS: ReadonlySet<Reason> = new Set(["NoEndpoint", "NoPartner", "ModelUnknown", "ModelUnnamed", "Saturated"]);

/** Whether a request that was refused so may still be served later. */
export const mayWait = ({ reason }: Problem): boolean => WAITS.has(reason);

type Outcome = "released" | "expired" | "left" | "ended";

interface Waiter {
  readonly unserved: Unserved;
  readonly since: number;
  /** False where it must go on waiting. */
  readonly attempt: () => boolean;
  readonly refuse: (problem: Problem) => void;
}

interface Queue {
  readonly group: string;
  readonly model: string;
  /** The longest-waiting first. */
  readonly waiters: Set<Waiter>;
  bytes: number;
}

export class Holding {
  readonly #deps: HoldingDependencies;
  /** By group and model. */
  readonly #queues = new Map<string, Queue>();
  readonly #groups = new Map<string, HeldWork>();
  #bytes = 0;
  #requests = 0;
  #isEnding = false;
  #cancel: Cancel | undefined;

  constructor(deps: HoldingDependencies) {
    this.#deps = deps;
  }

  /** Requests that wait, by group. */
  get work(): ReadonlyMap<string, HeldWork> {
    return this.#groups;
  }

  /**
   * Holds a request, and tries again until the try comes to something. Undefined where nobody wakes a group for it; a
   * problem where it cannot be held.
   * @param attempt undefined where it must go on waiting
   */
  hold<T>(unserved: Unserved, attempt: () => T | undefined): Held<T> | Problem | undefined {
    const { wakeable, limits } = this.#deps;
    const group = limits.maxRequests === 0 ? undefined : wakeable.find(unserved.model, unserved.namespace);
    if (group === undefined) return undefined;
    if (this.#isEnding) return ENDING;
    const queue = this.#queueOf(group, unserved.model ?? "");
    if (this.#isFull(queue, unserved)) return this.#refused(queue);
    const { promise: outcome, resolve, reject } = Promise.withResolvers<T | Problem>();
    const since = this.#deps.clock.monotonic();
    const waiter: Waiter = { unserved, since, attempt: trying(attempt, resolve, reject), refuse: resolve };
    this.#enter(queue, waiter);
    return { group, outcome, leave: () => this.#leave(queue, waiter, "left") };
  }

  /** The router goes: whoever waits is told to try again, and nobody is held from now on. */
  end(): void {
    this.#isEnding = true;
    for (const queue of this.#queues.values())
      for (const waiter of queue.waiters) {
        this.#leave(queue, waiter, "ended");
        waiter.refuse(ENDING);
      }
  }

  #queueOf(group: string, model: string): Queue {
    return this.#queues.get(keyOf(group, model)) ?? { group, model, waiters: new Set(), bytes: 0 };
  }

  #isFull({ waiters, bytes }: Queue, unserved: Unserved): boolean {
    const { maxRequests, maxBytes, maxTotalBytes } = this.#deps.limits;
    return (
      waiters.size >= maxRequests || bytes + unserved.bytes > maxBytes || this.#bytes + unserved.bytes > maxTotalBytes
    );
  }

  #refused({ model, waiters }: Queue): Problem {
    this.#deps.metrics.count("tandem_router_holds_total", { outcome: "full" });
    const message = `${waiters.size} requests for \`${model}\` wait for its first engine to start, and no more may`;
    return { status: 503, reason: "HoldFull", message, retryAfterSeconds: RETRY_SECONDS };
  }

  #enter(queue: Queue, waiter: Waiter): void {
    this.#queues.set(keyOf(queue.group, queue.model), queue);
    queue.waiters.add(waiter);
    const isFirst = !this.#groups.has(queue.group);
    this.#count(queue, waiter, 1);
    if (isFirst) this.#deps.wake(queue.group);
    this.#cancel ??= this.#deps.timers.every(LOOK_MS, () => this.#look());
  }

  /** Once for each waiter. */
  #leave(queue: Queue, waiter: Waiter, outcome: Outcome): void {
    if (!queue.waiters.delete(waiter)) return;
    const { metrics, clock } = this.#deps;
    if (queue.waiters.size === 0) this.#queues.delete(keyOf(queue.group, queue.model));
    this.#count(queue, waiter, -1);
    metrics.count("tandem_router_holds_total", { outcome });
    metrics.observe("tandem_router_hold_duration_seconds", (clock.monotonic() - waiter.since) / 1000);
    if (this.#queues.size > 0) return;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #count(queue: Queue, { unserved: { bytes, tokens } }: Waiter, sign: 1 | -1): void {
    queue.bytes += sign * bytes;
    this.#bytes += sign * bytes;
    this.#requests += sign;
    const before = this.#groups.get(queue.group);
    const requests = (before?.requests ?? 0) + sign;
    if (requests === 0) this.#groups.delete(queue.group);
    else this.#groups.set(queue.group, { requests, tokens: (before?.tokens ?? 0) + sign * tokens });
    this.#deps.metrics.gauge("tandem_router_held_requests", this.#requests);
  }

  #look(): void {
    const late = this.#deps.clock.monotonic() - this.#deps.limits.ttlMs;
    for (const queue of this.#queues.values()) {
      for (const waiter of queue.waiters) {
        if (waiter.since > late) break;
        this.#leave(queue, waiter, "expired");
        waiter.refuse(this.#expired(queue));
      }
      this.#release(queue);
    }
  }

  /** In their order: where one finds no room, those behind it do not either. */
  #release(queue: Queue): void {
    let tries = 0;
    for (const waiter of queue.waiters) {
      if (tries++ >= AT_ONCE || !waiter.attempt()) return;
      this.#leave(queue, waiter, "released");
    }
  }

  #expired({ model }: Queue): Problem {
    const seconds = Math.round(this.#deps.limits.ttlMs / 1000);
    const message = `no endpoint of \`${model}\` came within ${seconds} s`;
    return { status: 503, reason: "HoldExpired", message, retryAfterSeconds: RETRY_SECONDS };
  }
}

const ENDING: Problem = { status: 503, reason: "HoldEnded", message: "this replica of the router ends; try again" };

/** No name of a model holds a NUL. */
const keyOf = (group: string, model: string): string => `${group}\0${model}`;

/** One that throws has come to something: it is nobody else's fault. */
function trying<T>(
  attempt: () => T | undefined,
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
): () => boolean {
  return () => {
    try {
      const made = attempt();
      if (made !== undefined) resolve(made);
      return made !== undefined;
    } catch (error) {
      reject(error);
      return true;
    }
  };
}
