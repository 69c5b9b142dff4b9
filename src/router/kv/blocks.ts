/**
 * Block keys: the prompt cut into blocks of equal size, each key a hash of the block and of all before it.
 *
 * Equal keys mean equal text from the first byte on, so a cached prefix is the run of known keys from the start. The
 * last, incomplete block has no key. Keys are 64 bits as two int32 words, the form in which a shared-memory table
 * holds them.
 */
import xxhash from "xxhash-wasm";

/** `keys[2i]` and `keys[2i + 1]`: low and high word of block i. */
export type BlockKeys = Int32Array;

export interface BlockHasher {
  /**
   * @param parts the prompt, in order
   * @param blockBytes bytes of a block
   * @param seed separates models, adapters and tenants: the same text under another seed has other keys
   */
  keys(parts: readonly Buffer[], blockBytes: number, seed: string): BlockKeys;
}

export const blockCount = (keys: BlockKeys): number => keys.length / 2;

export async function createBlockHasher(): Promise<BlockHasher> {
  const hash = await xxhash();
  return {
    keys: (parts, blockBytes, seed) => {
      const text = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
      const count = Math.floor(text.length / blockBytes);
      const keys = new Int32Array(count * 2);
      let chain = hash.h64(seed);
      for (let block = 0; block < count; block++) {
        // The hash of a block is the seed of the next: the chain carries everything before it.
        chain = hash.h64Raw(text.subarray(block * blockBytes, (block + 1) * blockBytes), chain);
        keys[block * 2] = Number(chain & 0xffffffffn) | 0;
        keys[block * 2 + 1] = Number(chain >> 32n) | 0;
      }
      return keys;
    },
  };
}
