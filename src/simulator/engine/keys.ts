/**
 * Keys of KV blocks: what makes two blocks the same.
 *
 * As in vLLM a block's key covers its tokens and, through its parent's key, every token before it; a cache salt enters
 * at the first block only and is carried by the chain. vLLM hashes with SHA-256; here 53 bits of a multiplicative mix
 * do (two lanes with different multipliers), because a key never leaves the process: at 100,000 blocks the chance of
 * any two unequal blocks sharing a key is below one in a million.
 */
export type Tokens = readonly number[] | Int32Array;

/** Running state over a sequence of tokens; equal sequences give equal states, and so equal keys. */
class Lanes {
  #low: number;
  #high: number;

  constructor(salt: string) {
    this.#low = 0x2545f491;
    this.#high = 0x6c8e9cf5;
    for (let i = 0; i < salt.length; i += 1) this.add(salt.charCodeAt(i));
  }

  add(token: number): void {
    const low = Math.imul(this.#low ^ token, 0x9e3779b1);
    const high = Math.imul(this.#high ^ token, 0x85ebca77);
    this.#low = low ^ (low >>> 15);
    this.#high = high ^ (high >>> 13);
  }

  key(): number {
    return (this.#high & 0x1fffff) * 0x1_0000_0000 + (this.#low >>> 0);
  }
}

/** Keys of every full block of `tokens`, in order. */
export function blockKeys(tokens: Tokens, blockSize: number, salt = ""): number[] {
  const lanes = new Lanes(salt);
  const keys: number[] = [];
  let filled = 0;
  for (const token of tokens) {
    lanes.add(token);
    filled += 1;
    if (filled < blockSize) continue;
    keys.push(lanes.key());
    filled = 0;
  }
  return keys;
}

/** One key for a whole sequence, whatever the block size of who asks. */
export function sequenceDigest(tokens: Tokens, salt = ""): number {
  const lanes = new Lanes(salt);
  for (const token of tokens) lanes.add(token);
  return lanes.key();
}
