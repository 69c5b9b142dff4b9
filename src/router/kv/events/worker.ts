/**
 * The thread that follows KV events: the one writer of the table of what engines hold, which the serving thread reads.
 *
 * It is told which engines there are, keeps one follower for each of their ranks, and says five times a second how each
 * stream is. Work in one turn is bounded by what one connection brings (`pace.ts`). Decides nothing about requests.
 */
import type { Clock, MetricLabels, Metrics, Random, ThreadPort, Timers } from "../../../ports.ts";
import { HolderTable, type Geometry } from "../table.ts";
import { EventBatch } from "./batch.ts";
import { newCounts, type CacheCounts } from "./cache.ts";
import { TokenChain } from "./chain.ts";
import { Connection } from "./client.ts";
import { EventDecoder } from "./decode.ts";
import { Follower, type FollowerPorts } from "./follower.ts";
import type { CacheLimits } from "./held.ts";
import type { EventTarget, FromEvents, StreamStatus, ToEvents } from "./messages.ts";
import { Numbers } from "./numbers.ts";
import { pacer } from "./pace.ts";
import { quotas } from "./quota.ts";
import { Roots } from "./roots.ts";
import { EventStream, type StreamRoom } from "./stream.ts";
import { Tally } from "./tally.ts";
import { turns } from "./turns.ts";

export interface EventWorkerOptions {
  readonly geometry: Geometry;
  readonly buffer: SharedArrayBuffer;
  /** Tokens of a block of the router. */
  readonly blockTokens: number;
  readonly blocksPerSecond: number;
  /** What a pool of blocks said is believed for so long. */
  readonly poolMs: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: Metrics & { take(): readonly (readonly [string, string, number, MetricLabels])[] };
}

const SEND_MS = 200;
/** Blocks of engines that are gone are given up in pieces of 3 ms. */
const BURY_MS = 25;
const BURIED = 5000;
/** Rounds of the clock in the life of what a pool said. */
const ROUNDS = 8;
/** Engines that send again at once: each has up to 10,000 messages. */
const REPLAYS = 8;

/** Follows what the other side names, until the thread ends. */
export function serveEvents(port: ThreadPort, options: EventWorkerOptions): void {
  new EventWorker(port, options).start();
}

class EventWorker {
  readonly #port: ThreadPort;
  readonly #options: EventWorkerOptions;
  readonly #table: HolderTable;
  readonly #counts: CacheCounts = newCounts();
  readonly #room: StreamRoom;
  readonly #ports: FollowerPorts;
  readonly #tally: Tally;
  /** By endpoint and rank. */
  #followers = new Map<string, Follower>();
  #version = 0;
  #targets: readonly EventTarget[] = [];
  /** What was said of each stream. */
  #said = new Map<string, string>();

