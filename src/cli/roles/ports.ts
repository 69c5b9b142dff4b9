/** What every role is given: the process behind the ports. */
import type { Config } from "../../config/schema.ts";
import type { Clock, Log, Random, Timers } from "../../ports.ts";
import { systemClock, systemRandom, systemTimers } from "../../telemetry/process.ts";
import type { Pages } from "../../telemetry/server.ts";
import { createMetrics, type MetricsRegistry } from "../../telemetry/metrics.ts";

export interface RolePorts {
  readonly config: Config;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: MetricsRegistry;
}

/** A started role. */
export interface Role {
  /** True while the role can do its work. */
  readonly ready: () => boolean;
  /** What it shows of itself at the admin address, below /debug. */
  readonly pages?: Pages;
  readonly stop: () => Promise<void>;
}

export const createPorts = (config: Config, log: Log): RolePorts => ({
  config,
  log,
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
  metrics: createMetrics(),
});
