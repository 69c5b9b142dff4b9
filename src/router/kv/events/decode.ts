/**
 * The payload of a KV event message into a batch: every shape that vLLM, vLLM-Ascend and SGLang send.
 *
 * A batch is an array `[time, events, rank?]` or a map; an event is an array `[tag, fields...]` (vLLM up to 0.23, SGLang) or
 * a map with `type` (vLLM from 0.24 on). Maps are read by name, arrays by position as far as positions are known; what is
 * not known is passed over. Nothing is made for a token: vLLM announces a thousand of them in a message. Decodes only: who
 * believes what is `apply.ts`'s. Never throws, and leaves an empty batch where the payload cannot be read.
 *
 * Formats: vLLM vllm/distributed/kv_events.py, SGLang sglang/srt/disaggregation/kv_events.py.
 */
import { MAX_EVENTS, MAX_HASHES, MAX_TOKENS, TIER, type BlockEvent, type EventBatch } from "./batch.ts";
import { readExtras } from "./extras.ts";
import { fail, Malformed, type MalformedReason } from "./malformed.ts";
import { MsgpackReader } from "./msgpack.ts";
import { fieldOf, tagOf, type Field } from "./words.ts";

/** Names of adapters and media. */
const MAX_TEXT = 256;

/** Fields of an event by position, behind its tag. */
const STORED: readonly Field[] = [
  "hashes",
  "parent",
  "tokens",
  "blockSize",
  "loraId",
  "medium",
  "loraName",
  "extraKeys",
  "group",
  "groupKind",
];
const REMOVED: readonly Field[] = ["hashes", "medium", "group"];

type ReadField = (reader: MsgpackReader, batch: EventBatch, event: BlockEvent) => void;

const READ: Readonly<Record<Field, ReadField>> = {
  hashes: readHashes,
  parent: (reader, _, event) => {
    if (reader.nil()) return;
    reader.hash();
    event.hasParent = true;
    event.parentLow = reader.low;
    event.parentHigh = reader.high;
  },
  tokens: readTokens,
  blockSize: (reader, _, event) => (event.blockSize = sizeOf(reader)),
  loraId: (reader, _, event) => {
    if (reader.nil()) return;
    const id = reader.number();
    // A name, where there is one, says more.
    event.lora ??= `#${id}`;
  },
  loraName: (reader, _, event) => {
    // SGLang may put a map here in place of a name.
    if (!reader.isText()) reader.skip();
    else event.lora = reader.text(MAX_TEXT) || event.lora;
  },
  medium: readMedium,
  extraKeys: readExtras,
  group: (reader, _, event) => {
    if (!reader.nil()) event.group = sizeOf(reader);
  },
  groupKind: (reader, _, event) => {
    if (!reader.nil()) event.isFull = reader.text(MAX_TEXT) === "full_attention";
  },
  other: (reader) => reader.skip(),
};

export class EventDecoder {
  readonly #reader = new MsgpackReader();

  /** Reads `payload` from `from` up to `to` into `batch`: why it cannot be read, or undefined where it was. */
  decode(batch: EventBatch, payload: Uint8Array, from = 0, to = payload.length): MalformedReason | undefined {
    batch.reset();
    try {
      this.#reader.begin(payload, from, to);
      this.#batch(batch);
      if (this.#reader.at !== to) fail("shape");
      return undefined;
    } catch (error) {
      batch.reset();
      if (error instanceof Malformed) return error.reason;
      throw error;
    }
  }

  #batch(batch: EventBatch): void {
    const reader = this.#reader;
    if (reader.isMap()) {
      this.#mapBatch(batch);
      return;
    }
    const count = reader.array();
    if (count < 2) fail("shape");
    batch.time = reader.number();
    this.#events(batch);
    if (count > 2) batch.rank = reader.nil() ? undefined : reader.number();
    for (let left = count - 3; left > 0; left--) reader.skip();
  }

