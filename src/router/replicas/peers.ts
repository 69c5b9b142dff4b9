/**
 * The other replicas of the router: who they are, what they said, and what they must be told next.
 *
 * Decides from time and what was heard; sends nothing itself. A replica that is silent for long is gone, and the work
 * that it had with it: its streams are broken, or served by others. One that speaks for the first time is told
 * everything, as is everyone now and then, so that a lost message does no lasting harm.
 */
import type { LoadBook } from "../load.ts";
import { encodeMessage, type LoadMessage } from "./message.ts";

/** Changes go out this often: within 100 ms of a pick every replica knows of it, the network's time included. */
export const PUSH_MS = 50;
/** Without changes a replica says so often that it lives. */
const ALIVE_MS = 1000;
/** Silent for three of these, a replica is gone. */
const SILENT_MS = 3 * ALIVE_MS;
/** Everything is told again. */
const WHOLE_MS = 5000;

export class Peers {
  readonly #loads: LoadBook;
  readonly #self: string;
  readonly #heard = new Map<string, number>();
  #toldAt = -Infinity;
  #wholeAt = -Infinity;
  #somebodyNew = false;

  /** @param self a name that no other replica has, and that a restart changes */
  constructor(loads: LoadBook, self: string) {
    this.#loads = loads;
    this.#self = self;
  }

  /** Replicas that are heard of. */
  get count(): number {
    return this.#heard.size;
  }

  /** False for a message of our own, which came back to us. */
  hear(message: LoadMessage, now: number): boolean {
    if (message.from === this.#self) return false;
    if (!this.#heard.has(message.from)) this.#somebodyNew = true;
    this.#heard.set(message.from, now);
    this.#loads.hear(message.from, message.loads, message.all);
    return true;
  }

  /** What to tell every replica now, or undefined. To be asked every `PUSH_MS`. */
  due(now: number): string | undefined {
    this.#expire(now);
    const all = this.#somebodyNew || now - this.#wholeAt >= WHOLE_MS;
    const loads = this.#loads.takeChanges(all);
    if (!all && loads.size === 0 && now - this.#toldAt < ALIVE_MS) return undefined;
    this.#toldAt = now;
    if (all) this.#wholeAt = now;
    this.#somebodyNew = false;
    return encodeMessage({ from: this.#self, all, loads });
  }

  #expire(now: number): void {
    for (const [replica, at] of this.#heard)
      if (now - at > SILENT_MS) {
        this.#heard.delete(replica);
        this.#loads.forget(replica);
      }
  }
}
