/**
 * Reads what an answer says of its tokens while it streams by, whatever carries it: one JSON object or events.
 *
 * Looks for the member `"usage"` with an object in it and keeps the first and the last of them: OpenAI's APIs tell in
 * the last event, Anthropic's tell the prompt in the first and the answer in the last. Never parses an answer, never
 * waits for more of one, and holds at most two objects of 4 KiB: text cannot be mistaken for the member, since quotes
 * inside a JSON string are escaped. Encoded (compressed) answers tell nothing.
 */
import type { Usage } from "../exchange.ts";

const KEY = Buffer.from('"usage"');
/** vLLM's has 120 bytes, OpenAI's with every detail 400. */
const MAX_OBJECT = 4096;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const OPEN = 0x7b;
const CLOSE = 0x7d;

/**
 * - `text`: looking for the key, of which `matched` bytes ended the last chunk   - `colon`, `value`: behind the key
 * - `object`: inside the object
 */
type State = "text" | "colon" | "value" | "object";

export class UsageReader {
  #state: State = "text";
  #matched = 0;
  #depth = 0;
  #quoted = false;
  #escaped = false;
  #parts: Buffer[] = [];
  #held = 0;
  #first: Buffer | undefined;
  #last: Buffer | undefined;

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) at = this.#step(chunk, at);
  }

  /** What was said so far; undefined where nothing was. */
  read(): Usage | undefined {
    const usage = usageOf({ ...parse(this.#first), ...parse(this.#last) });
    return Object.keys(usage).length === 0 ? undefined : usage;
  }

  #step(chunk: Buffer, at: number): number {
    if (this.#state === "text") return this.#seek(chunk, at);
    if (this.#state === "object") return this.#take(chunk, at);
    return this.#between(chunk, at);
  }

  /** Position behind the key, or the end. */
  #seek(chunk: Buffer, at: number): number {
    if (this.#matched > 0) return this.#seekOn(chunk, at);
    const found = chunk.indexOf(KEY, at);
    if (found !== -1) {
      this.#state = "colon";
      return found + KEY.length;
    }
    this.#matched = endsWithin(chunk, at);
    return chunk.length;
  }

  /** The key goes on from the last chunk. */
  #seekOn(chunk: Buffer, at: number): number {
    if (chunk[at] !== KEY[this.#matched]) {
      this.#matched = 0;
      return at;
    }
    this.#matched += 1;
    if (this.#matched === KEY.length) {
      this.#matched = 0;
      this.#state = "colon";
    }
    return at + 1;
  }

  #between(chunk: Buffer, at: number): number {
    const byte = chunk[at] ?? 0;
    if (byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) return at + 1;
    const expected = this.#state === "colon" ? COLON : OPEN;
    if (byte !== expected) this.#state = "text";
    else if (this.#state === "colon") this.#state = "value";
    else this.#state = "object";
    // The brace belongs to the object, and whatever else stands there may begin a key.
    return byte === COLON ? at + 1 : at;
  }

  #take(chunk: Buffer, at: number): number {
    const limit = Math.min(chunk.length, at + MAX_OBJECT - this.#held);
    let end = at;
    while (end < limit && !this.#closes(chunk[end] ?? 0)) end += 1;
    const closed = end < limit;
    const piece = chunk.subarray(at, closed ? end + 1 : end);
    this.#parts.push(Buffer.from(piece));
    this.#held += piece.length;
    if (closed) this.#keep();
    if (closed || this.#held >= MAX_OBJECT) this.#reset();
    return at + piece.length;
  }

  /** True at the brace that ends the object. */
  #closes(byte: number): boolean {
    if (this.#quoted) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#quoted = false;
      return false;
    }
    if (byte === QUOTE) this.#quoted = true;
    else if (byte === OPEN) this.#depth += 1;
    else if (byte === CLOSE) this.#depth -= 1;
    return this.#depth === 0;
  }

  #keep(): void {
    const whole = Buffer.concat(this.#parts);
    if (this.#first === undefined) this.#first = whole;
    else this.#last = whole;
  }

  #reset(): void {
    this.#parts = [];
    this.#held = 0;
    this.#depth = 0;
    this.#quoted = false;
    this.#escaped = false;
    this.#state = "text";
  }
}

/** How many bytes of the key the chunk ends with. */
function endsWithin(chunk: Buffer, from: number): number {
  for (let count = Math.min(KEY.length - 1, chunk.length - from); count > 0; count--)
    if (chunk.compare(KEY, 0, count, chunk.length - count) === 0) return count;
  return 0;
}

type Fields = Readonly<Record<string, unknown>>;

function parse(raw: Buffer | undefined): Fields {
  if (raw === undefined) return {};
  try {
    return JSON.parse(raw.toString("utf8")) as Fields;
  } catch {
    return {};
  }
}

/**
 * OpenAI: `prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens`; its Responses API says input and
 * output instead. Anthropic counts what was cached, and what was written to the cache, beside `input_tokens`.
 */
function usageOf(fields: Fields): Usage {
  const promptTokens = count(own(fields, "prompt_tokens")) ?? inputOf(fields);
  const cachedTokens =
    cachedOf(fields, "prompt_tokens_details") ??
    cachedOf(fields, "input_tokens_details") ??
    count(own(fields, "cache_read_input_tokens"));
  const completionTokens = count(own(fields, "completion_tokens")) ?? count(own(fields, "output_tokens"));
  return {
    ...(promptTokens === undefined ? {} : { promptTokens }),
    ...(cachedTokens === undefined ? {} : { cachedTokens }),
    ...(completionTokens === undefined ? {} : { completionTokens }),
  };
}

/** With Anthropic's two kinds of cached input, which others do not have. */
function inputOf(fields: Fields): number | undefined {
  const input = count(own(fields, "input_tokens"));
  const beside = ["cache_read_input_tokens", "cache_creation_input_tokens"].map((key) => count(own(fields, key)) ?? 0);
  return input === undefined ? undefined : beside.reduce((sum, tokens) => sum + tokens, input);
}

function cachedOf(fields: Fields, key: string): number | undefined {
  const details = own(fields, key);
  return typeof details === "object" && details !== null ? count(own(details as Fields, "cached_tokens")) : undefined;
}

const own = (fields: Fields, key: string): unknown => (Object.hasOwn(fields, key) ? fields[key] : undefined);

const count = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
