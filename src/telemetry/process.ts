/** The real clock, randomness and timers of this process. */
import { randomBytes, randomUUID } from "node:crypto";
import type { Clock, Random, Timers } from "../ports.ts";

/* eslint-disable no-restricted-syntax -- this file is where the ports touch the process */
export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** One moment on the machine's monotonic clock, which all threads share, and on that of the thread that took it. */
export interface ClockMark {
  readonly machine: [seconds: number, nanos: number];
  readonly monotonic: number;
}

export const markClock = (): ClockMark => ({ machine: process.hrtime(), monotonic: performance.now() });

/** The clock of the thread that made the mark, on another: `performance.now()` counts from each thread's own start. */
export const clockOf = ({ machine, monotonic }: ClockMark): Clock => ({
  now: () => Date.now(),
  monotonic: () => {
    const [seconds, nanos] = process.hrtime(machine);
    return monotonic + seconds * 1000 + nanos / 1e6;
  },
});

export const systemRandom: Random = {
  next: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  id: () => randomUUID(),
};

export const systemTimers: Timers = {
  after: (ms, task) => {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
  every: (ms, task) => {
    const timer = setInterval(task, ms);
    return () => clearInterval(timer);
  },
};
/* eslint-enable no-restricted-syntax */
