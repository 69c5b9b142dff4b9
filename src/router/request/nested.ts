/**
 * The grammar inside an array or object (RFC 8259): what may follow what, token by token.
 *
 * Strict, as engines are: what one of them refuses is not worth a place in its queue, and what two readers read in two
 * ways has no place at all. State and bytes come from scan.ts, so a value may be cut anywhere.
 */
import { isScalar, ScanError, stringEnd } from "./json.ts";
import { SHORTEST_NOTED, type Media } from "./media.ts";

/** Deeper JSON is refused: nobody's chat needs it, and engines parse recursively. */
const MAX_DEPTH = 64;
/** No number that an API takes is longer, and the check of a number is a regular expression. */
export const MAX_SCALAR_BYTES = 400;

/** Kinds of bytes outside of strings; 0: none that JSON has. */
const [SPACE, QUOTE, OPEN_OBJECT, OPEN_ARRAY, CLOSE, COLON, COMMA, SCALAR] = [1, 2, 3, 4, 5, 6, 7, 8] as const;
const KINDS = kinds({
  " \n\r\t": SPACE,
  '"': QUOTE,
  "{": OPEN_OBJECT,
  "[": OPEN_ARRAY,
  "]}": CLOSE,
  ":": COLON,
  ",": COMMA,
});

function kinds(table: Readonly<Record<string, number>>): Uint8Array {
  const all = new Uint8Array(256);
  for (const byte of Buffer.from("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    all[byte] = SCALAR;
  for (const [characters, kind] of Object.entries(table)) for (const byte of Buffer.from(characters)) all[byte] = kind;
  return all;
}

/** What is waited for. */
const [VALUE, FIRST_VALUE, KEY, FIRST_KEY, AFTER_KEY, AFTER_VALUE] = [0, 1, 2, 3, 4, 5] as const;
const ANY_VALUE = (1 << QUOTE) | (1 << OPEN_OBJECT) | (1 << OPEN_ARRAY) | (1 << SCALAR);
/** By what is waited for: the kinds of bytes that may come, and the words where another does. */
const TAKES = [
  ANY_VALUE,
  ANY_VALUE | (1 << CLOSE),
  1 << QUOTE,
  (1 << QUOTE) | (1 << CLOSE),
  1 << COLON,
  (1 << COMMA) | (1 << CLOSE),
];
const WANTED = [
  "a value was expected",
  "a value or a closing bracket was expected",
  "a member name was expected",
  "a member name or a closing brace was expected",
  "a colon was expected",
  "a comma or a closing bracket was expected",
];

const CLOSE_OBJECT = 0x7d;
const CLOSE_ARRAY = 0x5d;

/** A value that is read: an array or object and what is open in it. */
export class Nested {
  /** Closing brackets that are waited for. */
  readonly #stack: number[] = [];
  #wanted: number = VALUE;
  /** The string or scalar that the bytes cut, from here on; its kind, or 0. */
  #open = 0;
  #cut = 0;

  /** True while a string is cut. */
  get inString(): boolean {
    return this.#cut === QUOTE;
  }

  /**
   * Reads on from `from`.
   * @returns the position after the closing bracket, or the complement of where to go on with more bytes. Throws ScanError.
   */
  read(bytes: Buffer, from: number, media: Media): number {
    let at = this.#cut === 0 ? from : this.#resume(bytes, from, media);
    while (at >= 0 && at < bytes.length) {
      const kind = KINDS[bytes[at] ?? 0] ?? 0;
      at = kind === SPACE ? at + 1 : this.#token(kind, bytes, at, media);
      if (kind === CLOSE && this.#stack.length === 0) return at;
    }
    return at < 0 ? at : ~at;
  }

  #token(kind: number, bytes: Buffer, at: number, media: Media): number {
    const takes = TAKES[this.#wanted] ?? 0;
    if ((takes & (1 << kind)) === 0) throw new ScanError(WANTED[this.#wanted] ?? "", at);
    return this.#take(kind, bytes, at, media);
  }

  #take(kind: number, bytes: Buffer, at: number, media: Media): number {
    switch (kind) {
      case QUOTE:
        this.#open = at;
        return this.#string(bytes, at + 1, media);
      case SCALAR:
        this.#open = at;
        return this.#scalar(bytes, at);
      case CLOSE:
        return this.#close(bytes, at);
      case COLON:
        this.#wanted = VALUE;
        return at + 1;
      case COMMA:
        this.#wanted = this.#stack.at(-1) === CLOSE_OBJECT ? KEY : VALUE;
        return at + 1;
      default:
        return this.#enter(kind, at);
    }
  }

  #enter(kind: number, at: number): number {
    const isObject = kind === OPEN_OBJECT;
    if (this.#stack.push(isObject ? CLOSE_OBJECT : CLOSE_ARRAY) > MAX_DEPTH)
      throw new ScanError(`nested deeper than ${MAX_DEPTH}`, at);
    this.#wanted = isObject ? FIRST_KEY : FIRST_VALUE;
    return at + 1;
  }

  #close(bytes: Buffer, at: number): number {
    if (this.#stack.pop() !== bytes[at]) throw new ScanError("brackets do not match", at);
    this.#wanted = AFTER_VALUE;
    return at + 1;
  }

  #resume(bytes: Buffer, from: number, media: Media): number {
    return this.#cut === QUOTE ? this.#string(bytes, from, media) : this.#scalar(bytes, from);
  }

  #string(bytes: Buffer, from: number, media: Media): number {
    const end = stringEnd(bytes, from);
    this.#cut = end < 0 ? QUOTE : 0;
    if (end < 0) return end;
    if (end - this.#open >= SHORTEST_NOTED) media.note(bytes, this.#open, end);
    this.#wanted = this.#wanted === KEY || this.#wanted === FIRST_KEY ? AFTER_KEY : AFTER_VALUE;
    return end;
  }

  #scalar(bytes: Buffer, from: number): number {
    let at = from;
    while (at < bytes.length && KINDS[bytes[at] ?? 0] === SCALAR) at += 1;
    const isLong = at - this.#open > MAX_SCALAR_BYTES;
    this.#cut = at === bytes.length ? SCALAR : 0;
    if (!isLong && this.#cut === SCALAR) return ~at;
    if (isLong || !isScalar(bytes, this.#open, at)) throw new ScanError("not a JSON value", this.#open);
    this.#wanted = AFTER_VALUE;
    return at;
  }
}
