/**
 * What the benchmark of the ext_proc engine runs on: request bodies, and what the prefix index holds before the first of
 * them. Made here, and in `peers/grpc-go/content` for the other server and the load, by the same rules:
 *
 * - A corpus of 4,096 lines of 64 bytes: letters and spaces from Xorshift (seed * 2654435761 | 1), each line ending in
 *   `\n`, every eighth in `\"\n`, as JSON writes them.
 * - A message of n bytes: its role, a number of ten digits, whole lines of the corpus from mix(number ^ seed) on, 16
 *   lines further for each turn, filled up with `x`.
 * - A conversation: turns of 256 bytes (1,024 in bodies of 4 KiB and more) that make three quarters of a body. The first
 *   is one of 16 system prompts, so that those stand in the index under nearly every endpoint.
 * - Conversation c is held by one endpoint, every eighth by two, every 64th by six, from mix(c ^ seed) on.
 * - A request goes on with a conversation, every fourth with one of four that everybody talks in, by a turn that nobody
 *   has seen: no two bodies are alike.
 */
import type { PrefixIndex } from "../../../src/router/kv/index.ts";
import type { BlockHasher, BlockKeys } from "../../../src/router/kv/blocks.ts";

export const MODEL = "bench";
export const BLOCK_BYTES = 256;

const LINE_BYTES = 64;
const LINES = 4096;
const SYSTEMS = 16;
const HOT = 4;
const BODY_HEAD = `{"model":"${MODEL}","messages":`;
const BODY_TAIL = `],"max_tokens":128,"stream":false}`;

export interface ContentSpec {
  readonly seed: number;
  /** At least 6. */
  readonly endpoints: number;
  /** Blocks of conversations in the index, about. */
  readonly blocks: number;
  /** Of each request, exactly; at least 1,024. */
  readonly bodyBytes: number;
}

export class Content {
  readonly spec: ContentSpec;
  readonly conversations: number;
  readonly #corpus: Buffer;
  readonly #turnBytes: number;
  readonly #turns: number;

