/**
 * Where the top-level members of a JSON object stand in its bytes, found in one pass while the bytes arrive.
 *
 * Decides whether a body is a JSON object, from its brackets, strings and top-level values; never decodes what it
 * passes. Long strings are skipped with `indexOf`, which bodies of megabytes need. The state is the function that takes
 * the next bytes, so a body may be cut anywhere: nothing that was seen is looked at again.
 */
import { Media, SHORTEST_NOTED, type Range } from "./media.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;

/** Deeper JSON is refused: nobody's chat needs it, and engines parse recursively. */
const MAX_DEPTH = 64;
/** More top-level members than this are refused: APIs have dozens, and each costs the router an object. */
const MAX_MEMBERS = 256;
/** The longest name of an API's member has 31 bytes; escaped six times as many. */
const MAX_KEY_BYTES = 1024;
/** No number that an API takes is longer, and the check of a number is a regular expression. */
const MAX_SCALAR_BYTES = 400;
/** A search costs as much as looking at this many bytes: strings full of quotes are walked, long text is searched. */
const WALK_BYTES = 64;

export interface Member extends Range {
  readonly key: string;
  /** First byte of the key's opening quote. */
  readonly keyStart: number;
}

export interface Scan {
  readonly members: readonly Member[];
  /** Position of the closing brace. */
  readonly close: number;
  /** Images and the like, inside the values of members. */
  readonly media: Media;
}

/** Why a body is no JSON object, with the byte at which that shows. */
export class ScanError extends Error {
  constructor(what: string, at: number) {
    super(`${what} at byte ${at}`);
  }
}

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

/** Takes bytes from `at` on: moves `at`, or becomes another step, or both. Throws ScanError. */
type Step = (progress: Progress, bytes: Buffer) => void;

interface Progress {
  at: number;
  step: Step;
  readonly members: Member[];
  readonly media: Media;
  /** Closing brackets that are waited for, inside a member's value. */
  readonly stack: number[];
  /** Of the member, or of the nested string, that is being read. */
  keyStart: number;
  key: string;
  start: number;
  open: number;
  /** The last comma between members, or -1 before the first. */
  comma: number;
  close: number;
}

