/** An engine's cache and publisher as plain maps: what is really cached, and every message of it, kept or not. */
import { batch, CLEARED, removed, stored } from "./publisher.ts";

export interface Sent {
  readonly sequence: number;
  readonly payload: Buffer;
}

/** Prompts share their first blocks: prompt p and block b are the same as prompt 0's where b is below this. */
const SHARED = 2;
export const PROMPTS = 4;
export const ROUTER_BLOCK = 16;

export class EngineModel {
  readonly blockSize: number;
  readonly #keeps: number;
  /** Hash of a block -> how many equal ones there are. */
  #cached = new Map<bigint, number>();
  #kept: Sent[] = [];
  #next = 0;
  #seed = 1n;
  #time = 1_000_000;

  constructor(blockSize: number, keeps: number) {
    this.blockSize = blockSize;
    this.#keeps = keeps;
  }

  tokens(prompt: number, blocks: number): number[] {
    const at = (token: number): number => (token < SHARED * this.blockSize ? 0 : prompt) * 100_000 + token;
    return Array.from({ length: blocks * this.blockSize }, (_, token) => at(token));
  }

  hash(prompt: number, block: number): bigint {
    const of = BigInt(block < SHARED ? 0 : prompt);
    return BigInt.asUintN(64, (of * 1000n + BigInt(block) + 7n) * 0x9e3779b97f4a7c15n + this.#seed);
  }

  /** Leading blocks of a prompt that are cached. */
  depth(prompt: number, most: number): number {
    let block = 0;
    while (block < most && (this.#cached.get(this.hash(prompt, block)) ?? 0) > 0) block += 1;
    return block;
  }

  /** Stores blocks `from` up to `to` of a prompt; undefined where the one before them is not cached. */
  store(prompt: number, from: number, to: number): Sent | undefined {
    if (from > 0 && !this.#cached.has(this.hash(prompt, from - 1))) return undefined;
    const hashes = Array.from({ length: to - from }, (_, at) => this.hash(prompt, from + at));
    for (const hash of hashes) this.#cached.set(hash, (this.#cached.get(hash) ?? 0) + 1);
    const tokens = this.tokens(prompt, to).slice(from * this.blockSize);
    const parent = from === 0 ? null : this.hash(prompt, from - 1);
    return this.#publish(stored({ hashes, parent, tokens, blockSize: this.blockSize }));
  }

  remove(prompt: number, block: number): Sent | undefined {
    const hash = this.hash(prompt, block);
    const count = this.#cached.get(hash) ?? 0;
    if (count === 0 || (count === 1 && this.#isInner(hash, block))) return undefined;
    if (count === 1) this.#cached.delete(hash);
    else this.#cached.set(hash, count - 1);
    return this.#publish(removed([hash]));
  }

  /** A block of the router may lie over several small ones of the engine, which gives up tails before heads. */
  #isInner(hash: bigint, block: number): boolean {
    if (this.blockSize % ROUTER_BLOCK === 0) return false;
    const prompts = Array.from({ length: PROMPTS }, (_, prompt) => prompt);
    return prompts.some(
      (prompt) => this.hash(prompt, block) === hash && this.#cached.has(this.hash(prompt, block + 1)),
    );
  }

  clear(): Sent {
    this.#cached = new Map();
    return this.#publish(CLEARED);
  }

  /** Another process: other hashes, numbers from 0 on, nothing cached. */
  restart(): void {
    this.#cached = new Map();
    this.#kept = [];
    this.#next = 0;
    this.#seed += 0x1234567n;
  }

  since(sequence: number): readonly Sent[] {
    return this.#kept.filter((sent) => sent.sequence >= sequence);
  }

  #publish(event: object): Sent {
    this.#time += 0.5;
    const sent = { sequence: this.#next++, payload: batch([event], this.#time) };
    this.#kept.push(sent);
    if (this.#kept.length > this.#keeps) this.#kept.shift();
    return sent;
  }
}

/** Frames as a connection hands them on. */
export function framesOf(...parts: readonly Uint8Array[]): [bytes: Uint8Array, frames: Int32Array, count: number] {
  const bytes = Buffer.concat(parts);
  const frames = new Int32Array(2 * parts.length);
  let at = 0;
  parts.forEach((part, index) => frames.set([at, (at += part.length)], 2 * index));
  return [bytes, frames, parts.length];
}

export function numbered(sequence: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(sequence));
  return bytes;
}
