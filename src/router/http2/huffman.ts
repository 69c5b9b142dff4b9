/**
 * HPACK's Huffman code (RFC 7541, appendix B), to be read. The code is canonical: the length of each symbol's code says
 * all of it.
 */

/** Bits of the code of each byte, then of EOS: `A` is 5, `B` is 6, and so on. */
const LENGTHS =
  "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBB" +
  "BABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVV" +
  "XWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ";
const [SHORTEST, LONGEST, EOS] = [5, 30, 256];

interface Code {
  /** Symbols in the order of their codes. */
  readonly symbols: Int16Array;
  /** By length: the first code, and where its symbol stands. */
  readonly first: Int32Array;
  readonly at: Int16Array;
  readonly count: Int16Array;
}

function canonical(): Code {
  const lengths = Array.from(Buffer.from(LENGTHS), (letter) => letter - 65 + SHORTEST);
  const order = lengths.map((_, symbol) => symbol).sort((a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0) || a - b);
  const [first, at, count] = [new Int32Array(LONGEST + 1), new Int16Array(LONGEST + 1), new Int16Array(LONGEST + 1)];
  for (const length of lengths) count[length] = (count[length] ?? 0) + 1;
  let code = 0;
  let place = 0;
  for (let length = SHORTEST; length <= LONGEST; length++) {
    code <<= 1;
    first[length] = code;
    at[length] = place;
    code += count[length] ?? 0;
    place += count[length] ?? 0;
  }
  return { symbols: Int16Array.from(order), first, at, count };
}

const CODE = canonical();

/** The bytes that the code stands for, as a latin1 string; undefined where it is broken. */
export function decodeHuffman(bytes: Buffer): string | undefined {
  const out: number[] = [];
  let code = 0;
  let length = 0;
  for (const byte of bytes)
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((byte >>> bit) & 1);
      length += 1;
      const symbol = symbolOf(code, length);
      if (symbol === undefined) continue;
      if (symbol === EOS) return undefined;
      out.push(symbol);
      code = 0;
      length = 0;
    }
  // What is left is the beginning of EOS, all ones, and less than a byte.
  return length < 8 && code === 2 ** length - 1 ? Buffer.from(out).toString("latin1") : undefined;
}

function symbolOf(code: number, length: number): number | undefined {
  const offset = code - (CODE.first[length] ?? 0);
  return length >= SHORTEST && offset < (CODE.count[length] ?? 0) && offset >= 0
    ? CODE.symbols[(CODE.at[length] ?? 0) + offset]
    : undefined;
}
