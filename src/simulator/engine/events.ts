/**
 * KV events of a simulated engine: what its cache tells, as batches in the form that vLLM and SGLang publish.
 *
 * Pure: collects, encodes, keeps the last batches for those who ask again. The sockets are `publisher.ts`'s. A block's key is
 * 53 bits and the same in every engine; the hash that is told of it is seeded, as vLLM's are by default, so that nobody can
 * learn to rely on it. Formats: vLLM vllm/distributed/kv_events.py, SGLang disaggregation/kv_events.py.
 */
import { Packr } from "msgpackr";
import type { Cancel } from "../../ports.ts";
import type { BlockListener } from "./blocks.ts";

/** vLLM up to 0.23 and from 0.24 on, and SGLang. */
export type EventFormat = "vllm-array" | "vllm-map" | "sglang";

/** What the blocks of a sequence hold. */
interface Content {
  readonly keys: readonly number[];
  readonly tokens: readonly number[];
  readonly salt: string;
}

interface Stored {
  readonly kind: "stored";
  readonly content: Content;
  readonly from: number;
  to: number;
}

type Happened = Stored | { readonly kind: "removed"; readonly keys: number[] } | { readonly kind: "cleared" };

export interface EventMessage {
  readonly sequence: number;
  readonly payload: Buffer;
}

export interface EventLogOptions {
  readonly format: EventFormat;
  readonly blockSize: number;
  /** Batches that are kept; vLLM's default is 10,000. */
  readonly keeps: number;
  /** Of this incarnation. */
  readonly seed: bigint;
}

const WORD = 64;
/** Odd, so that different keys have different hashes. */
const FACTOR = 0x9e3779b97f4a7c15n;

const packr = new Packr({ useRecords: false, int64AsType: "bigint" });

export class EventLog implements BlockListener {
  readonly #options: EventLogOptions;
  readonly #contents = new Map<number, { readonly content: Content; readonly at: number }>();
  #pending: Happened[] = [];
  #kept: EventMessage[] = [];
  #next = 0;
  /** Called when the first event of a batch has come. */
  begun: () => void = () => undefined;

  constructor(options: EventLogOptions) {
    this.#options = options;
  }

  /** Sequences with these blocks may come to be stored, until the result is called. */
  expect(keys: readonly number[], tokens: readonly number[], salt: string): Cancel {
    const content = { keys, tokens, salt };
    keys.forEach((key, at) => this.#contents.set(key, { content, at }));
    return () => {
      for (const key of keys) if (this.#contents.get(key)?.content === content) this.#contents.delete(key);
    };
  }

  stored(key: number): void {
    const known = this.#contents.get(key);
    if (known === undefined) return;
    const { content, at } = known;
    const last = this.#pending.at(-1);
    // Blocks of one sequence behind one another are one event, but for SGLang, which has one for each page.
    const joins = last?.kind === "stored" && last.content === content && last.to === at;
    if (joins && this.#options.format !== "sglang") last.to = at + 1;
    else this.#add({ kind: "stored", content, from: at, to: at + 1 });
  }

  removed(key: number): void {
    const last = this.#pending.at(-1);
    if (last?.kind === "removed") last.keys.push(key);
    else this.#add({ kind: "removed", keys: [key] });
  }

  cleared(): void {
    this.#add({ kind: "cleared" });
  }

  /** What happened since the last call as a message; undefined where nothing did. A whole second is told as one not quite. */
  take(time: number): EventMessage | undefined {
    if (this.#pending.length === 0) return undefined;
    const events = this.#pending.map((one) => this.#encoded(one));
    this.#pending = [];
    const message = {
      sequence: this.#next++,
      payload: packr.pack([Number.isInteger(time) ? time + 0.0001 : time, events, 0]),
    };
    this.#kept.push(message);
    // Cut in pieces: each cut copies what is left.
    if (this.#kept.length > 1.25 * this.#options.keeps) this.#kept = this.#kept.slice(-this.#options.keeps);
    return message;
  }

  /** Messages from this number on, as far as they are kept. */
  since(sequence: number): readonly EventMessage[] {
    return this.#kept.slice(-this.#options.keeps).filter((message) => message.sequence >= sequence);
  }

  #add(happened: Happened): void {
    this.#pending.push(happened);
    if (this.#pending.length === 1) this.begun();
  }

  #hash(key: number): bigint {
    const hash = BigInt.asUintN(WORD, (BigInt(key) + this.#options.seed) * FACTOR);
    return this.#options.format === "sglang" ? BigInt.asIntN(WORD, hash) : hash;
  }

  #encoded(happened: Happened): unknown {
    const { format } = this.#options;
    if (happened.kind === "cleared") return format === "vllm-map" ? { type: "AllBlocksCleared" } : ["AllBlocksCleared"];
    if (happened.kind === "stored") return this.#storedEvent(happened);
    const hashes = happened.keys.map((key) => this.#hash(key));
    if (format === "vllm-map") return { type: "BlockRemoved", block_hashes: hashes, medium: "GPU" };
    return ["BlockRemoved", hashes, "GPU"];
  }

  #storedEvent({ content, from, to }: Stored): unknown {
    const { format, blockSize } = this.#options;
    const hashes = content.keys.slice(from, to).map((key) => this.#hash(key));
    const before = content.keys[from - 1];
    const parent = before === undefined ? null : this.#hash(before);
    const tokens = content.tokens.slice(from * blockSize, to * blockSize);
    const extra = this.#extra(content, from, to);
    if (format === "sglang") return ["BlockStored", hashes, parent, tokens, blockSize, null, "GPU"];
    if (format === "vllm-array")
      return ["BlockStored", hashes, parent, tokens, blockSize, null, "GPU", null, ...(extra === null ? [] : [extra])];
    const fields = { block_hashes: hashes, parent_block_hash: parent, token_ids: tokens, block_size: blockSize };
    const rest = { lora_id: null, medium: "GPU", lora_name: null, extra_keys: extra };
    return { type: "BlockStored", ...fields, ...rest, group_idx: 0, kv_cache_spec_kind: "full_attention" };
  }

  /** The salt stands with the first block of a prompt alone. */
  #extra({ salt }: Content, from: number, to: number): unknown {
    if (salt === "" || from > 0) return null;
    return Array.from({ length: to - from }, (_, at) => (at === 0 ? [salt] : null));
  }
}
