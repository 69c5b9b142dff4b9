/**
 * Tokenises text piece by piece, so that what was seen before is not tokenised again.
 *
 * Tokens that stand for themselves (`<|im_start|>`) are cut out of the text before anything else looks at it, so the text
 * between two of them has the same tokens wherever it stands. Pieces are kept by their digest, never as text. Whether
 * that holds for a tokenizer is not believed but tried, with the probes below.
 *
 * Order of matching as in Hugging Face's `AddedVocabulary`: the leftmost, of those the longest; white space before
 * (`lstrip`) and after (`rstrip`) belongs to the token.
 */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";

/** An entry of `added_tokens` in tokenizer.json. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly normalized: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly single_word: boolean;
}

export interface Encoder {
  /** @param special whether the tokens that begin or end every text are added */
  encode(text: string, special: boolean): Promise<readonly number[]>;
}

/** Ids of pieces by digest of model and text. Shared by all models of a thread. */
export type PieceCache = LRUCache<string, Int32Array>;

/** What an entry costs beside its ids: key, node, typed array. */
const ENTRY_BYTES = 256;

export const createPieceCache = (maxBytes: number): PieceCache =>
  new LRUCache({ maxSize: maxBytes, sizeCalculation: (ids) => ids.byteLength + ENTRY_BYTES });

/** Rust's `char::is_whitespace`, which is not JavaScript's `\s`. */
const SPACE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]*";
const [SPACE_AFTER, SPACE_BEFORE] = [new RegExp(SPACE, "y"), new RegExp(`${SPACE}$`)];

/** Text, or the id of a token that stands for itself. */
export type Piece = string | number;

/** Cuts text at the tokens that stand for themselves. */
export class Cutter {
  /** First character -> tokens that begin with it, the longest first. */
  readonly #byFirst = new Map<string, AddedToken[]>();
  readonly #first: RegExp | undefined;
  /** False where a token asks for what cannot be seen in a piece. */
  readonly canCut: boolean;

  constructor(added: readonly AddedToken[]) {
    const cutting = added.filter(({ normalized, content }) => !normalized && content !== "");
    this.canCut = cutting.length > 0 && cutting.every(({ single_word }) => !single_word);
    for (const token of cutting) {
      const first = token.content.charAt(0);
      this.#byFirst.set(first, [...(this.#byFirst.get(first) ?? []), token]);
    }
    for (const tokens of this.#byFirst.values()) tokens.sort((a, b) => b.content.length - a.content.length);
    const set = [...this.#byFirst.keys()].map((each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
    this.#first = set.length === 0 ? undefined : new RegExp(`[${set.join("")}]`, "g");
  }

  cut(text: string): Piece[] {
    const pieces: Piece[] = [];
    let from = 0;
    for (let found = this.#next(text, 0); found !== undefined; found = this.#next(text, from)) {
      const { at, token } = found;
      const before = text.slice(from, at);
      const kept = token.lstrip ? before.replace(SPACE_BEFORE, "") : before;
      if (kept !== "") pieces.push(kept);
      pieces.push(token.id);
      from = at + token.content.length;
      if (token.rstrip) from += spaceAt(text, from);
    }
    if (from < text.length) pieces.push(text.slice(from));
    return pieces;
  }

  #next(text: string, from: number): { at: number; token: AddedToken } | undefined {
    const first = this.#first;
    if (first === undefined) return undefined;
    first.lastIndex = from;
    for (let match = first.exec(text); match !== null; match = first.exec(text)) {
      const at = match.index;
      const token = this.#byFirst.get(match[0])?.find(({ content }) => text.startsWith(content, at));
      if (token !== undefined) return { at, token };
    }
    return undefined;
  }
}

function spaceAt(text: string, from: number): number {
  SPACE_AFTER.lastIndex = from;
  return SPACE_AFTER.exec(text)?.[0].length ?? 0;
}

export class SegmentTokenizer {
  readonly #name: string;
  readonly #encoder: Encoder;
  readonly #cutter: Cutter;
  readonly #cache: PieceCache;
  #segments = false;
  /** What the tokenizer puts around a text, where special tokens are asked for. */
  #around: { readonly before: readonly number[]; readonly after: readonly number[] } = { before: [], after: [] };

