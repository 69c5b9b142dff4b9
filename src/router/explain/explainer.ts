/**
 * The newest picks, kept so that they can be asked for. Sampled, and so many in a second: taking a cost apart takes some
 * 50 us of the thread that serves, as much as a pick. Off, nothing is made and nothing is kept.
 */
import type { Config } from "../../config/schema.ts";
import type { Clock, Log, Random } from "../../ports.ts";
import type { Forecast } from "../forecast.ts";
import type { Selection } from "../select.ts";
import { recordOf, type PickRecord } from "./record.ts";

export interface ExplainerPorts {
  readonly config: Config["router"]["explain"];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const SECOND_MS = 1000;

export class Explainer {
  readonly #ports: ExplainerPorts;
  /** Oldest first. */
  readonly #records = new Map<string, PickRecord>();
  #secondFrom = -Infinity;
  #inSecond = 0;

  constructor(ports: ExplainerPorts) {
    this.#ports = ports;
  }

  /** A record of this pick, where it is one of those that are kept. */
  record(id: string, selection: Selection, forecast: Forecast): PickRecord | undefined {
    if (!this.#isTaken()) return undefined;
    const { config, clock, random, log } = this.#ports;
    const record = recordOf(id, clock.now(), selection, forecast);
    this.#records.set(id, record);
    if (this.#records.size > config.keep) this.#records.delete(this.#records.keys().next().value ?? "");
    if (config.log > 0 && random.next() < config.log) log.info("pick", { ...record });
    return record;
  }

  /** Newest first. */
  list(): readonly PickRecord[] {
    return [...this.#records.values()].reverse();
  }

  /** By the whole id, or by the caller's own, from which it was made; then the newest of them. */
  find(id: string): PickRecord | undefined {
    return this.#records.get(id) ?? this.list().find((record) => record.id.startsWith(`${id}-`));
  }

  #isTaken(): boolean {
    const { config, clock, random } = this.#ports;
    const now = clock.monotonic();
    if (now - this.#secondFrom >= SECOND_MS) {
      this.#secondFrom = now;
      this.#inSecond = 0;
    }
    if (this.#inSecond >= config.perSecond || (config.sample < 1 && random.next() >= config.sample)) return false;
    this.#inSecond += 1;
    return true;
  }
}

/** Undefined where nothing is to be kept. */
export function createExplainer(ports: ExplainerPorts): Explainer | undefined {
  const { keep, sample, perSecond } = ports.config;
  return keep > 0 && sample > 0 && perSecond > 0 ? new Explainer(ports) : undefined;
}
