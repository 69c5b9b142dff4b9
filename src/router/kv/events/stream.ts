/**
 * One stream of KV events, of one data-parallel rank of one engine: its order, its decoder and its cache, joined.
 *
 * Pure: whoever has the sockets hands on what came and asks again where it is told to.
 */
import type { EventBatch } from "./batch.ts";
import { EngineCache, type CacheCounts } from "./cache.ts";
import type { TokenChain } from "./chain.ts";
import type { EventDecoder } from "./decode.ts";
import { timeOf } from "./decode.ts";
import { END, published, replayedFrame } from "./framing.ts";
import type { CacheLimits } from "./held.ts";
import type { Numbers } from "./numbers.ts";
import type { Roots } from "./roots.ts";
import { StreamSequence } from "./sequence.ts";

/** What all streams of a thread have in common. */
export interface StreamRoom {
  readonly numbers: Numbers;
  readonly chain: TokenChain;
  readonly roots: Roots;
  readonly batch: EventBatch;
  readonly decoder: EventDecoder;
  readonly counts: CacheCounts;
}

export interface StreamOptions {
  readonly limits: CacheLimits;
  /** Blocks of the router in the engine's whole cache: so many stored since a loss, and all of before is gone. */
  readonly turnover: number;
  readonly replays: boolean;
  readonly ask: (from: number) => void;
}

export class EventStream {
  readonly sequence: StreamSequence;
  readonly #room: StreamRoom;
  readonly #cache: EngineCache;
  #limits: CacheLimits;
  #turnover: number;
  /** Stored since all was forgotten, or since something of before was met. */
  #stored = 0;
  /** Messages that its subscription brought. */
  heard = 0;
  /** Messages that are none. */
  strange = 0;

  constructor(room: StreamRoom, { limits, turnover, replays, ask }: StreamOptions) {
    this.#room = room;
    this.#limits = limits;
    this.#turnover = turnover;
    const renew = { renew: (held: EngineCache["held"] | undefined) => room.numbers.renew(held, this.#limits) };
    this.#cache = new EngineCache({ ...room, ...renew }, room.counts);
    this.sequence = new StreamSequence(
      {
        apply: (payload) => this.#apply(payload),
        clear: () => {
          this.#stored = 0;
          this.#cache.clear();
        },
        replay: ask,
      },
      replays,
    );
  }

  /** Its number in the table, now. */
  get number(): number {
    return this.#cache.held.id;
  }

  /** How often all was forgotten: the engine had nothing any more, or nobody knew what it had. */
  get clears(): number {
    return this.#cache.clears;
  }

  get held(): EngineCache["held"] {
    return this.#cache.held;
  }

  limit(limits: CacheLimits, turnover: number): void {
    this.#limits = limits;
    this.#turnover = turnover;
    this.#cache.held.limit(limits);
  }

  /** What its subscription brought. */
  live(bytes: Uint8Array, frames: Int32Array, count: number): void {
    this.heard += 1;
    const framed = published(bytes, frames, count);
    if (framed === undefined) return void (this.strange += 1);
    const payload = bytes.subarray(framed.from, framed.to);
    this.sequence.live({ sequence: framed.sequence, time: timeOf(payload), payload });
  }

  /** What its replay brought. True at the end of it. */
  replayed(bytes: Uint8Array, frames: Int32Array, count: number): boolean {
    const framed = replayedFrame(bytes, frames, count);
    if (framed === END) this.sequence.replayEnded();
    else if (framed === undefined) this.strange += 1;
    else {
      const payload = bytes.subarray(framed.from, framed.to);
      this.sequence.replayed({ sequence: framed.sequence, time: timeOf(payload), payload });
    }
    return framed === END;
  }

  /** The engine is gone. */
  end(): void {
    this.#room.numbers.retire(this.#cache.held);
  }

  #apply(payload: Uint8Array): { ok: boolean; whole: boolean } {
    const { batch, decoder } = this.#room;
    if (decoder.decode(batch, payload) !== undefined) return { ok: false, whole: false };
    const { counts } = this.#room;
    const [before, orphans] = [counts.stored, orphansOf(counts)];
    const whole = this.#cache.apply(batch);
    // What follows a block that is not known shows that something of before the loss is still there, and in use.
    this.#stored = orphansOf(counts) > orphans ? 0 : this.#stored + counts.stored - before;
    return { ok: true, whole: whole || this.#stored >= this.#turnover };
  }
}

/** Blocks that follow one that is not known. */
const orphansOf = ({ ignored }: CacheCounts): number => ignored.get("parent") ?? 0;
