/**
 * Images, videos and sounds in the bytes of a message: noticed string by string while a body is scanned, so that their
 * bytes are not taken for text. What is overlooked is text, and only an estimate suffers.
 */
import { isSpace } from "./json.ts";

const QUOTE = 0x22;
const COLON = 0x3a;

export interface Range {
  /** Bytes [start, end). */
  readonly start: number;
  readonly end: number;
}

/** Shorter strings are hashed with the text around them as cheaply as apart from it. */
const PAYLOAD_BYTES = 1024;
/** More parts than this no engine takes in one prompt; the estimate needs no more either. */
const MAX_MEDIA = 1024;
/** Values of `type` in parts of OpenAI's, Anthropic's and vLLM's messages that are no text. */
const MEDIA_TYPES: ReadonlySet<string> = new Set([
  "image",
  "image_url",
  "input_image",
  "image_embeds",
  "audio_url",
  "input_audio",
  "video_url",
  "document",
  "input_file",
]);
const SHORTEST_TYPE = 5;
const LONGEST_TYPE = 12;
/** With its quotes: what is shorter is not worth a call. */
export const SHORTEST_NOTED = SHORTEST_TYPE + 2;

/** What the scan notices of media, in the order of the body. */
export class Media {
  /** Strings of at least 1 KiB that are a `data:` URL or the value of a member named `data` or `..._data`, unquoted. */
  readonly payloads: Range[] = [];
  /** Where the `type` of a part says that it is no text. */
  readonly parts: number[] = [];

  /** Looks at the string whose quotes stand at `open` and before `end`. */
  note(bytes: Buffer, open: number, end: number): void {
    const length = end - open - 2;
    if (length >= PAYLOAD_BYTES) {
      if (this.payloads.length < MAX_MEDIA && isPayload(bytes, open))
        this.payloads.push({ start: open + 1, end: end - 1 });
    } else if (length >= SHORTEST_TYPE && length <= LONGEST_TYPE && bytes[keyEndBefore(bytes, open)] === QUOTE) {
      this.#type(bytes, open, end);
    }
  }

  #type(bytes: Buffer, open: number, end: number): void {
    if (this.parts.length === MAX_MEDIA || !endsWith(bytes, keyEndBefore(bytes, open), '"type"')) return;
    if (MEDIA_TYPES.has(bytes.toString("latin1", open + 1, end - 1))) this.parts.push(open);
  }
}

const isPayload = (bytes: Buffer, open: number): boolean =>
  endsWith(bytes, open + DATA_URL.length, DATA_URL) || endsWith(bytes, keyEndBefore(bytes, open), 'data"');

/** A scheme in lower case, as all libraries write it. */
const DATA_URL = "data:";

/** Compared from the end, where names differ: no string is made for most. */
function endsWith(bytes: Buffer, last: number, text: string): boolean {
  for (let back = 0; back < text.length; back++)
    if (bytes[last - back] !== text.charCodeAt(text.length - 1 - back)) return false;
  return true;
}

/** The last byte of the member's name that the string at `open` is the value of, or -1. */
function keyEndBefore(bytes: Buffer, open: number): number {
  const colon = spaceBefore(bytes, open - 1);
  return bytes[colon] === COLON ? spaceBefore(bytes, colon - 1) : -1;
}

/** White space behind is passed again for each string: more of it than writers indent by is no value of a name. */
function spaceBefore(bytes: Buffer, from: number): number {
  let at = from;
  while (from - at < 8 && isSpace(bytes[at])) at -= 1;
  return at;
}
