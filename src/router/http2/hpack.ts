/**
 * Header blocks (HPACK, RFC 7541), to be read. What is written needs no table: see `blockOf`.
 *
 * A proxy sends the same headers with every stream, as one block of indexes: the last block is remembered with the state
 * of the table, and the same block in the same state is not decoded again.
 */
import type { HeaderList } from "../headers.ts";
import { CODE, ConnectionError } from "./frames.ts";
import { decodeHuffman } from "./huffman.ts";
import type { RequestHead } from "./request-head.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** SETTINGS_HEADER_TABLE_SIZE that we leave at its default. */
const MAX_TABLE_BYTES = 4096;
/** An entry costs so much beyond its characters (section 4.1). */
const ENTRY_BYTES = 32;
/** Larger integers are an attack: no length or index of ours needs them. So is a fifth byte of one. */
const MAX_INTEGER = 2 ** 24;
const MAX_SHIFT = 21;
/** A longer block is not remembered: those of a proxy have a hundred bytes, and a connection is to stay small. */
const REMEMBERED_BYTES = 1024;

type Entry = readonly [name: string, value: string];

/** What a block says. */
export interface Decoded {
  /** Empty where they are more than is taken. */
  readonly headers: HeaderList;
  readonly tooLarge: boolean;
  /** Kept with the headers, for whoever looks at them: the same block need not be looked at twice. */
  head?: RequestHead;
}

const NOTHING = Buffer.alloc(0);

const broken = (what: string): ConnectionError => new ConnectionError(CODE.compression, `header block: ${what}`);

export class HeaderDecoder {
  readonly #maxListBytes: number;
  /** Oldest first. */
  #entries: Entry[] = [];
  #bytes = 0;
  #capacity = MAX_TABLE_BYTES;
  /** Of the table: counts its changes. */
  #version = 0;
  #last: { readonly block: Buffer; readonly version: number; readonly decoded: Decoded } | undefined;
  #block: Buffer = NOTHING;
  #at = 0;

  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  /** Throws ConnectionError: with a broken block the table is lost, and with it every block that follows. */
  decode(block: Buffer): Decoded {
    const last = this.#last;
    if (last?.version === this.#version && block.equals(last.block)) return last.decoded;
    this.#block = block;
    this.#at = 0;
    const version = this.#version;
    const decoded = this.#fields();
    this.#block = NOTHING;
    // A block that changes the table must change it each time.
    if (version === this.#version && block.length <= REMEMBERED_BYTES)
      this.#last = { block: Buffer.from(block), version, decoded };
    return decoded;
  }

  /** Reads on to the end even where it is too much: the table goes on with every block. */
  #fields(): Decoded {
    const headers: Entry[] = [];
    let bytes = 0;
    let behind = false;
    while (this.#at < this.#block.length) {
      const entry = this.#field(!behind);
      if (entry === undefined) continue;
      behind = true;
      bytes += sizeOf(entry);
      if (bytes <= this.#maxListBytes) headers.push(entry);
    }
    const tooLarge = bytes > this.#maxListBytes;
    return { headers: tooLarge ? [] : headers, tooLarge };
  }

  /** One representation (section 6); undefined: a change of the table's size. */
  #field(first: boolean): Entry | undefined {
    const byte = this.#block[this.#at] ?? 0;
    if (byte >= 0x80) return this.#entry(this.#integer(0x7f));
    if (byte >= 0x40) return this.#add(this.#literal(0x3f));
    if (byte < 0x20) return this.#literal(0x0f);
    if (!first) throw broken("a change of the table's size behind a header");
    this.#resize(this.#integer(0x1f));
    return undefined;
  }

  #literal(mask: number): Entry {
    const index = this.#integer(mask);
    const name = index === 0 ? this.#text() : this.#entry(index)[0];
    return [name, this.#text()];
  }

  #entry(index: number): Entry {
    const entry = STATIC_TABLE[index - 1] ?? this.#entries[this.#entries.length - (index - STATIC_TABLE.length)];
    if (entry === undefined) throw broken(`index ${index}`);
    return entry;
  }

  #add(entry: Entry): Entry {
    this.#version += 1;
    this.#bytes += sizeOf(entry);
    this.#entries.push(entry);
    this.#evict();
    return entry;
  }

  #resize(capacity: number): void {
    if (capacity > MAX_TABLE_BYTES) throw broken(`a table of ${capacity} bytes`);
    this.#version += 1;
    this.#capacity = capacity;
    this.#evict();
  }

  #evict(): void {
    let gone = 0;
    while (this.#bytes > this.#capacity) this.#bytes -= sizeOf(this.#entries[gone++] ?? ["", ""]);
    if (gone > 0) this.#entries = this.#entries.slice(gone);
  }

  /** Section 5.1. */
  #integer(mask: number): number {
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (value > MAX_INTEGER || shift > MAX_SHIFT) throw broken("an integer too large");
      if (byte < 0x80) return value;
    }
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw broken("cut short");
    return byte;
  }

  /** Section 5.2. */
  #text(): string {
    const isCoded = (this.#block[this.#at] ?? 0) >= 0x80;
    const length = this.#integer(0x7f);
    const bytes = this.#block.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw broken("cut short");
    this.#at += length;
    const text = isCoded ? decodeHuffman(bytes) : bytes.toString("latin1");
    if (text === undefined) throw broken("Huffman code");
    return text;
  }
}

const sizeOf = ([name, value]: Entry): number => name.length + value.length + ENTRY_BYTES;

/** A block of literals that no table takes in: it is the same bytes whenever it is sent. */
export function blockOf(headers: HeaderList): Buffer {
  const parts = headers.flatMap(([name, value]) => {
    const index = STATIC_TABLE.findIndex((entry) => entry[0] === name && entry[1] === value);
    return index >= 0 ? [Buffer.of(0x80 | (index + 1))] : [Buffer.of(0), text(name), text(value)];
  });
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const length: number[] = [];
  if (bytes.length < 0x7f) length.push(bytes.length);
  else {
    let rest = bytes.length - 0x7f;
    length.push(0x7f);
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) length.push((rest % 0x80) | 0x80);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}
