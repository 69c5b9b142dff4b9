/**
 * One data-parallel rank of an engine: a prefix cache with least recently used blocks, and libzmq's sockets that tell of it;
 * between both what a fault does to messages. What is really cached is known here at every moment.
 */
import { EventPublisher, batch, CLEARED, removed, stored } from "../../support/events/publisher.ts";
import type { Sent } from "../../support/events/engine-model.ts";

export const BLOCK_TOKENS = 16;

/** A prompt as the identities of its blocks, each of which stands for itself and all before it. */
export type Blocks = readonly number[];

/** What becomes of messages on their way. */
export type Network = "straight" | "lost" | "late" | "shuffled";

export interface RankOptions {
  /** Blocks that its cache holds. */
  readonly capacity: number;
  readonly replays: boolean;
  readonly random: () => number;
  readonly port: number;
  readonly replayPort: number;
}

const LOST = 0.1;
const LATE_MS = 2000;
/** Messages that change places, and how long the first of them waits for the others. */
const WINDOW = 6;
const WINDOW_MS = 30;
const KEPT = 10_000;

export const tokensOf = (block: number): number[] =>
  Array.from(
    { length: BLOCK_TOKENS },
    (_, at) => (Math.imul(block * BLOCK_TOKENS + at + 1, 0x9e3779b1) >>> 0) % 150_000,
  );

export class Rank {
  network: Network = "straight";
  /** Bits of the engine's hashes that differ: few, and different blocks have the same. */
  hashBits = 64;
  isUp = false;
  lost = 0;
  /** When each block went, milliseconds of the monotonic clock. */
  readonly goneAt = new Map<number, number>();
  readonly #options: RankOptions;
  /** The oldest first. */
  #cached = new Map<number, bigint>();
  #publisher: EventPublisher | undefined;
  #kept: Sent[] = [];
  #window: Sent[] = [];
  #late: Sent[] = [];
  #next = 0;
  #seed = 1n;
  /** Sends one after another: a socket takes no two at once. */
  #sending: Promise<unknown> = Promise.resolve();
  #incarnation = 0;

  constructor(options: RankOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { port, replayPort, replays } = this.#options;
    const source = (from: number): readonly Sent[] => this.#kept.filter(({ sequence }) => sequence >= from);
    this.#publisher = await EventPublisher.start({ topic: true, port, replayPort, replays, source });
    this.isUp = true;
  }

  /** The process ends; what it held is gone. */
  stop(): void {
    this.isUp = false;
    this.#incarnation += 1;
    this.#publisher?.stop();
    this.#forget();
    [this.#kept, this.#window, this.#late, this.#next] = [[], [], [], 0];
    this.#seed += 0x1234567n;
  }

  /** Leading blocks that are cached. */
  depth(blocks: Blocks): number {
    const missing = blocks.findIndex((block) => !this.#cached.has(block));
    return missing < 0 ? blocks.length : missing;
  }

  /** Computes a prompt: its blocks are cached, the oldest of others go, and both is told in one message. */
  serve(blocks: Blocks): void {
    const events = this.#store(blocks);
    // The head of a prompt is used last, so that tails go before heads.
    for (const block of blocks.toReversed()) {
      const hash = this.#cached.get(block) ?? 0n;
      this.#cached.delete(block);
      this.#cached.set(block, hash);
    }
    const gone = this.#evict();
    if (gone.length > 0) events.push(removed(gone));
    if (events.length > 0) this.#publish(events);
  }

  clear(): void {
    this.#forget();
    this.#publish([CLEARED]);
  }

  /** What waits to be sent is sent, in whatever order. */
  calm(): void {
    this.network = "straight";
    this.#catchUp();
    this.#flush();
  }

  /** One event for each run of blocks that are new. */
  #store(blocks: Blocks): object[] {
    const events: object[] = [];
    for (let from = 0; from < blocks.length; from++) {
      const known = this.#cached.has(blocks[from] as number);
      let to = from;
      while (to < blocks.length && !this.#cached.has(blocks[to] as number)) this.#add(blocks[to++] as number);
      if (!known) events.push(this.#told(blocks, from, to));
      from = Math.max(from, to - 1);
    }
    return events;
  }

  #add(block: number): void {
    const spread = (BigInt(block) + 7n) * 0x9e3779b97f4a7c15n + this.#seed;
    this.#cached.set(block, BigInt.asUintN(64, spread) >> BigInt(64 - this.hashBits));
  }

  #told(blocks: Blocks, from: number, to: number): object {
    const hash = (at: number): bigint => this.#cached.get(blocks[at] as number) ?? 0n;
    const run = blocks.slice(from, to);
    const hashes = run.map((_, at) => hash(from + at));
    const parent = from === 0 ? null : hash(from - 1);
    return stored({ hashes, parent, tokens: run.flatMap(tokensOf), blockSize: BLOCK_TOKENS });
  }

  #evict(): bigint[] {
    const gone: bigint[] = [];
    for (const [block, hash] of this.#cached) {
      if (this.#cached.size <= this.#options.capacity) break;
      this.#cached.delete(block);
      this.goneAt.set(block, performance.now());
      gone.push(hash);
    }
    return gone;
  }

  #forget(): void {
    for (const block of this.#cached.keys()) this.goneAt.set(block, performance.now());
    this.#cached = new Map();
  }

  #publish(events: readonly object[]): void {
    const sent = { sequence: this.#next++, payload: batch(events, Date.now() / 1000) };
    if (this.network === "late") {
      // The publisher itself is behind: what it has not sent it does not send again either.
      this.#late.push(sent);
      setTimeout(() => this.#catchUp(sent), LATE_MS);
      return;
    }
    this.#keep(sent);
    if (this.network === "lost" && this.#options.random() < LOST) this.lost += 1;
    else if (this.network === "shuffled") this.#shuffle(sent);
    else this.#send(sent);
  }

  /** Sends what waits, up to this one or all of it. */
  #catchUp(last?: Sent): void {
    const at = last === undefined ? this.#late.length - 1 : this.#late.indexOf(last);
    for (const sent of this.#late.splice(0, at + 1)) this.#send(this.#keep(sent));
  }

  #keep(sent: Sent): Sent {
    this.#kept.push(sent);
    if (this.#kept.length > KEPT) this.#kept.shift();
    return sent;
  }

  #shuffle(sent: Sent): void {
    this.#window.push(sent);
    if (this.#window.length === 1) setTimeout(() => this.#flush(), WINDOW_MS * this.#options.random());
    if (this.#window.length >= WINDOW) this.#flush();
  }

  #flush(): void {
    const order = this.#window.map((sent) => ({ sent, at: this.#options.random() }));
    this.#window = [];
    for (const { sent } of order.sort((a, b) => a.at - b.at)) this.#send(sent);
  }

  #send({ sequence, payload }: Sent): void {
    const publisher = this.#publisher;
    const incarnation = this.#incarnation;
    this.#sending = this.#sending.then(async () => {
      // Closed meanwhile: the process is gone.
      if (incarnation === this.#incarnation) await publisher?.raw(sequence, payload).catch(() => undefined);
    });
  }
}
