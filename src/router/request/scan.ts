/**
 * Where the top-level members of a JSON object stand in its bytes, and editing them in place.
 *
 * Bodies are never parsed and written again: numbers beyond 2^53, key order and odd escapes must reach the engine as
 * the client sent them. Long strings are skipped with `indexOf`, which bodies of megabytes need.
 */
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
/** A search costs as much as looking at this many bytes: strings full of quotes are walked, long text is searched. */
const WALK_BYTES = 64;

export interface Member {
  readonly key: string;
  /** First byte of the key's opening quote. */
  readonly keyStart: number;
  /** Bytes of the value: [start, end). */
  readonly start: number;
  readonly end: number;
}

export interface Scan {
  readonly members: readonly Member[];
  /** Position of the closing brace. */
  readonly close: number;
}

/** Why a body is no JSON object, with the byte at which that shows. */
export class ScanError extends Error {
  constructor(what: string, at: number) {
    super(`${what} at byte ${at}`);
  }
}

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

function skipSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (isSpace(bytes[at])) at += 1;
  return at;
}

/** Position after the string whose opening quote is at `from`. */
function skipString(bytes: Buffer, from: number): number {
  let at = from + 1;
  while (at < bytes.length) {
    const near = Math.min(at + WALK_BYTES, bytes.length);
    for (; at < near; at++) {
      if (bytes[at] === QUOTE) return at + 1;
      if (bytes[at] === BACKSLASH) at += 1;
    }
    at = skipPlain(bytes, at);
  }
  throw new ScanError("the body ends inside a string", bytes.length);
}

/** The next quote from `from` on, or the backslash that escapes it: an odd run of them does. */
function skipPlain(bytes: Buffer, from: number): number {
  const quote = bytes.indexOf(QUOTE, from);
  if (quote === -1) return bytes.length;
  let run = quote;
  while (run > from && bytes[run - 1] === BACKSLASH) run -= 1;
  return quote - ((quote - run) % 2);
}

/** Position after the array or object that opens at `from`; brackets must match. */
function skipNested(bytes: Buffer, from: number): number {
  const stack: number[] = [];
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) at = skipString(bytes, at) - 1;
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (stack.push(byte + 2) > MAX_DEPTH) throw new ScanError(`nested deeper than ${MAX_DEPTH}`, at);
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      // `{` + 2 is `}`, `[` + 2 is `]`.
      if (stack.pop() !== byte) throw new ScanError("brackets do not match", at);
      if (stack.length === 0) return at + 1;
    }
  }
  throw new ScanError("the body ends inside a value", bytes.length);
}

const SCALAR = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/;

function skipScalar(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] !== COMMA && bytes[at] !== CLOSE_OBJECT && !isSpace(bytes[at])) at += 1;
  if (!SCALAR.test(bytes.toString("latin1", from, Math.min(at, from + 400))))
    throw new ScanError("not a JSON value", from);
  return at;
}

function skipValue(bytes: Buffer, from: number): number {
  const first = bytes[from];
  if (first === QUOTE) return skipString(bytes, from);
  return first === OPEN_OBJECT || first === OPEN_ARRAY ? skipNested(bytes, from) : skipScalar(bytes, from);
}

function readMember(bytes: Buffer, keyStart: number): Member {
  if (bytes[keyStart] !== QUOTE) throw new ScanError("a member name was expected", keyStart);
  const keyEnd = skipString(bytes, keyStart);
  const colon = skipSpace(bytes, keyEnd);
  if (bytes[colon] !== COLON) throw new ScanError("a colon was expected", colon);
  const start = skipSpace(bytes, colon + 1);
  return { key: parseKey(bytes, keyStart, keyEnd), keyStart, start, end: skipValue(bytes, start) };
}

function parseKey(bytes: Buffer, start: number, end: number): string {
  try {
    return JSON.parse(bytes.toString("utf8", start, end)) as string;
  } catch {
    throw new ScanError("a member name is no JSON string", start);
  }
}

/** The members of the object that is the whole of `bytes`. Throws ScanError. */
export function scanObject(bytes: Buffer): Scan {
  const open = skipSpace(bytes, 0);
  if (bytes[open] !== OPEN_OBJECT) throw new ScanError("a JSON object was expected", open);
  const members: Member[] = [];
  let at = skipSpace(bytes, open + 1);
  while (bytes[at] !== CLOSE_OBJECT) {
    if (members.length === MAX_MEMBERS) throw new ScanError(`more than ${MAX_MEMBERS} members`, at);
    const member = readMember(bytes, at);
    members.push(member);
    at = skipSpace(bytes, member.end);
    if (bytes[at] === COMMA) at = nextKey(bytes, at);
    else if (bytes[at] !== CLOSE_OBJECT) throw new ScanError("a comma or the closing brace was expected", at);
  }
  const rest = skipSpace(bytes, at + 1);
  if (rest < bytes.length) throw new ScanError("text follows the closing brace", rest);
  return { members, close: at };
}

function nextKey(bytes: Buffer, comma: number): number {
  const at = skipSpace(bytes, comma + 1);
  if (bytes[at] === CLOSE_OBJECT) throw new ScanError("a comma stands before the closing brace", comma);
  return at;
}

export const valueBytes = (bytes: Buffer, member: Member): Buffer => bytes.subarray(member.start, member.end);

/** Raw JSON text for a member, or undefined to take it out. */
export type Edits = ReadonlyMap<string, Uint8Array | string | undefined>;

/** The same object with some members set or removed; every other byte stays. New members go to the end. */
export function editObject(bytes: Buffer, scan: Scan, edits: Edits): Buffer {
  const kept = scan.members.filter((member) => !edits.has(member.key) || edits.get(member.key) !== undefined);
  const parts: Uint8Array[] = [Buffer.from("{")];
  for (const member of kept) {
    if (parts.length > 1) parts.push(Buffer.from(","));
    parts.push(
      bytes.subarray(member.keyStart, member.start),
      toBytes(edits.get(member.key)) ?? valueBytes(bytes, member),
    );
  }
  const present = new Set(scan.members.map((member) => member.key));
  for (const [key, value] of edits) {
    const raw = toBytes(value);
    if (raw === undefined || present.has(key)) continue;
    parts.push(Buffer.from(`${parts.length > 1 ? "," : ""}${JSON.stringify(key)}:`), raw);
  }
  return Buffer.concat([...parts, Buffer.from("}")]);
}

const toBytes = (value: Uint8Array | string | undefined): Uint8Array | undefined =>
  typeof value === "string" ? Buffer.from(value) : value;