  /** @param name distinguishes models, and versions of their files, in the cache */
  constructor(name: string, encoder: Encoder, added: readonly AddedToken[], cache: PieceCache) {
    this.#name = name;
    this.#encoder = encoder;
    this.#cutter = new Cutter(added);
    this.#cache = cache;
  }

  /** Whether pieces are kept. */
  get segments(): boolean {
    return this.#segments;
  }

  /** Tries whether pieces give what the whole gives. To be called once, before the first text. */
  async prove(probes: readonly string[]): Promise<void> {
    if (!this.#cutter.canCut) return;
    const around = await this.#findAround();
    if (around === undefined) return;
    this.#around = around;
    for (const probe of probes) {
      const whole = await this.#encoder.encode(probe, true);
      if (!isSame(whole, await this.#pieces(probe, true))) return;
    }
    this.#segments = true;
  }

  /** @param scope pieces of one are not answered from those of another */
  async tokens(text: string, special: boolean, scope = ""): Promise<Int32Array> {
    if (this.#segments) return this.#pieces(text, special, scope);
    return Int32Array.from(await this.#encoder.encode(text, special));
  }

  async #findAround(): Promise<{ before: number[]; after: number[] } | undefined> {
    const [bare, full] = [await this.#encoder.encode("a", false), await this.#encoder.encode("a", true)];
    const at = full.findIndex((_, index) => isSame(full.slice(index, index + bare.length), bare));
    return bare.length === 0 || at === -1
      ? undefined
      : { before: full.slice(0, at), after: full.slice(at + bare.length) };
  }

  async #pieces(text: string, special: boolean, scope = ""): Promise<Int32Array> {
    const parts: (readonly number[] | Int32Array)[] = special ? [this.#around.before] : [];
    for (const piece of this.#cutter.cut(text))
      parts.push(typeof piece === "number" ? [piece] : await this.#piece(piece, scope));
    if (special) parts.push(this.#around.after);
    return joined(parts);
  }

  async #piece(text: string, scope: string): Promise<Int32Array> {
    const whose = JSON.stringify([this.#name, scope]);
    const key = createHash("sha256").update(whose).update("\0").update(text).digest("base64url");
    const known = this.#cache.get(key);
    if (known !== undefined) return known;
    const ids = Int32Array.from(await this.#encoder.encode(text, false));
    this.#cache.set(key, ids);
    return ids;
  }
}

function joined(parts: readonly (readonly number[] | Int32Array)[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const isSame = (a: ArrayLike<number>, b: ArrayLike<number>): boolean =>
  a.length === b.length && Array.prototype.every.call(a, (id, index) => id === b[index]);

/** Texts in which a boundary would show: spaces, line ends, scripts and marks on either side of a token. */
const EDGES = [
  "",
  "a",
  " ",
  "  ",
  "\n",
  "\n\n",
  " a",
  "a ",
  "1",
  "你好",
  "e\u0301",
  "\u0301",
  "🙂",
  "'s",
  "_",
  ".\n",
  "\t",
];
/** More tokens than this say nothing new: vocabularies reserve hundreds that are all alike. */
const PROBED_TOKENS = 12;

/** Every edge before and after tokens of the vocabulary, tokens next to each other, and none at all. */
export function probesOf(added: readonly AddedToken[]): string[] {
  const tokens = added.filter(({ normalized }) => !normalized).map(({ content }) => content);
  const some = [...tokens.slice(0, PROBED_TOKENS), ...tokens.slice(-2)];
  const around = some.map((token) => EDGES.map((edge) => `${edge}${token}${edge}`).join(token));
  const mixed = EDGES.map((edge, index) => `x${edge}${some[index % Math.max(1, some.length)] ?? ""}${edge}y`).join("");
  return ["", "Hello world", " leading and trailing ", mixed, ...around, some.join(""), some.join(" ")];
}
