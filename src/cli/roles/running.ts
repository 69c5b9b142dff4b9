/** The life of a service: what was started is stopped in reverse order, once, whatever happened in between. */
import type { Log, Timers } from "../../ports.ts";

type Stop = () => Promise<void> | void;

/** What has been started so far. */
export interface Started {
  /** Stopped before everything that was added earlier. */
  add(stop: Stop): void;
  /** What was added together stops together; one that fails stops no other. */
  stop(): Promise<void>;
}

export function createStarted(log: Log): Started {
  let stops: Stop[] = [];
  return {
    add: (stop) => void stops.push(stop),
    stop: async () => {
      const pending = stops.toReversed();
      stops = [];
      for (const stop of pending)
        try {
          await stop();
        } catch (error) {
          log.warn("not stopped in order", { why: (error as Error).message });
        }
    },
  };
}

/** Kubernetes kills after 30 s by default, the pause before SIGTERM included. */
export const STOP_DEADLINE_MS = 28_000;
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** The signals of a process. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

export interface Life {
  readonly signals: SignalSource;
  readonly timers: Timers;
  readonly log: Log;
  readonly start: () => Promise<void>;
  readonly stop: Stop;
  /** A stop that takes longer ends at once; `STOP_DEADLINE_MS` by default. */
  readonly deadlineMs?: number;
  /** Ends the process now. */
  readonly abandon: () => void;
}

/**
 * Starts, runs until the first SIGTERM or SIGINT, then stops in order. The second signal, or a stop that takes too long,
 * ends the process at once; as process 1 of a container it must do so itself, for there signals have no default. A signal
 * during the start is kept until it is over: half a service cannot be stopped in order.
 */
export async function runUntilSignal(life: Life): Promise<void> {
  const { signals, timers, log, start, stop, abandon, deadlineMs = STOP_DEADLINE_MS } = life;
  const signalled = firstSignal(signals, abandon);
  await start();
  log.info("stopping", { signal: await signalled });
  const cancel = timers.after(deadlineMs, () => {
    log.error("not stopped in time", { afterMs: deadlineMs });
    abandon();
  });
  await stop();
  cancel();
}

const firstSignal = (signals: SignalSource, abandon: () => void): Promise<NodeJS.Signals> =>
  new Promise((resolve) => {
    let stopping = false;
    for (const name of SIGNALS)
      signals.on(name, (signal) => {
        if (stopping) abandon();
        stopping = true;
        resolve(signal);
      });
  });
