/**
 * The tokens of JSON in the bytes of a body (RFC 8259): white space, where a string ends, what a number is.
 *
 * Strings are most of a body: they are passed sixteen bytes at a time, in the memory of strings.wat. A walk in
 * JavaScript takes 1 ns a byte, and `JSON.parse` 0.7 ns and the garbage of all that it makes.
 */
import { STRINGS_WASM } from "./strings.wasm.ts";

/** Why a body is no JSON object, with the byte at which that shows. */
export class ScanError extends Error {
  constructor(what: string, at: number) {
    super(`${what} at byte ${at}`);
  }
}

export const isSpace = (byte: number | undefined): boolean =>
  byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Names and roles end within so many bytes: a call would cost as much as the walk. */
const SHORT_BYTES = 12;

/** What strings.wat exports. */
interface Strings {
  readonly memory: WebAssembly.Memory;
  readonly end: (at: number, limit: number) => number;
}

/** Of the memory, which has two pages: the last loads go beyond the window. */
const WINDOW_BYTES = 65_536;
/** A result above this is the place of something that is not JSON. */
const BAD = 0x4000_0000;

const { memory, end } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(STRINGS_WASM, "base64")))
  .exports as unknown as Strings;
const window = new Uint8Array(memory.buffer, 0, WINDOW_BYTES);

/** The bytes whose part from `start` to `stop` stands in the window. */
let loaded: Buffer | undefined;
let [start, stop] = [0, 0];

/** What was loaded is no longer to be trusted: its bytes may have changed. */
export function unload(): void {
  loaded = undefined;
}

function load(bytes: Buffer, from: number): void {
  loaded = bytes;
  start = from;
  stop = Math.min(bytes.length, from + WINDOW_BYTES);
  window.set(bytes.subarray(start, stop));
}

/**
 * Position after the closing quote of the string that `from` is inside of, or, where the bytes end before it, the
 * complement (below zero) of where to go on. The byte at `from` is never one that a backslash before it escapes. Throws
 * ScanError at what no JSON string may hold.
 */
export function stringEnd(bytes: Buffer, from: number): number {
  let at = plainEnd(bytes, from);
  if (bytes[at] === QUOTE) return at + 1;
  for (;;) {
    if (bytes !== loaded || at < start || at >= stop) load(bytes, at);
    const found = end(at - start, stop - start);
    if (found >= BAD) throw new ScanError("a string holds what JSON strings do not", start + found - BAD);
    if (found >= 0) return start + found + 1;
    const next = start + ~found;
    // An escape that the window cuts starts the next one; one that the bytes cut waits for more of them.
    if (stop === bytes.length) return ~next;
    at = next;
    loaded = undefined;
  }
}

/** Where the first few bytes that stand for themselves end. */
function plainEnd(bytes: Buffer, from: number): number {
  const near = Math.min(from + SHORT_BYTES, bytes.length);
  let at = from;
  while (at < near && isPlain(bytes[at] ?? 0)) at += 1;
  return at;
}

const isPlain = (byte: number): boolean => byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH;

const SCALAR = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/;

/** Whether these bytes are a number, `true`, `false` or `null`. */
export const isScalar = (bytes: Buffer, from: number, to: number): boolean =>
  isPlainNumber(bytes, from, to) || SCALAR.test(bytes.toString("latin1", from, to));

/** Prompts of token numbers have thousands: those cost no string each. */
function isPlainNumber(bytes: Buffer, from: number, to: number): boolean {
  if (bytes[from] === 0x30) return to === from + 1;
  for (let at = from; at < to; at++) {
    const byte = bytes[at] ?? 0;
    if (byte < 0x30 || byte > 0x39) return false;
  }
  return to > from;
}