  constructor(spec: ContentSpec) {
    this.spec = spec;
    this.#corpus = corpus(spec.seed);
    this.#turnBytes = spec.bodyBytes >= 4096 ? 1024 : 256;
    this.#turns = Math.max(2, Math.floor(Math.floor((spec.bodyBytes * 3) / 4) / this.#turnBytes));
    const own = Math.floor((this.#turns * (this.#turnBytes + 1)) / BLOCK_BYTES) - this.#turnBytes / BLOCK_BYTES;
    this.conversations = Math.max(1, Math.floor(spec.blocks / own));
  }

  /** Blocks of a prompt that are of the system prompt alone. */
  get systemBlocks(): number {
    return Math.floor((1 + this.#turnBytes) / BLOCK_BYTES);
  }

  /** The one that a request goes on with. */
  conversation(request: number): number {
    const choice = mix(this.spec.seed + request);
    return choice % (choice >>> 30 === 0 ? Math.min(HOT, this.conversations) : this.conversations);
  }

  /** Endpoints that hold a conversation. */
  holders(conversation: number): number[] {
    const { seed, endpoints } = this.spec;
    const count = conversation % 64 === 0 ? 6 : conversation % 8 === 0 ? 2 : 1;
    const first = mix(conversation ^ seed) % endpoints;
    return Array.from({ length: count }, (_, k) => (first + k) % endpoints);
  }

  /** The start of a prompt: the opening bracket and the turns that the index holds. */
  prefix(conversation: number): Buffer {
    const turns = Array.from({ length: this.#turns }, (_, turn) => {
      const role = turn === 0 ? "system" : turn % 2 === 1 ? "user" : "assistant";
      const number = turn === 0 ? conversation % SYSTEMS : conversation;
      return [Buffer.from(turn === 0 ? "[" : ","), this.#message({ role, number, turn }, this.#turnBytes)];
    });
    return Buffer.concat(turns.flat());
  }

  body(request: number): Buffer {
    const prefix = this.prefix(this.conversation(request));
    const left = this.spec.bodyBytes - BODY_HEAD.length - prefix.length - 1 - BODY_TAIL.length;
    const last = this.#message({ role: "user", number: request, turn: this.#turns }, left);
    return Buffer.concat([Buffer.from(BODY_HEAD), prefix, Buffer.from(","), last, Buffer.from(BODY_TAIL)]);
  }

  /** The bytes of a body that block keys are made of: its messages without the closing bracket. */
  prompt(request: number): Buffer {
    return this.body(request).subarray(BODY_HEAD.length, -BODY_TAIL.length);
  }

  #message({ role, number, turn }: { role: string; number: number; turn: number }, size: number): Buffer {
    const head = `{"role":"${role}","content":"${String(number).padStart(10, "0")} `;
    const out = Buffer.alloc(size, "x");
    let at = out.write(head, "latin1");
    const first = (mix(number ^ this.spec.seed) % LINES) + turn * 16;
    const lines = Math.floor((size - head.length - 2) / LINE_BYTES);
    for (let line = first; line < first + lines; line++) {
      const from = (line % LINES) * LINE_BYTES;
      at += this.#corpus.copy(out, at, from, from + LINE_BYTES);
    }
    out.write('"}', size - 2, "latin1");
    return out;
  }
}

export const addressOf = (endpoint: number): string => `10.64.${endpoint >> 8}.${endpoint & 255}:8000`;

/**
 * Puts all conversations into an index, as if they had been served. Those that are not in `asked`, where it is given,
 * stand there with as many keys, but of no text: nobody asks for them, and making the text takes most of the time.
 */
export function fill(
  content: Content,
  index: PrefixIndex,
  { hasher, idOf, asked }: { hasher: BlockHasher; idOf: (endpoint: number) => string; asked?: ReadonlySet<number> },
): void {
  const keysOf = (conversation: number): BlockKeys => hasher.keys([content.prefix(conversation)], BLOCK_BYTES, MODEL);
  const like = asked === undefined ? [] : Array.from({ length: SYSTEMS }, (_, system) => keysOf(system));
  for (let conversation = 0; conversation < content.conversations; conversation++) {
    const known = asked?.has(conversation) !== false;
    const keys = known ? keysOf(conversation) : withoutText(like[conversation % SYSTEMS], content, conversation);
    for (const endpoint of content.holders(conversation)) index.record(idOf(endpoint), keys);
  }
}

/** The keys of the system prompt, and keys of nothing. */
function withoutText(like: BlockKeys = new Int32Array(), content: Content, conversation: number): BlockKeys {
  const keys = like.slice();
  for (let at = content.systemBlocks * 2; at < keys.length; at++) keys[at] = mix(conversation * 4099 + at);
  return keys;
}

/** The sum of picks that both sides compare: FNV-1a, 64 bits, over each address and a line feed. */
export function checksum(addresses: readonly string[]): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(addresses.map((address) => `${address}\n`).join("")))
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, "0");
}

function corpus(seed: number): Buffer {
  const text = Buffer.alloc(LINES * LINE_BYTES);
  let state = Math.imul(seed, 2654435761) | 1;
  for (let at = 0; at < text.length; at++) {
    // Marsaglia, Xorshift RNGs, Journal of Statistical Software 8 (2003), triple 13, 17, 5.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const letter = (state >>> 8) & 31;
    text[at] = letter < 26 ? 0x61 + letter : 0x20;
  }
  for (let line = 0; line < LINES; line++) {
    const end = (line + 1) * LINE_BYTES;
    text.write(line % 8 === 7 ? '\\"\\n' : "\\n", end - (line % 8 === 7 ? 4 : 2), "latin1");
  }
  return text;
}

/** The finalizer of MurmurHash3: neighbours in, strangers out. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
