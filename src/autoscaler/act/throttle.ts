/**
 * When a write may go out: so many within any second for the whole process, asked for in turn, and only while this replica
 * leads, asked right before each write. Writes that people wait for come before all others, and others leave them room.
 *
 * A write counts from its turn until a second after its answer: when between the two it reached the API server nobody here
 * knows, and a server that answers late is asked for less.
 */
import { isWithheld } from "../../kinds/kube-error.ts";
import type { Cancel, Clock, Timers } from "../../ports.ts";

/** `urgent`: more replicas, and instances taken back. */
export type Urgency = "urgent" | "ordinary";

/** Nothing was written: this replica leads no more, is stopping, or was asked for more than it can keep in mind. */
export class NotWritten extends Error {}

export interface Throttle {
  /**
   * Runs the task in its turn; what goes on with something that has begun is the next one as urgent as it, or many that
   * begin at once would never end. Throws NotWritten where it may not run any more by then.
   */
  write<T>(urgency: Urgency, task: () => Promise<T>, goesOn?: boolean): Promise<T>;
  /** Whether an ordinary write would go out now. */
  isFree(): boolean;
  /** What waits is refused, and all that comes; resolves when the last write has been answered. */
  stop(): Promise<void>;
}

export interface ThrottleOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly perSecond: number;
  readonly mayWrite: () => boolean;
}

const SECOND_MS = 1000;
/** Most writes that wait; the next plan asks for the rest again. */
const MOST_WAITING = 10_000;
/** Share of the writes that only urgent ones may use: the two of a group that wakes. */
const KEPT_SHARE = 0.4;

interface Sent {
  readonly urgency: Urgency;
  /** Monotonic; undefined while it is on its way. */
  answeredAt: number | undefined;
}

interface Waiting {
  readonly go: (sent: Sent) => void;
  readonly refuse: () => void;
}

interface State extends ThrottleOptions {
  /** On their way, or answered within the last second. */
  sent: readonly Sent[];
  readonly queues: Readonly<Record<Urgency, Waiting[]>>;
  /** Not answered yet. */
  readonly active: Set<Promise<unknown>>;
  cancel: Cancel | undefined;
  stopped: boolean;
}

export function createThrottle(options: ThrottleOptions): Throttle {
  const state: State = {
    ...options,
    sent: [],
    queues: { urgent: [], ordinary: [] },
    active: new Set(),
    cancel: undefined,
    stopped: false,
  };
  return {
    write: async (urgency, task, goesOn = false) => {
      const sent = await turn(state, urgency, goesOn);
      if (state.stopped || !options.mayWrite()) {
        giveBack(state, sent);
        throw new NotWritten("this replica does not lead");
      }
      const running = task();
      state.active.add(running);
      return running.then(
        (value) => {
          answered(state, running, sent);
          return value;
        },
        (error: unknown) => {
          answered(state, running, sent);
          if (!isWithheld(error)) throw error;
          giveBack(state, sent);
          throw new NotWritten((error as Error).message);
        },
      );
    },
    isFree: () => state.queues.ordinary.length === 0 && isOpen(state, "ordinary"),
    stop: async () => {
      state.stopped = true;
      state.cancel?.();
      for (const queue of Object.values(state.queues)) for (const { refuse } of queue.splice(0)) refuse();
      await Promise.allSettled(state.active);
    },
  };
}

function answered(state: State, running: Promise<unknown>, sent: Sent): void {
  state.active.delete(running);
  sent.answeredAt = state.clock.monotonic();
  serve(state);
}

/** Nothing went out. */
function giveBack(state: State, sent: Sent): void {
  state.sent = state.sent.filter((one) => one !== sent);
  serve(state);
}

function turn(state: State, urgency: Urgency, goesOn: boolean): Promise<Sent> {
  return new Promise((resolve, reject) => {
    const refuse = (): void => reject(new NotWritten("no write goes out any more"));
    if (state.stopped || state.queues[urgency].length >= MOST_WAITING) refuse();
    else {
      const waiting = { go: resolve, refuse };
      if (goesOn) state.queues[urgency].unshift(waiting);
      else state.queues[urgency].push(waiting);
      serve(state);
    }
  });
}

function serve(state: State): void {
  for (const urgency of ["urgent", "ordinary"] as const)
    while (state.queues[urgency].length > 0 && isOpen(state, urgency)) {
      const sent: Sent = { urgency, answeredAt: undefined };
      state.sent = [...state.sent, sent];
      state.queues[urgency].shift()?.go(sent);
    }
  const waits = Object.values(state.queues).some((queue) => queue.length > 0);
  if (!waits || state.cancel !== undefined || state.stopped) return;
  // Where all are on their way, the first answer serves those that wait.
  const oldest = Math.min(...state.sent.map(({ answeredAt }) => answeredAt ?? Infinity));
  if (oldest === Infinity) return;
  const left = oldest + SECOND_MS - state.clock.monotonic();
  state.cancel = state.timers.after(Math.max(1, Math.ceil(left)), () => {
    state.cancel = undefined;
    serve(state);
  });
}

/** Of ordinary writes so many that urgent ones still find room. */
const ordinaryOf = (perSecond: number): number => Math.max(1, Math.floor(perSecond * (1 - KEPT_SHARE)));

function isOpen(state: State, urgency: Urgency): boolean {
  const begun = state.clock.monotonic() - SECOND_MS;
  state.sent = state.sent.filter(({ answeredAt = Infinity }) => answeredAt > begun);
  if (state.sent.length >= state.perSecond) return false;
  const ordinary = state.sent.filter((one) => one.urgency === "ordinary").length;
  return urgency === "urgent" || ordinary < ordinaryOf(state.perSecond);
}