/** A body that is scanned while it arrives. */
export class RequestScan {
  readonly #progress: Progress = {
    at: 0,
    step: begin,
    members: [],
    media: new Media(),
    stack: [],
    keyStart: 0,
    key: "",
    start: 0,
    open: 0,
    comma: -1,
    close: 0,
  };
  #error: ScanError | undefined;
  #length = 0;

  /**
   * Goes on where it stopped.
   * @param received all bytes from the first one on: those of the call before, and more
   */
  push(received: Buffer): void {
    if (this.#error !== undefined) return;
    this.#length = received.length;
    try {
      const progress = this.#progress;
      while (progress.at < received.length) progress.step(progress, received);
    } catch (error) {
      if (!(error instanceof ScanError)) throw error;
      this.#error = error;
    }
  }

  /** The result, once all bytes were given. Throws ScanError. */
  finish(): Scan {
    if (this.#error !== undefined) throw this.#error;
    const { step, members, close, media } = this.#progress;
    if (step === begin) throw new ScanError("a JSON object was expected", this.#length);
    if (step !== after)
      throw new ScanError(`the body ends inside a ${STRINGS.has(step) ? "string" : "value"}`, this.#length);
    return { members, close, media };
  }

  /** What was found in the bytes that came, of which a longer value may be cut. Throws ScanError. */
  sofar(): Scan {
    if (this.#error !== undefined) throw this.#error;
    const { step, members, key, keyStart, start, media } = this.#progress;
    const open = step === text || step === nested || step === nestedText;
    const end = this.#length;
    return { members: open ? [...members, { key, keyStart, start, end }] : members, close: end, media };
  }
}

/** The members of the object that is the whole of `bytes`. Throws ScanError. */
export function scanObject(bytes: Buffer): Scan {
  const scan = new RequestScan();
  scan.push(bytes);
  return scan.finish();
}

/** Moves on to what is no white space; false where the bytes end before. */
function skipSpace(progress: Progress, bytes: Buffer): boolean {
  while (isSpace(bytes[progress.at])) progress.at += 1;
  return progress.at < bytes.length;
}

/**
 * Position after the closing quote of the string that `from` is inside of, or, where the bytes end before it, the
 * complement (below zero) of where to go on. The byte at `from` is never one that a backslash before it escapes.
 */
function stringEnd(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length) {
    const near = Math.min(at + WALK_BYTES, bytes.length);
    for (; at < near; at++) {
      if (bytes[at] === QUOTE) return at + 1;
      if (bytes[at] === BACKSLASH) at += 1;
    }
    if (at < bytes.length) at = skipPlain(bytes, at);
  }
  return ~at;
}

/** The next quote from `from` on, or the backslash that escapes it: an odd run of them does. */
function skipPlain(bytes: Buffer, from: number): number {
  const quote = bytes.indexOf(QUOTE, from);
  const end = quote === -1 ? bytes.length : quote;
  let run = end;
  while (run > from && bytes[run - 1] === BACKSLASH) run -= 1;
  const escaped = (end - run) % 2;
  // Without a quote, what is escaped has not arrived: it is passed over when it does.
  return quote === -1 ? end + escaped : end - escaped;
}

const begin: Step = (progress, bytes) => {
  if (!skipSpace(progress, bytes)) return;
  if (bytes[progress.at] !== OPEN_OBJECT) throw new ScanError("a JSON object was expected", progress.at);
  progress.at += 1;
  progress.step = key;
};

const key: Step = (progress, bytes) => {
  if (!skipSpace(progress, bytes)) return;
  const { at, comma, members } = progress;
  if (bytes[at] === CLOSE_OBJECT) {
    if (comma !== -1) throw new ScanError("a comma stands before the closing brace", comma);
    closeObject(progress);
    return;
  }
  if (members.length === MAX_MEMBERS) throw new ScanError(`more than ${MAX_MEMBERS} members`, at);
  if (bytes[at] !== QUOTE) throw new ScanError("a member name was expected", at);
  progress.keyStart = at;
  progress.at = at + 1;
  progress.step = keyText;
};

function closeObject(progress: Progress): void {
  progress.close = progress.at;
  progress.at += 1;
  progress.step = after;
}

const keyText: Step = (progress, bytes) => {
  const { keyStart } = progress;
  const end = stringEnd(bytes, progress.at);
  progress.at = end < 0 ? ~end : end;
  if (progress.at - keyStart > MAX_KEY_BYTES)
    throw new ScanError(`a member name longer than ${MAX_KEY_BYTES} bytes`, keyStart);
  if (end < 0) return;
  progress.key = parseKey(bytes, keyStart, end);
  progress.step = colon;
};

/** Letters, digits and the like: the text between the quotes is the name. */
const PLAIN_KEY = /^[\w.:$ -]*$/;

function parseKey(bytes: Buffer, start: number, end: number): string {
  const plain = bytes.toString("latin1", start + 1, end - 1);
  if (PLAIN_KEY.test(plain)) return plain;
  try {
    return JSON.parse(bytes.toString("utf8", start, end)) as string;
  } catch {
    throw new ScanError("a member name is no JSON string", start);
  }
}

const colon: Step = (progress, bytes) => {
  if (!skipSpace(progress, bytes)) return;
  if (bytes[progress.at] !== COLON) throw new ScanError("a colon was expected", progress.at);
  progress.at += 1;
  progress.step = value;
};

const value: Step = (progress, bytes) => {
  if (!skipSpace(progress, bytes)) return;
  const first = bytes[progress.at];
  progress.start = progress.at;
  progress.step = first === OPEN_OBJECT || first === OPEN_ARRAY ? nested : scalar;
  if (first !== QUOTE) return;
  progress.at += 1;
  progress.step = text;
};

const text: Step = (progress, bytes) => {
  const end = stringEnd(bytes, progress.at);
  if (end < 0) progress.at = ~end;
  else endMember(progress, end);
};

function endMember(progress: Progress, end: number): void {
  const { key, keyStart, start } = progress;
  progress.members.push({ key, keyStart, start, end });
  progress.at = end;
  progress.step = next;
}

/** Inside an array or object; brackets must match. */
const nested: Step = (progress, bytes) => {
  for (let { at } = progress; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      const end = stringEnd(bytes, at + 1);
      if (end < 0) {
        suspend(progress, at, ~end);
        return;
      }
      if (end - at >= SHORTEST_NOTED) progress.media.note(bytes, at, end);
      at = end - 1;
    } else if (isBracket(byte) && bracket(progress.stack, byte, at)) {
      endMember(progress, at + 1);
      return;
    }
  }
  progress.at = bytes.length;
};

function suspend(progress: Progress, open: number, at: number): void {
  progress.open = open;
  progress.at = at;
  progress.step = nestedText;
}

const nestedText: Step = (progress, bytes) => {
  const end = stringEnd(bytes, progress.at);
  progress.at = end < 0 ? ~end : end;
  if (end < 0) return;
  progress.media.note(bytes, progress.open, end);
  progress.step = nested;
};

/** The brackets are 0x5b, 0x5d, 0x7b and 0x7d: all share five bits, which few other bytes have. */
const isBracket = (byte: number | undefined): byte is number =>
  byte !== undefined &&
  (byte & 0xd9) === 0x59 &&
  (byte === OPEN_OBJECT || byte === CLOSE_OBJECT || byte === OPEN_ARRAY || byte === CLOSE_ARRAY);

/** True where it closes the outermost one. */
function bracket(stack: number[], byte: number, at: number): boolean {
  if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
    // `{` + 2 is `}`, `[` + 2 is `]`.
    if (stack.push(byte + 2) > MAX_DEPTH) throw new ScanError(`nested deeper than ${MAX_DEPTH}`, at);
    return false;
  }
  if (stack.pop() !== byte) throw new ScanError("brackets do not match", at);
  return stack.length === 0;
}

const SCALAR = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/;

/** A number, `true`, `false` or `null`: ends where something else begins. */
const scalar: Step = (progress, bytes) => {
  const { start } = progress;
  let { at } = progress;
  while (at < bytes.length && bytes[at] !== COMMA && bytes[at] !== CLOSE_OBJECT && !isSpace(bytes[at])) at += 1;
  progress.at = at;
  if (at - start > MAX_SCALAR_BYTES) throw new ScanError("not a JSON value", start);
  if (at === bytes.length) return;
  if (!SCALAR.test(bytes.toString("latin1", start, at))) throw new ScanError("not a JSON value", start);
  endMember(progress, at);
};

const next: Step = (progress, bytes) => {
  if (!skipSpace(progress, bytes)) return;
  const { at } = progress;
  if (bytes[at] === CLOSE_OBJECT) {
    closeObject(progress);
    return;
  }
  if (bytes[at] !== COMMA) throw new ScanError("a comma or the closing brace was expected", at);
  progress.comma = at;
  progress.at = at + 1;
  progress.step = key;
};

const after: Step = (progress, bytes) => {
  if (skipSpace(progress, bytes)) throw new ScanError("text follows the closing brace", progress.at);
};

const STRINGS: ReadonlySet<Step> = new Set([keyText, text, nestedText]);
