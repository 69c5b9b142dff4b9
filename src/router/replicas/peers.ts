/**
 * The other replicas of the router: who they are, what they said, and what each must be told next.
 *
 * Decides from time and what was heard; sends nothing itself. A replica that is silent for long is gone, and the work
 * that it had with it: its streams are broken, or served by others. One that speaks for the first time is told
 * everything, as is everyone now and then, and whoever missed a round: a lost message does no lasting harm. What others
 * sent where goes into the own index as the own picks do; it is nobody's load, and is not told on.
 */
import type { PrefixIndex } from "../kv/index.ts";
import type { LoadBook, OwnLoad } from "../load.ts";
import { encodeMessage, MAX_LOADS, type ReplicaMessage } from "./message.ts";
import { SentLog } from "./sent.ts";

/** Changes go out this often: within 100 ms of a pick every replica knows of it, the network's time included. */
export const PUSH_MS = 50;
/** Without changes a replica says so often that it lives. */
const ALIVE_MS = 1000;
/** Silent for three of these, a replica is gone. */
const SILENT_MS = 3 * ALIVE_MS;
/** Everything is told again. */
const WHOLE_MS = 5000;
/** Addresses that are remembered; one that comes back is then not told all over again. */
const MAX_ADDRESSES = 128;
/** Replicas of one Service; beyond, everybody would tell everybody too much. Further ones are not heard. */
export const MAX_REPLICAS = 32;

/** Prompts that go into the index from elsewhere. */
export interface History {
  readonly index: Pick<PrefixIndex, "record">;
  /** Ids of the endpoints that exist. */
  readonly endpoints: () => ReadonlySet<string>;
  /** Endpoints in one message, `router.index.maxEndpoints`. */
  readonly maxEndpoints?: number;
  /** What this router sent where; undefined where nobody is told. */
  readonly sent?: SentLog | undefined;
}

/** What became of the picks of a message. */
export interface Heard {
  readonly recorded: number;
  /** Of endpoints that are not known here. */
  readonly unknown: number;
}

/** A message on its way to one address. */
export interface Telling {
  readonly body: string;
  /** Picks that this replica will not hear of: it was away for too long. */
  readonly lost: number;
  /** To be called when it arrived; else the next message says it again. */
  readonly arrived: () => void;
}

/** What an address was told. */
interface Told {
  /** Number of the last round. */
  round: number;
  /** Position in what was sent. */
  at: number;
}

interface Round {
  readonly number: number;
  readonly all: boolean;
  readonly loads: ReadonlyMap<string, OwnLoad>;
}

const NO_HISTORY: History = { index: { record: () => undefined }, endpoints: () => new Set() };
const NOTHING: ReadonlyMap<string, OwnLoad> = new Map();

export class Peers {
  readonly #loads: LoadBook;
  readonly #self: string;
  readonly #history: History;
  readonly #sent: SentLog;
  readonly #heard = new Map<string, number>();
  readonly #told = new Map<string, Told>();
  #round: Round = { number: 0, all: true, loads: NOTHING };
  /** The last message: replicas that keep up are all told the same. */
  #last = { all: false, loads: NOTHING, at: -1, next: -1, body: "" };
  /** What was sent since waits for the next round: else there would be a message for every pick. */
  #upTo = 0;
  #toldAt = -Infinity;
  #wholeAt = -Infinity;
  #somebodyNew = false;

  /** @param self a name that no other replica has, and that a restart changes */
  constructor(loads: LoadBook, self: string, history = NO_HISTORY) {
    this.#loads = loads;
    this.#self = self;
    this.#history = history;
    this.#sent = history.sent ?? new SentLog(0);
  }

  /** Replicas that are heard of. */
  get count(): number {
    return this.#heard.size;
  }

