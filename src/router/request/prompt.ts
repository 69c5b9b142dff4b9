/**
 * The bytes that block keys are made of, and how many tokens they stand for.
 *
 * The raw JSON of the prompt's members, in the order of the engine's template. Two requests share a prefix where their
 * bytes do, which holds for a client that appends turns. The closing bracket or quote of the last member is left out:
 * the next turn goes on from there. An image is not text: its bytes are exchanged for as many bytes as its tokens would
 * have, made from their digest, so that blocks stand for tokens wherever they lie.
 *
 * The benchmark's peer makes the same bytes of chat bodies without images: tools, then messages, as they came.
 */
import { createHash } from "node:crypto";
import type { Api, PromptMember } from "./apis.ts";
import type { Fields } from "./fields.ts";
import type { Media, Range } from "./media.ts";

export interface PromptRates {
  /** Bytes of prompt text counted as one token. */
  readonly bytesPerToken: number;
  /** Tokens that one image, video or sound is taken for. */
  readonly mediaTokens: number;
}

export interface PromptText {
  readonly parts: readonly Buffer[];
  /** Of all parts. */
  readonly bytes: number;
  /** Tokens beside those that the bytes stand for: of media that are named by a URL. */
  readonly extraTokens: number;
  /** Images, videos and sounds, as far as they show. */
  readonly media: number;
  /** Tokens in numbers, not text. */
  readonly listed: boolean;
  /** As configured, but for prompts that are lists of tokens. */
  readonly bytesPerToken: number;
}

/** A token of a large vocabulary in decimal, with its comma: most have five or six digits. */
const BYTES_OF_LISTED_TOKEN = 6.5;

const NOTHING: Buffer = Buffer.alloc(0);

export function promptOf(
  api: Api,
  fields: Fields,
  seen: { body: Buffer; media: Media; rates: PromptRates },
): PromptText {
  const { body, media, rates } = seen;
  // Engines take null for absent.
  const given = api.work === "text" ? [] : api.prompt.filter(({ key }) => !["n", "\0"].includes(fields.first(key)));
  const pieces = given.map((member, index) => pieceOf(member, fields, index === given.length - 1));
  const parts = pieces.flatMap(({ range, opaque }) => {
    if (opaque) return [standIn(body.subarray(range.start, range.end), rates)];
    return exchanged(body, range, { media, rates });
  });
  const inside = (at: number): boolean => pieces.some(({ range }) => at >= range.start && at < range.end);
  const payloads =
    media.payloads.filter(({ start }) => inside(start)).length + pieces.filter(({ opaque }) => opaque).length;
  const named = media.parts.filter(inside).length;
  const listed = isTokenList(given, fields);
  return {
    parts,
    bytes: parts.reduce((sum, part) => sum + part.length, 0),
    extraTokens: Math.max(0, named - payloads) * rates.mediaTokens,
    media: Math.max(named, payloads),
    listed,
    bytesPerToken: listed ? BYTES_OF_LISTED_TOKEN : rates.bytesPerToken,
  };
}

interface Piece {
  readonly range: Range;
  readonly opaque: boolean;
}

function pieceOf({ key, holds }: PromptMember, fields: Fields, last: boolean): Piece {
  const { start, end } = fields.member(key) ?? { start: 0, end: 0 };
  return { range: { start, end: last && end > start ? end - 1 : end }, opaque: holds === "media" };
}

/** The bytes of a member, with what stands for a payload in the place of each. */
function exchanged(body: Buffer, range: Range, { media, rates }: { media: Media; rates: PromptRates }): Buffer[] {
  const parts: Buffer[] = [];
  let kept = range.start;
  for (const { start, end } of media.payloads) {
    if (start < range.start || end > range.end) continue;
    parts.push(body.subarray(kept, start), standIn(body.subarray(start, end), rates));
    kept = end;
  }
  return [...parts, body.subarray(kept, range.end)];
}

/** As many bytes as text of the tokens of a medium would have. Other bytes would say the same: only equality counts. */
function standIn(payload: Buffer, { bytesPerToken, mediaTokens }: PromptRates): Buffer {
  const size = Math.ceil(bytesPerToken * mediaTokens);
  return size === 0 ? NOTHING : Buffer.alloc(size, digestOf(payload));
}

/** A digest takes 4 ms a megabyte, on the thread that serves: what is longer than this is sampled. */
const DIGESTED_BYTES = 65_536;
const SAMPLES = 64;
const SAMPLE_BYTES = DIGESTED_BYTES / SAMPLES;

/**
 * Encoded images that differ do so nearly everywhere, so samples from the first to the last byte tell them apart. Where
 * they do not, a hit is predicted that the engine will not have.
 */
function digestOf(payload: Buffer): Buffer {
  const digest = createHash("sha1").update(String(payload.length));
  if (payload.length <= DIGESTED_BYTES) return digest.update(payload).digest();
  const stride = (payload.length - SAMPLE_BYTES) / (SAMPLES - 1);
  for (let sample = 0; sample < SAMPLES; sample++) {
    const at = Math.floor(sample * stride);
    digest.update(payload.subarray(at, at + SAMPLE_BYTES));
  }
  return digest.digest();
}

/** The last member says it: a list whose first value is a number, or a list of such lists. */
function isTokenList(given: readonly PromptMember[], fields: Fields): boolean {
  const key = given.at(-1)?.key ?? "";
  return /^\[\s*\[?\s*\d/.test(fields.raw(key)?.toString("latin1", 0, 64) ?? "");
}
