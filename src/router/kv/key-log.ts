/** The keys that one generation of a history was given, in the order in which they came, to be given up one by one. */
import type { BlockKeys } from "./blocks.ts";

/** Keys of one piece: a generation of few blocks takes a kilobyte, and one of many is not copied as it grows. */
const PIECE_KEYS = 128;

/** Pieces that were given back: what a full memory gives up it takes again at once, with nothing to collect. */
export class KeyPieces {
  readonly #free: Int32Array[] = [];

  take(): Int32Array {
    return this.#free.pop() ?? new Int32Array(PIECE_KEYS * 2);
  }

  giveBack(piece: Int32Array): void {
    this.#free.push(piece);
  }
}

export class KeyLog {
  readonly #stock: KeyPieces;
  readonly #pieces: Int32Array[] = [];
  #size = 0;

  constructor(stock: KeyPieces) {
    this.#stock = stock;
  }

  /** Keys in it. */
  get size(): number {
    return this.#size;
  }

  add(keys: BlockKeys, block: number): void {
    const at = this.#size % PIECE_KEYS;
    if (at === 0) this.#pieces.push(this.#stock.take());
    const piece = this.#pieces.at(-1);
    if (piece === undefined) return;
    piece[at * 2] = keys[block * 2] ?? 0;
    piece[at * 2 + 1] = keys[block * 2 + 1] ?? 0;
    this.#size += 1;
  }

  /** Takes out up to `most` keys, the last ones first; how many there were. */
  take(most: number, each: (keys: BlockKeys, block: number) => void): number {
    const count = Math.min(most, this.#size);
    for (let left = count; left > 0; left--) {
      this.#size -= 1;
      const at = this.#size % PIECE_KEYS;
      const piece = this.#pieces.at(-1);
      if (piece === undefined) break;
      each(piece, at);
      if (at === 0) this.#stock.giveBack(this.#pieces.pop() ?? piece);
    }
    return count;
  }
}
