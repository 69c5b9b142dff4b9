/**
 * Block keys: the prompt cut into blocks of equal size, each key a hash of the block and of all before it.
 *
 * Equal keys mean equal text from the first byte on, so a cached prefix is the run of known keys from the start. The
 * last, incomplete block has no key. Keys are 64 bits as two int32 words, the form in which the table holds them.
 */
import { CHAIN_WASM } from "./chain.wasm.ts";

/** `keys[2i]` and `keys[2i + 1]`: low and high word of block i. */
export type BlockKeys = Int32Array;

export interface BlockHasher {
  /**
   * @param parts the prompt, in order
   * @param blockBytes bytes of a block
   * @param seed separates models, adapters and tenants: the same text under another seed has other keys
   */
  keys(parts: readonly Uint8Array[], blockBytes: number, seed: string): BlockKeys;
  /** What the first block of a seed is chained to, as a key of one block. */
  root(seed: string): BlockKeys;
}

export const blockCount = (keys: BlockKeys): number => keys.length / 2;

/** Linear memory of the module: the running hash, then the window of the prompt, then the keys of that window. */
const WINDOW_AT = 64;
const WINDOW_BYTES = 65_536;
const KEYS_AT = WINDOW_AT + WINDOW_BYTES;
const PAGE_BYTES = 65_536;
/** A seed is cut to the window, which is this large for blocks of any size that divides it. */
const ROOT_BYTES = 64;

/** What chain.wat exports. */
interface Chain {
  readonly memory: WebAssembly.Memory;
  readonly chain: (at: number, bytes: number, count: number, out: number) => void;
}

/**
 * A hasher with a memory of its own. The whole prompt goes through it in a few calls: one call for each block would cost
 * seven times as much (reference node-performance.md, section 8).
 */
export function createBlockHasher(): BlockHasher {
  const module = new WebAssembly.Module(Buffer.from(CHAIN_WASM, "base64"));
  const { memory, chain } = new WebAssembly.Instance(module).exports as unknown as Chain;
  return {
    keys: (parts, blockBytes, seed) => new PromptHash(memory, chain, blockBytes).keys(parts, seed),
    root: (seed) => new PromptHash(memory, chain, ROOT_BYTES).root(seed),
  };
}

/** One prompt on its way through the memory. */
class PromptHash {
  readonly #memory: WebAssembly.Memory;
  readonly #chain: Chain["chain"];
  readonly #blockBytes: number;
  /** Whole blocks, as many as the window takes; a block larger than the window has one of its own. */
  readonly #window: number;
  #filled = 0;
  #done = 0;

  constructor(memory: WebAssembly.Memory, chain: Chain["chain"], blockBytes: number) {
    this.#memory = memory;
    this.#chain = chain;
    this.#blockBytes = blockBytes;
    this.#window = Math.max(1, Math.min(Math.floor(WINDOW_BYTES / blockBytes), WINDOW_BYTES / 8)) * blockBytes;
  }

  keys(parts: readonly Uint8Array[], seed: string): BlockKeys {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const count = Math.floor(bytes / this.#blockBytes);
    const keys = new Int32Array(count * 2);
    this.#reserve(keys.length);
    this.#seed(seed);
    for (const part of parts) this.#part(part, keys);
    this.#flush(keys);
    return keys;
  }

  root(seed: string): BlockKeys {
    this.#seed(seed);
    return new Int32Array(this.#memory.buffer.slice(0, 8));
  }

  #reserve(words: number): void {
    const needed = this.#keysAt() + Math.min(words * 4, (this.#window / this.#blockBytes) * 8);
    const missing = Math.ceil((needed - this.#memory.buffer.byteLength) / PAGE_BYTES);
    if (missing > 0) this.#memory.grow(missing);
  }

  #keysAt(): number {
    return Math.max(KEYS_AT, WINDOW_AT + Math.ceil(this.#window / 8) * 8);
  }

  /** The seed is hashed as one block after zero; its hash, left at address 0, seeds the first block. */
  #seed(text: string): void {
    const bytes = Buffer.from(text, "utf8").subarray(0, this.#window);
    new BigInt64Array(this.#memory.buffer, 0, 1)[0] = 0n;
    new Uint8Array(this.#memory.buffer).set(bytes, WINDOW_AT);
    this.#chain(WINDOW_AT, bytes.length, 1, this.#keysAt());
  }

  #part(part: Uint8Array, keys: BlockKeys): void {
    for (let at = 0; at < part.length;) {
      const end = Math.min(part.length, at + this.#window - this.#filled);
      new Uint8Array(this.#memory.buffer).set(part.subarray(at, end), WINDOW_AT + this.#filled);
      this.#filled += end - at;
      at = end;
      if (this.#filled === this.#window) this.#flush(keys);
    }
  }

  #flush(keys: BlockKeys): void {
    const count = Math.floor(this.#filled / this.#blockBytes);
    if (count === 0) return;
    this.#chain(WINDOW_AT, this.#blockBytes, count, this.#keysAt());
    keys.set(new Int32Array(this.#memory.buffer, this.#keysAt(), count * 2), this.#done * 2);
    this.#done += count;
    this.#filled = 0;
  }
}