  constructor(port: ThreadPort, options: EventWorkerOptions) {
    const { geometry, buffer, blockTokens, clock, timers, random } = options;
    this.#port = port;
    this.#options = options;
    this.#table = new HolderTable(geometry, buffer);
    const chain = new TokenChain(blockTokens);
    const seed = (): number => Math.floor(random.next() * 2 ** 32) | 0;
    this.#room = {
      ...{ chain, roots: new Roots(chain), batch: new EventBatch(), decoder: new EventDecoder() },
      ...{ numbers: new Numbers(this.#table, seed), counts: this.#counts },
    };
    this.#ports = {
      ...{ clock, timers, random, turn: turns(REPLAYS) },
      dial: (place, events) => new Connection(place, timers, events),
      pace: pacer(this.#counts, clock, options.blocksPerSecond),
    };
    this.#tally = new Tally(options.metrics);
  }

  start(): void {
    const { timers, poolMs } = this.#options;
    this.#port.onMessage((message) => this.#heard(message as ToEvents));
    timers.every(SEND_MS, () => this.#send());
    timers.every(BURY_MS, () => this.#giveUp());
    timers.every(poolMs / ROUNDS, () => {
      for (const { stream } of this.#followers.values()) stream.held.tick(ROUNDS);
    });
  }

  /** Blocks of caches that are gone, and of shares that became smaller as others came: one of those at a time. */
  #giveUp(): void {
    this.#room.numbers.bury(BURIED);
    for (const { stream } of this.#followers.values()) if (!stream.held.trim(BURIED)) return;
  }

  #heard({ version, targets }: ToEvents): void {
    this.#version = version;
    this.#targets = targets;
    this.#said = new Map();
    const all = targets.flatMap((target) => Array.from({ length: target.ranks }, (_, rank) => ({ target, rank })));
    // What the table has no number for is not followed, and nothing is believed of it.
    const streams = all.slice(0, this.#options.geometry.endpoints);
    const limits = quotas(
      streams.map(({ target }) => target),
      this.#options.geometry,
      this.#options.blockTokens,
    );
    const before = this.#followers;
    const kept = new Map<string, Follower>();
    for (const { target, rank } of streams) {
      const follower = before.get(keyOf(target, rank));
      if (follower !== undefined && isSame(follower.target, target)) kept.set(keyOf(target, rank), follower);
    }
    // Those that go leave their numbers to those that come.
    for (const follower of before.values()) if (!kept.has(keyOf(follower.target, follower.rank))) follower.stop();
    this.#followers = kept;
    streams.forEach(({ target, rank }, at) => this.#follow(target, rank, limits[at] as CacheLimits));
  }

  #follow(target: EventTarget, rank: number, limits: CacheLimits): void {
    const turnover = Math.ceil(target.capacityTokens / (target.blockSize ?? this.#options.blockTokens));
    const known = this.#followers.get(keyOf(target, rank));
    if (known !== undefined) {
      known.stream.limit(limits, turnover);
      return;
    }
    const replays = target.replayPort !== undefined;
    const make = (ask: (from: number) => void): EventStream =>
      new EventStream(this.#room, { limits, turnover, replays, ask });
    this.#followers.set(keyOf(target, rank), new Follower(target, rank, make, this.#ports));
  }

  /** Sent even if nothing changed: who hears nothing takes the thread for dead. */
  #send(): void {
    for (const follower of this.#followers.values()) follower.look();
    const streams = this.#targets.flatMap((target, at) =>
      Array.from({ length: target.ranks }, (_, rank) => this.#statusOf(target, at, rank)),
    );
    const { given, waiting } = this.#room.numbers;
    this.#tally.tell(this.#followers.values(), this.#counts, { used: this.#table.used, waiting });
    const message: FromEvents = {
      version: this.#version,
      streams: streams.filter((status) => status !== undefined),
      given,
      adapters: this.#room.roots.adapters,
      told: this.#options.metrics.take(),
    };
    this.#port.post(message);
  }

  /** Undefined where it was said already. */
  #statusOf(target: EventTarget, at: number, rank: number): StreamStatus | undefined {
    const key = keyOf(target, rank);
    const follower = this.#followers.get(key);
    if (follower === undefined) return undefined;
    const { number, held, sequence, clears } = follower.stream;
    const { state, cause } = sequence;
    const now = `${number} ${state} ${cause} ${held.keys} ${held.isTiered} ${clears}`;
    if (this.#said.get(key) === now) return undefined;
    this.#said.set(key, now);
    return { target: at, rank, number, state, cause, clears, blocks: held.keys, tiered: held.isTiered };
  }
}

const keyOf = ({ id }: EventTarget, rank: number): string => `${id}#${rank}`;

/** The same engine process at the same place. */
const isSame = (one: EventTarget, other: EventTarget): boolean =>
  one.bootId === other.bootId &&
  one.guessed === other.guessed &&
  one.host === other.host &&
  one.port === other.port &&
  one.replayPort === other.replayPort;
