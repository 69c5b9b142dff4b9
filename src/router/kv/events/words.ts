/** Names in KV events, known by their bytes: a text made for each would cost as much as all else in an event. */
import type { BlockEvent } from "./batch.ts";
import { fail } from "./malformed.ts";
import type { MsgpackReader } from "./msgpack.ts";

export type Field =
  | "hashes"
  | "parent"
  | "tokens"
  | "blockSize"
  | "loraId"
  | "medium"
  | "loraName"
  | "extraKeys"
  | "group"
  | "groupKind"
  | "other";

interface Word<T> {
  readonly bytes: Uint8Array;
  readonly means: T;
}

/** By length; no two of these share more than that. */
function byLength<T>(words: Readonly<Record<string, T>>): readonly (readonly Word<T>[])[] {
  const all = Object.entries(words).map(([word, means]) => ({ bytes: Buffer.from(word, "latin1"), means }));
  const longest = Math.max(...all.map(({ bytes }) => bytes.length));
  return Array.from({ length: longest + 1 }, (_, length) => all.filter(({ bytes }) => bytes.length === length));
}

const FIELDS = byLength<Field | "type">({
  type: "type",
  block_hashes: "hashes",
  parent_block_hash: "parent",
  token_ids: "tokens",
  block_size: "blockSize",
  lora_id: "loraId",
  lora_name: "loraName",
  medium: "medium",
  extra_keys: "extraKeys",
  group_idx: "group",
  kv_cache_spec_kind: "groupKind",
});

const TAGS = byLength<BlockEvent["kind"]>({
  BlockStored: "stored",
  BlockRemoved: "removed",
  AllBlocksCleared: "cleared",
});

/** Longer names of fields are not among ours, and none is a reason to read on. */
const MAX_NAME = 256;

function wordOf<T>(reader: MsgpackReader, words: readonly (readonly Word<T>[])[]): T | undefined {
  const length = reader.textHead();
  if (length > MAX_NAME) fail("tooLarge");
  const from = reader.at;
  reader.at += length;
  for (const { bytes, means } of words[length] ?? []) if (isAt(reader.bytes, from, bytes)) return means;
  return undefined;
}

function isAt(bytes: Uint8Array, from: number, word: Uint8Array): boolean {
  for (let at = 0; at < word.length; at++) if (bytes[from + at] !== word[at]) return false;
  return true;
}

/** What the next name in a map stands for. */
export const fieldOf = (reader: MsgpackReader): Field | "type" => wordOf(reader, FIELDS) ?? "other";

/** The kind of event; undefined where it is not known here. */
export const tagOf = (reader: MsgpackReader): BlockEvent["kind"] | undefined => wordOf(reader, TAGS);