  /** Undefined for a message of our own, which came back to us; `tooMany` where it is not heard: 32 others are. */
  hear(message: ReplicaMessage, now: number): Heard | "tooMany" | undefined {
    if (message.from === this.#self) return undefined;
    if (!this.#heard.has(message.from)) {
      if (this.#heard.size >= MAX_REPLICAS) return "tooMany";
      this.#somebodyNew = true;
    }
    this.#heard.set(message.from, now);
    this.#loads.hear(message.from, this.#counted(message), message.all);
    return this.#record(message);
  }

  /** A new round of news begins. To be called every `PUSH_MS`. */
  advance(now: number): void {
    this.#expire(now);
    this.#upTo = this.#sent.end;
    const all = this.#somebodyNew || now - this.#wholeAt >= WHOLE_MS;
    const loads = this.#loads.takeChanges(all);
    if (!all && loads.size === 0 && now - this.#toldAt < ALIVE_MS) return;
    this.#toldAt = now;
    if (all) this.#wholeAt = now;
    this.#somebodyNew = false;
    this.#round = { number: this.#round.number + 1, all, loads };
  }

  /** What to tell an address now; undefined where it knows all. After it arrived there may be more. */
  next(address: string): Telling | undefined {
    const told = this.#toldTo(address);
    const { number } = this.#round;
    const { sent, next, lost } = this.#sent.from(told.at, this.#upTo);
    if (told.round === number && sent.length === 0) return undefined;
    const { all, loads } = this.#newsAfter(told.round);
    if (!this.#isLast({ all, loads, at: told.at, next }))
      this.#last = { all, loads, at: told.at, next, body: this.#body({ all, loads, sent }) };
    const arrived = (): void => {
      told.round = number;
      told.at = next;
    };
    return { body: this.#last.body, lost, arrived };
  }

  #body({ all, loads, sent }: Omit<ReplicaMessage, "from">): string {
    return encodeMessage({ from: this.#self, all, loads: this.#busiest(loads), sent });
  }

  /** Loads since a round: none, the last changes, or everything for whoever missed some. */
  #newsAfter(round: number): Pick<Round, "all" | "loads"> {
    if (round === this.#round.number) return { all: false, loads: NOTHING };
    if (round === this.#round.number - 1) return this.#round;
    return { all: true, loads: this.#loads.own() };
  }

  #isLast({ all, loads, at, next }: Omit<Round, "number"> & { readonly at: number; readonly next: number }): boolean {
    const last = this.#last;
    return last.loads === loads && last.all === all && last.at === at && last.next === next;
  }

  /** Loads of endpoints that exist; or did when the replica spoke of them before, so that their end is heard too. */
  #counted({ from, loads }: ReplicaMessage): ReplicaMessage["loads"] {
    if (loads.size === 0) return loads;
    const endpoints = this.#history.endpoints();
    return new Map([...loads].filter(([id]) => endpoints.has(id) || this.#loads.hears(from, id)));
  }

  /** No more than others take: where there are more, those that carry most. */
  #busiest(loads: ReadonlyMap<string, OwnLoad>): ReadonlyMap<string, OwnLoad> {
    const { maxEndpoints = MAX_LOADS } = this.#history;
    if (loads.size <= maxEndpoints) return loads;
    return new Map([...loads].sort(([, a], [, b]) => b.inflight - a.inflight).slice(0, maxEndpoints));
  }

  #record({ sent }: ReplicaMessage): Heard {
    if (sent.length === 0) return { recorded: 0, unknown: 0 };
    const endpoints = this.#history.endpoints();
    const known = sent.filter(({ endpoint }) => endpoints.has(endpoint));
    for (const { endpoint, keys } of known) this.#history.index.record(endpoint, keys);
    return { recorded: known.length, unknown: sent.length - known.length };
  }

  #toldTo(address: string): Told {
    const known = this.#told.get(address);
    if (known !== undefined) return known;
    const [oldest] = this.#told.keys();
    if (oldest !== undefined && this.#told.size >= MAX_ADDRESSES) this.#told.delete(oldest);
    const told = { round: -Infinity, at: 0 };
    this.#told.set(address, told);
    return told;
  }

  #expire(now: number): void {
    for (const [replica, at] of this.#heard)
      if (now - at > SILENT_MS) {
        this.#heard.delete(replica);
        this.#loads.forget(replica);
      }
  }
}
