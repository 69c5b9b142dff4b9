/**
 * Block keys of tokens, from any point of a chain on: the key of a block is the hash of its tokens, seeded with the key of the
 * block before it. The same keys as `BlockHasher` makes of all tokens at once, four bytes a token, little endian.
 */
import { createBlockHasher } from "../blocks.ts";
import { CHAIN_WASM } from "../chain.wasm.ts";

/** Tokens of one call at most; the memory of the module begins with the seed, then tokens, then keys. */
const MOST_TOKENS = 16_384;
const TOKENS_AT = 64;
const KEYS_AT = TOKENS_AT + 4 * MOST_TOKENS;

/** A point of a chain: the key of the block that ends there, as words. */
export interface ChainPoint {
  low: number;
  high: number;
}

type Chain = (at: number, bytes: number, count: number, out: number) => void;

export class TokenChain {
  /** Tokens of a block. */
  readonly blockTokens: number;
  readonly #memory: Int32Array;
  readonly #chain: Chain;
  readonly #hasher = createBlockHasher();

  constructor(blockTokens: number) {
    this.blockTokens = blockTokens;
    const module = new WebAssembly.Module(Buffer.from(CHAIN_WASM, "base64"));
    const exported = new WebAssembly.Instance(module).exports;
    const memory = exported["memory"] as WebAssembly.Memory;
    memory.grow(Math.ceil((KEYS_AT + 8 * MOST_TOKENS - memory.buffer.byteLength) / 65_536));
    this.#memory = new Int32Array(memory.buffer);
    this.#chain = exported["chain"] as Chain;
  }

  /** Where the chains of a seed begin. */
  root(seed: string): ChainPoint {
    const [low = 0, high = 0] = this.#hasher.root(seed);
    return { low, high };
  }

  /**
   * Keys of the whole blocks among `count` tokens from `from` on, into `out` as pairs of words; how many. `point` moves to
   * behind the last one.
   */
  extend(point: ChainPoint, tokens: Int32Array, [from, count]: readonly [number, number], out: Int32Array): number {
    const most = Math.floor(MOST_TOKENS / this.blockTokens);
    const blocks = Math.floor(count / this.blockTokens);
    for (let done = 0; done < blocks; done += most) {
      const now = Math.min(most, blocks - done);
      const at = from + done * this.blockTokens;
      this.#call(point, tokens.subarray(at, at + now * this.blockTokens), now);
      out.set(this.#memory.subarray(KEYS_AT / 4, KEYS_AT / 4 + 2 * now), 2 * done);
    }
    return blocks;
  }

  #call(point: ChainPoint, tokens: Int32Array, blocks: number): void {
    const memory = this.#memory;
    memory[0] = point.low;
    memory[1] = point.high;
    memory.set(tokens, TOKENS_AT / 4);
    this.#chain(TOKENS_AT, 4 * this.blockTokens, blocks, KEYS_AT);
    point.low = memory[0];
    point.high = memory[1];
  }
}