  #mapBatch(batch: EventBatch): void {
    const reader = this.#reader;
    let events = false;
    for (let left = reader.map(); left > 0; left--) {
      const name = reader.text(MAX_TEXT);
      if (name === "ts") batch.time = reader.number();
      else if (name === "events") events = this.#events(batch);
      else if (name === "data_parallel_rank" && !reader.nil()) batch.rank = reader.number();
      else if (name !== "data_parallel_rank") reader.skip();
    }
    if (!events) fail("shape");
  }

  #events(batch: EventBatch): true {
    const count = this.#reader.array();
    if (count > MAX_EVENTS) fail("tooLarge");
    for (let left = count; left > 0; left--)
      if (this.#reader.isMap()) this.#mapEvent(batch);
      else this.#arrayEvent(batch);
    return true;
  }

  #arrayEvent(batch: EventBatch): void {
    const reader = this.#reader;
    const count = reader.array();
    if (count < 1) fail("shape");
    const kind = tagOf(reader);
    if (kind === undefined) {
      batch.unknown += 1;
      for (let left = count - 1; left > 0; left--) reader.skip();
      return;
    }
    const event = batch.next();
    event.kind = kind;
    const fields = kind === "stored" ? STORED : kind === "removed" ? REMOVED : [];
    for (let at = 0; at < count - 1; at++) READ[fields[at] ?? "other"](reader, batch, event);
    check(event);
  }

  /** The kind may stand anywhere in it: fields mean the same in every kind. */
  #mapEvent(batch: EventBatch): void {
    const reader = this.#reader;
    const event = batch.next();
    let kind: BlockEvent["kind"] | undefined;
    for (let left = reader.map(); left > 0; left--) {
      const field = fieldOf(reader);
      if (field === "type") kind = tagOf(reader);
      else READ[field](reader, batch, event);
    }
    if (kind === undefined) {
      batch.unknown += 1;
      batch.count -= 1;
      return;
    }
    event.kind = kind;
    check(event);
  }
}

/** Without a hash a block cannot be spoken of. */
function check(event: BlockEvent): void {
  if (event.kind === "stored" && event.tokenCount > 0 && event.blockSize === 0) fail("shape");
}

function sizeOf(reader: MsgpackReader): number {
  const value = reader.number();
  if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) fail("shape");
  return value;
}

function readHashes(reader: MsgpackReader, batch: EventBatch, event: BlockEvent): void {
  const count = reader.array();
  if (batch.hashCount + count > MAX_HASHES) fail("tooLarge");
  batch.reserveHashes(count);
  reader.hashes(batch.hashes, 2 * batch.hashCount, count);
  event.hashAt = batch.hashCount;
  event.hashCount = count;
  batch.hashCount += count;
}

/** Ids, or of models that speculate with EAGLE pairs of a token and the one behind it, of which the first are the tokens. */
function readTokens(reader: MsgpackReader, batch: EventBatch, event: BlockEvent): void {
  const count = Math.max(0, reader.arrayOrNil());
  if (batch.tokenCount + count > MAX_TOKENS) fail("tooLarge");
  batch.reserveTokens(count);
  const { tokens, tokenCount: from } = batch;
  if (count > 0 && reader.isArray()) for (let at = from; at < from + count; at++) tokens[at] = firstOf(reader);
  else reader.tokens(tokens, from, count);
  event.tokenAt = batch.tokenCount;
  event.tokenCount = count;
  batch.tokenCount += count;
}

function firstOf(reader: MsgpackReader): number {
  const count = reader.array();
  if (count < 1) fail("shape");
  const first = reader.token();
  for (let left = count - 1; left > 0; left--) reader.skip();
  return first;
}

/** Media as engines write them, in any case. What is not known is taken for the farthest. */
function readMedium(reader: MsgpackReader, _: EventBatch, event: BlockEvent): void {
  if (reader.nil()) return;
  const text = reader.text(MAX_TEXT);
  const medium = text.toLowerCase();
  // The pool of vLLM-Ascend writes lower case, and never says what it removes.
  event.pooled = text === "cpu";
  if (medium === "gpu" || medium === "npu" || medium === "") event.tier = TIER.device;
  else event.tier = medium.startsWith("cpu") && !event.pooled ? TIER.host : TIER.shared;
}

/**
 * When a batch was published, by the engine's clock in seconds, off its first bytes: it says who published it, before it is
 * believed. 0 where it does not stand there.
 */
export function timeOf(payload: Uint8Array): number {
  const head = payload[0] ?? 0;
  // An array of up to 15, or a map that begins with `ts`.
  const at = head >= 0x90 && head <= 0x9f ? 1 : isTimed(payload) ? 4 : payload.length;
  if (payload[at] !== 0xcb || at + 9 > payload.length) return 0;
  return new DataView(payload.buffer, payload.byteOffset + at + 1, 8).getFloat64(0);
}

const isTimed = (bytes: Uint8Array): boolean =>
  ((bytes[0] ?? 0) & 0xf0) === 0x80 && bytes[1] === 0xa2 && bytes[2] === 0x74 && bytes[3] === 0x73;
