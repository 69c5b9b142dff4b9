/** The real clock, randomness and timers of this process. */
import { randomBytes, randomUUID } from "node:crypto";
import type { Clock, Random, Timers } from "../ports.ts";

/* eslint-disable no-restricted-syntax -- this file is where the ports touch the process */
export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

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
