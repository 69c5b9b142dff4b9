/**
 * Header blocks (HPACK, RFC 7541), to be read. What is written needs no table: see `blockOf`.
 *
 * A proxy sends the same headers with every stream, as one block of indexes: the last block is remembered with the state
 * of the table, and the same block in the same state is not decoded again.
 */
import type { HeaderList } from "../headers.ts";
import { CODE, ConnectionError } from "./frames.ts";
import { decodeHuffman } from "./huffman.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** SETTINGS_HEADER_TABLE_SIZE that we leave at its default. */
const MAX_TABLE_BYTES = 4096;
/** An entry costs so much beyond its characters (section 4.1). */
const ENTRY_BYTES = 32;
/** Larger integers are an attack: no length or index of ours needs them. */
const MAX_INTEGER = 2 ** 24;

type Entry = readonly [name: string, value: string];

const broken = (what: string): ConnectionError => new ConnectionError(CODE.compression, `header block: ${what}`);

export class HeaderDecoder {
  readonly #maxListBytes: number;
  /** Oldest first. */
  #entries: Entry[] = [];
  #bytes = 0;
  #capacity = MAX_TABLE_BYTES;
  /** Of the table: counts its changes. */
  #version = 0;
  #last: { readonly block: Buffer; readonly version: number; readonly headers: HeaderList } | undefined;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  /** Throws ConnectionError: with a broken block the table is lost, and with it every block that follows. */
  decode(block: Buffer): HeaderList {
    const last = this.#last;
    if (last?.version === this.#version && block.equals(last.block)) return last.headers;
    this.#block = block;
    this.#at = 0;
    const headers = this.#fields();
    this.#last = { block: Buffer.from(block), version: this.#version, headers };
    this.#block = Buffer.alloc(0);
    return headers;
  }

  #fields(): HeaderList {
    const headers: Entry[] = [];
    let bytes = 0;
    while (this.#at < this.#block.length) {
      const entry = this.#field(headers.length === 0);
      if (entry === undefined) continue;
      bytes += sizeOf(entry);
      if (bytes > this.#maxListBytes) throw new ConnectionError(CODE.calm, "header list too large");
      headers.push(entry);
    }
    return headers;
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
      if (value > MAX_INTEGER) throw broken("an integer too large");
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
