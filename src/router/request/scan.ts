/**
 * Where the top-level members of a JSON object stand in its bytes, found in one pass while the bytes arrive.
 *
 * Decides whether a body is a JSON object, by the grammar as engines read it; never decodes what it passes. The state is
 * the function that takes the next bytes, so a body may be cut anywhere: nothing that was seen is looked at again.
 */
import { isScalar, isSpace, ScanError, stringEnd, unload } from "./json.ts";
import { Media, type Range } from "./media.ts";
import { MAX_SCALAR_BYTES, Nested } from "./nested.ts";

export { ScanError } from "./json.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;

/** More top-level members than this are refused: APIs have dozens, and each costs the router an object. */
const MAX_MEMBERS = 256;
/** The longest name of an API's member has 31 bytes; escaped six times as many. */
const MAX_KEY_BYTES = 1024;

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
  /** The member that the bytes end inside of, the last one; absent in a whole scan. */
  readonly open?: Member;
}

/** Takes bytes from `at` on: moves `at`, or becomes another step, or both. Throws ScanError. */
type Step = (progress: Progress, bytes: Buffer) => void;

interface Progress {
  at: number;
  step: Step;
  readonly members: Member[];
  readonly media: Media;
  /** Of the member that is being read. */
  keyStart: number;
  key: string;
  start: number;
  /** Its value, where that is an array or object. */
  nested: Nested | undefined;
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
    keyStart: 0,
    key: "",
    start: 0,
    nested: undefined,
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
    unload();
    try {
      while (this.#progress.at < received.length && this.#moves(received));
    } catch (error) {
      if (!(error instanceof ScanError)) throw error;
      this.#error = error;
    }
  }

  /** False where the next step waits for bytes: an escape may be cut. */
  #moves(received: Buffer): boolean {
    const { at, step } = this.#progress;
    step(this.#progress, received);
    return this.#progress.at !== at || this.#progress.step !== step;
  }

  /** The result, once all bytes were given. Throws ScanError. */
  finish(): Scan {
    if (this.#error !== undefined) throw this.#error;
    const { step, members, close, media } = this.#progress;
    if (step === begin) throw new ScanError("a JSON object was expected", this.#length);
    if (step !== after)
      throw new ScanError(`the body ends inside a ${isInString(this.#progress) ? "string" : "value"}`, this.#length);
    return { members, close, media };
  }

  /** What was found in the bytes that came, of which a longer value may be cut. Throws ScanError. */
  sofar(): Scan {
    if (this.#error !== undefined) throw this.#error;
    const { step, members, key, keyStart, start, media } = this.#progress;
    const close = this.#length;
    if (step !== text && step !== nested) return { members, close, media };
    const open = { key, keyStart, start, end: close };
    return { members: [...members, open], close, media, open };
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
  if (first === QUOTE) {
    progress.at += 1;
    progress.step = text;
  } else if (first === OPEN_OBJECT || first === OPEN_ARRAY) {
    progress.nested = new Nested();
    progress.step = nested;
  } else progress.step = scalar;
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

const nested: Step = (progress, bytes) => {
  const end = progress.nested?.read(bytes, progress.at, progress.media) ?? 0;
  if (end < 0) progress.at = ~end;
  else endMember(progress, end);
};

/** A number, `true`, `false` or `null`: ends where something else begins. */
const scalar: Step = (progress, bytes) => {
  const { start } = progress;
  let { at } = progress;
  while (at < bytes.length && bytes[at] !== COMMA && bytes[at] !== CLOSE_OBJECT && !isSpace(bytes[at])) at += 1;
  progress.at = at;
  if (at - start > MAX_SCALAR_BYTES) throw new ScanError("not a JSON value", start);
  if (at === bytes.length) return;
  if (!isScalar(bytes, start, at)) throw new ScanError("not a JSON value", start);
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

const isInString = ({ step, nested: value }: Progress): boolean =>
  step === keyText || step === text || (step === nested && value?.inString === true);
