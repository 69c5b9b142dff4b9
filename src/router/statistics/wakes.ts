/**
 * Who is to be told at once that a request waits for a group without endpoints: the autoscaler, whose polls come seconds
 * apart. Knows nothing of requests; whoever comes new is told of every group that is waited for now.
 */
import type { Cancel } from "../../ports.ts";

/** One autoscaler follows, two while they change; the rest is room for people who look. */
const MAX_LISTENERS = 16;

export type WakeListener = (group: string) => void;

export class Wakes {
  readonly #listeners = new Set<WakeListener>();
  readonly #waiting: () => Iterable<string>;

  /** @param waiting groups that are waited for now */
  constructor(waiting: () => Iterable<string>) {
    this.#waiting = waiting;
  }

  /** The first request of a group waits. */
  wake(group: string): void {
    for (const listener of this.#listeners) listener(group);
  }

  /** Undefined where there are as many listeners as there may be. */
  listen(listener: WakeListener): Cancel | undefined {
    if (this.#listeners.size >= MAX_LISTENERS) return undefined;
    this.#listeners.add(listener);
    for (const group of this.#waiting()) listener(group);
    return () => void this.#listeners.delete(listener);
  }
}
