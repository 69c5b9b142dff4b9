/**
 * What an engine mixes into block hashes beside the tokens, one entry for each block: the adapter's name, images, a cache
 * salt, embeddings (vLLM, vllm/v1/core/kv_cache_utils.py).
 *
 * The salt and the adapter are told apart, for requests name them as well. Of all else a digest is kept: blocks that differ in
 * it have different keys, and no text alone ever leads to them.
 */
import type { BlockEvent, EventBatch } from "./batch.ts";
import { fail } from "./malformed.ts";
import type { MsgpackReader } from "./msgpack.ts";

/** Of a block: a few images at most. */
const MAX_ITEMS = 64;
/** A salt as clients may give one. */
const MAX_SALT = 4096;

export function readExtras(reader: MsgpackReader, batch: EventBatch, event: BlockEvent): void {
  const blocks = Math.max(0, reader.arrayOrNil());
  batch.reserveExtras(blocks);
  const from = batch.extraCount;
  let any = 0;
  for (let block = 0; block < blocks; block++) {
    const digest = readBlock(reader, event, block === 0);
    any |= digest;
    batch.extras[from + block] = digest;
  }
  if (any === 0) return;
  event.extraAt = from;
  batch.extraCount += blocks;
}

/** The digest of what is neither salt nor adapter; 0: nothing is. */
function readBlock(reader: MsgpackReader, event: BlockEvent, first: boolean): number {
  const items = Math.max(0, reader.arrayOrNil());
  if (items > MAX_ITEMS) fail("tooLarge");
  let digest = 0;
  // Of the texts in the first block the last one is the salt; an adapter's name stands before it.
  let text: readonly [from: number, to: number] | undefined;
  for (let item = 0; item < items; item++) {
    const from = reader.at;
    const isText = reader.isText();
    reader.skip();
    if (isText && isAdapter(reader, from, event)) continue;
    if (!isText || !first) digest = digested(reader.bytes, [from, reader.at], digest);
    else {
      if (text !== undefined) digest = digested(reader.bytes, text, digest);
      text = [from, reader.at];
    }
  }
  if (text !== undefined) event.salt = textAt(reader, text[0], MAX_SALT);
  return digest;
}

const isAdapter = (reader: MsgpackReader, from: number, { lora }: BlockEvent): boolean =>
  lora !== undefined && textAt(reader, from, MAX_SALT) === lora;

function textAt(reader: MsgpackReader, from: number, most: number): string {
  const behind = reader.at;
  reader.at = from;
  const text = reader.text(most);
  reader.at = behind;
  return text;
}

/** FNV-1a over the bytes, with what came before; never 0. */
function digested(bytes: Uint8Array, [from, to]: readonly [number, number], before: number): number {
  let hash = before === 0 ? 0x811c9dc5 : before;
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  return hash | 0 || 1;
}
