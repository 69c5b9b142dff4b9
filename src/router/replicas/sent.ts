/**
 * What this router sent where, kept for the other replicas: the newest picks, each with all keys of its prompt's blocks.
 *
 * Whoever reads holds a position of its own, so one list serves all of them and memory does not grow with replicas. One
 * that was away for longer than the list reaches has lost what fell out of it; a new one begins with the oldest.
 */
import type { BlockKeys } from "../kv/blocks.ts";
import type { PrefixIndex, PrefixMatches } from "../kv/index.ts";

/** Blocks that an endpoint was sent. */
export interface Sent {
  readonly endpoint: string;
  readonly keys: BlockKeys;
}

/** Picks that one replica is told at once. */
export interface SentBatch {
  readonly sent: readonly Sent[];
  /** Position behind them. */
  readonly next: number;
  /** Fell out before they were read. */
  readonly lost: number;
}

/** Blocks in one message: who hears it records for half a millisecond, three where all of them are new, and serves in between. */
export const MAX_BATCH_BLOCKS = 4096;
/** Picks in one message. */
export const MAX_BATCH = 256;
/** Longer prompts are told in parts, as whole blocks say enough by themselves. */
export const MAX_SENT_BLOCKS = 2048;
/** A million blocks: 4 s of a thousand requests a second with 16 KB each. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;
/** Beside its keys, about. */
const BYTES_OF_ENTRY = 256;
const BYTES_OF_KEY = 8;

const blocksOf = ({ keys }: Sent): number => keys.length / 2;
const bytesOf = (sent: Sent): number => BYTES_OF_ENTRY + blocksOf(sent) * BYTES_OF_KEY;

export class SentLog {
  readonly #maxBytes: number;
  /** By position. */
  readonly #entries = new Map<number, Sent>();
  #first = 0;
  #end = 0;
  #bytes = 0;

  /** @param maxBytes kept, the newest */
  constructor(maxBytes = MAX_KEPT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that are held, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Tails first, as the index records them: it forgets tails before heads. */
  add(endpoint: string, keys: BlockKeys): void {
    for (let end = keys.length; end > 0;) {
      const begin = Math.max(0, end - 2 * MAX_SENT_BLOCKS);
      this.#push({ endpoint, keys: begin === 0 && end === keys.length ? keys : keys.subarray(begin, end) });
      end = begin;
    }
  }

  /** Position behind the newest. */
  get end(): number {
    return this.#end;
  }

  /** As many as one message takes, from a position on and before `end`; 0 is the oldest there is. */
  from(position: number, end = this.#end): SentBatch {
    const begin = Math.max(position, this.#first);
    const sent: Sent[] = [];
    let blocks = 0;
    for (let at = begin; at < end && sent.length < MAX_BATCH; at++) {
      const entry = this.#entries.get(at);
      if (entry === undefined || blocks + blocksOf(entry) > MAX_BATCH_BLOCKS) break;
      blocks += blocksOf(entry);
      sent.push(entry);
    }
    return { sent, next: begin + sent.length, lost: position === 0 ? 0 : begin - position };
  }

  #push(sent: Sent): void {
    this.#entries.set(this.#end++, sent);
    this.#bytes += bytesOf(sent);
    while (this.#bytes > this.#maxBytes) this.#drop();
  }

  #drop(): void {
    const oldest = this.#entries.get(this.#first);
    if (oldest === undefined) return;
    this.#entries.delete(this.#first++);
    this.#bytes -= bytesOf(oldest);
  }
}

/** The index of a router that has replicas: what it records itself is kept for them, what it hears from them is not. */
export class ToldIndex implements PrefixIndex {
  readonly #index: PrefixIndex;
  readonly #log: SentLog;

  constructor(index: PrefixIndex, log: SentLog) {
    this.#index = index;
    this.#log = log;
  }

  get blocks(): number {
    return this.#index.blocks;
  }

  match(keys: BlockKeys): PrefixMatches {
    return this.#index.match(keys);
  }

  record(endpoint: string, keys: BlockKeys): void {
    this.#index.record(endpoint, keys);
    this.#log.add(endpoint, keys);
  }

  resize(endpoint: string, blocks: number): void {
    this.#index.resize(endpoint, blocks);
  }

  forget(endpoint: string): void {
    this.#index.forget(endpoint);
  }

  keep(endpoints: ReadonlySet<string>): void {
    this.#index.keep(endpoints);
  }
}
